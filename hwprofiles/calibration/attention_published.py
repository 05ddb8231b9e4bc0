"""Published rates of attention cores that no table of the reference folder has: bar labels of figures, outputs of benchmarks.

Each line: GPU, library, direction, head size, causal, source, and (batch, tokens, heads, TFLOP/s) of its calls. The rates count
half of the square under a causal mask, and two and a half times the forward's FLOP backward, as their sources do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from hwprofiles.calibration.attention_amd import AMD_LINES, Line
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.units import TERA

FIGURES: Final = "arXiv:2407.08608, bar labels of figures 5 and 6 as transcribed (16-bit, H100 SXM5)"
README: Final = "github.com/liangan1/GPU_travel performance/flash-attn/README.md (FlashAttention-2 on A100)"
ISSUE: Final = "github.com/Dao-AILab/flash-attention#1589 (flash_attn 2.7.4 on B200)"
BENCH: Final = "github.com/meta-pytorch/tritonbench#171 (FlashAttention-2 on B200)"
PULL: Final = "github.com/Dao-AILab/flash-attention#1791 (H100)"

VALUES: Final = {192: 128}
"""Head size of queries and keys → of values, where it is another (latent attention)."""


class PublishedCall(NamedTuple):
    """One call with its rate."""

    gpu: str
    library: str
    source: str
    shape: KernelShape
    seconds: float


def _bars(head_dim: int, *rates: float) -> tuple[tuple[int, int, int, float], ...]:
    """The figures' calls: 16,384 tokens in sequences of 512 to 16,384, a hidden size of 2,048."""
    return tuple((32 >> i, 512 << i, 2048 // head_dim, rate) for i, rate in enumerate(rates))


LINES: Final[tuple[Line, ...]] = (
    ("h100", "fa2", "fwd", 64, False, FIGURES, _bars(64, 282, 306, 318, 321, 322, 324)),
    ("h100", "fa2", "fwd", 64, True, FIGURES, _bars(64, 180, 229, 262, 284, 295, 299)),
    ("h100", "fa2", "fwd", 128, False, FIGURES, _bars(128, 309, 350, 362, 368, 370, 370)),
    ("h100", "fa2", "fwd", 128, True, FIGURES, _bars(128, 191, 260, 298, 319, 333, 335)),
    ("h100", "fa2", "fwd", 256, False, FIGURES, _bars(256, 275, 313, 321, 323, 324, 326)),
    ("h100", "fa2", "fwd", 256, True, FIGURES, _bars(256, 208, 251, 278, 293, 297, 298)),
    ("h100", "fa2", "bwd", 64, False, FIGURES, _bars(64, 198, 238, 264, 279, 287, 291)),
    ("h100", "fa2", "bwd", 128, False, FIGURES, _bars(128, 214, 260, 291, 310, 318, 322)),
    ("h100", "fa3", "fwd", 64, False, FIGURES, _bars(64, 333, 392, 460, 476, 496, 497)),
    ("h100", "fa3", "fwd", 64, True, FIGURES, _bars(64, 197, 265, 371, 420, 460, 473)),
    ("h100", "fa3", "fwd", 128, False, FIGURES, _bars(128, 467, 565, 625, 638, 646, 648)),
    ("h100", "fa3", "fwd", 128, True, FIGURES, _bars(128, 292, 423, 521, 579, 602, 616)),
    ("h100", "fa3", "fwd", 256, False, FIGURES, _bars(256, 482, 639, 707, 736, 746, 756)),
    ("h100", "fa3", "fwd", 256, True, FIGURES, _bars(256, 286, 427, 537, 612, 628, 642)),
    ("h100", "fa3", "bwd", 64, False, FIGURES, _bars(64, 272, 363, 422, 453, 472, 474)),
    ("h100", "fa3", "bwd", 128, False, FIGURES, _bars(128, 316, 424, 501, 542, 559, 561)),
    ("h100", "cudnn-2024", "fwd", 64, False, FIGURES, _bars(64, 335, 373, 395, 408, 412, 413)),
    ("h100", "cudnn-2024", "fwd", 64, True, FIGURES, _bars(64, 225, 288, 334, 363, 379, 388)),
    ("h100", "cudnn-2024", "fwd", 128, False, FIGURES, _bars(128, 497, 574, 617, 609, 600, 595)),
    ("h100", "cudnn-2024", "fwd", 128, True, FIGURES, _bars(128, 315, 410, 484, 518, 529, 539)),
    ("h100", "cudnn-2024", "fwd", 256, False, FIGURES, _bars(256, 470, 546, 580, 581, 580, 581)),
    ("h100", "cudnn-2024", "fwd", 256, True, FIGURES, _bars(256, 308, 391, 450, 483, 497, 509)),
    ("h100", "cudnn-2024", "bwd", 64, False, FIGURES, _bars(64, 266, 348, 395, 417, 432, 433)),
    ("h100", "cudnn-2024", "bwd", 128, False, FIGURES, _bars(128, 305, 408, 465, 499, 518, 516)),
    ("h100", "fa2", "bwd", 128, True, PULL, ((2, 8192, 16, 287.1),)),
    ("h100", "fa2", "bwd", 128, False, PULL, ((2, 8192, 16, 290.6),)),
    ("h100", "fa3", "bwd", 128, True, PULL, ((2, 8192, 16, 531.6),)),
    ("h100", "fa3", "bwd", 128, False, PULL, ((2, 8192, 16, 553.9),)),
    ("b200", "fa2", "fwd", 64, False, ISSUE, _bars(64, 308.4, 359.3, 380.99, 306.94, 343.07, 379.44)),
    ("b200", "fa2", "bwd", 64, False, ISSUE, _bars(64, 243.05, 280.64, 301.61, 314.71, 329.09, 333.95)),
    ("b200", "fa2", "fwd", 128, False, BENCH, (
        (8, 1024, 16, 315.111), (8, 2048, 16, 352.104), (8, 4096, 16, 353.912), (8, 8192, 16, 361.591),
        (8, 16_384, 16, 330.587),
    )),
    ("a100", "fa2", "fwd", 128, False, README, ((16, 1024, 32, 177.67), (1, 4096, 32, 185.64))),
    ("a100", "fa2", "fwd", 128, True, README, ((16, 1024, 32, 143.70), (1, 4096, 32, 156.27))),
)  # fmt: skip


def published_calls() -> Iterator[PublishedCall]:
    """Every call of the lines."""
    for gpu, library, direction, head_dim, causal, source, calls in (*LINES, *AMD_LINES):
        for batch, seq, heads, rate in calls:
            shape = KernelShape(
                op=f"attention_{direction}", batch=batch, seq=seq, heads=heads, kv_heads=heads, head_dim_qk=head_dim,
                head_dim_v=VALUES.get(head_dim, head_dim), causal=causal, library=library,
            )  # fmt: skip
            yield PublishedCall(gpu, library, source, shape, shape.attention_flop / (rate * TERA))
