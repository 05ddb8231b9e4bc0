"""The libraries that run an attention core: which GPUs they are written for, what they pad, how they cut the work.

A library is one entry here. `kernels.attention` of a scenario names it, and its rates stand in a stack under
`attention.<dtype>.<fwd|bwd>.<library>.<constant>` (stacks/transfer/attention.yaml).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class AttentionLibrary:
    """One library, of one age.

    label: in words; since: its first release for training; families: GPU families whose tensor cores it is written for, with
    the rows of a block on each (a block is one SM's work: queries forward, keys backward). key_block: keys of a step
    inside a block. max_head_dim: the largest head that it takes; rounds_to: head sizes are computed as the next of these.
    pads_v: it takes one head size, so that narrower values are padded to the queries' size, moved and kept so.
    writes_scores: GEMMs with a softmax between them: the scores of all pairs, masked ones too, go through memory.
    keeps_documents: it takes sequences packed from documents and computes the pairs inside each alone (FlashAttention of all
    ages by flash_attn_varlen_func, before 2.0 flash_attn_unpadded_func; cuDNN by ragged tensors). source: where this was read.
    """

    label: str
    since: str
    families: Mapping[str, tuple[int, int]]
    key_block: int
    max_head_dim: int
    rounds_to: tuple[int, ...]
    pads_v: bool
    source: str
    writes_scores: bool = False
    keeps_documents: bool = True

    def computed_as(self, head_dim: int) -> int:
        """The head size that its kernels compute; a size above all of them stays as it is."""
        return next((size for size in self.rounds_to if size >= head_dim), head_dim)


_FLASH = "github.com/Dao-AILab/flash-attention"
_FA1 = (
    "arXiv:2307.08691, abstract: 25 to 40 % of an A100's peak, half of FlashAttention-2; heads of up to 128. Its Triton form "
    "(flash-attn 1.0.3) is what mosaicml/llm-foundry's benchmarks of 2023 call triton"
)
_UNFUSED = (
    "NVIDIA/Megatron-LM 230633f (2021) and 55ba1f7 (2022) megatron/model/transformer.py: baddbmm, fused scale, mask and "
    "softmax, dropout, bmm; NVIDIA/TransformerEngine v2.3 pytorch/attention/dot_product_attention/backends.py, "
    "UnfusedDotProductAttention: the same"
)
_FA2 = (
    f"{_FLASH} README.md and csrc/flash_attn: Ampere's instructions, which newer GPUs run too; one head size up to 256"
)
_FA3 = f"{_FLASH} README.md: H100 / H800; FP16 and BF16 forward and backward, FP8 forward; arXiv:2407.08608"
_OLD = (
    "arXiv:2407.08608 figures 5 and 6; no kernels for heads above 128 on Blackwell then: "
    "github.com/NVIDIA/TransformerEngine#1504"
)
_NEW = (
    "hwprofiles/measurements/h100-kernel-rates-2026-11-27.csv: heads of 96 take as long as of 128; "
    "github.com/NVIDIA/cudnn-frontend benchmark/sdpa_benchmark_training/results (3929da2): BF16, FP8; heads of 64 to 256"
)

_AITER = (
    "github.com/ROCm/aiter op_tests/cpp/mha/README.md and hsa/*/fmha_v3_*/*.csv (0403bcd): assembly kernels, 256 rows a block, "
    "for heads of 128 (forward on CDNA 4 of 192 too), Composable Kernel's for other sizes"
)

LIBRARIES: Final[Mapping[str, AttentionLibrary]] = MappingProxyType({
    "unfused": AttentionLibrary(
        "GEMMs with a softmax between them", "2019-09",
        MappingProxyType(dict.fromkeys(("ampere", "hopper", "blackwell"), (128, 128))), 128, 512, (), pads_v=False,
        source=_UNFUSED, writes_scores=True, keeps_documents=False,
    ),
    "fa1": AttentionLibrary(
        "FlashAttention of 2022", "2022-05", MappingProxyType(dict.fromkeys(("ampere", "hopper"), (128, 128))), 128, 128,
        (64, 128), pads_v=True, source=_FA1,
    ),
    "fa2": AttentionLibrary(
        "FlashAttention-2", "2023-07", MappingProxyType(dict.fromkeys(("ampere", "hopper", "blackwell"), (128, 128))), 64, 256,
        (32, 64, 96, 128, 192, 256), pads_v=True, source=_FA2,
    ),
    "fa3": AttentionLibrary(
        "FlashAttention-3", "2024-07", MappingProxyType({"hopper": (128, 128)}), 128, 256, (64, 96, 128, 192, 256),
        pads_v=False, source=_FA3,
    ),
    "cudnn-2024": AttentionLibrary(
        "cuDNN 9.1 to 9.5", "2024-05", MappingProxyType({"hopper": (128, 128)}), 128, 256, (64, 128, 192, 256), pads_v=False,
        source=_OLD,
    ),
    "cudnn": AttentionLibrary(
        "cuDNN 9.10 and newer", "2025-06", MappingProxyType({"hopper": (128, 128), "blackwell": (256, 128)}),
        128, 256, (64, 128, 192, 256), pads_v=False, source=_NEW,
    ),
    "aiter": AttentionLibrary(
        "AITER", "2025-03", MappingProxyType(dict.fromkeys(("cdna3", "cdna4"), (256, 256))), 64, 256, (64, 128, 192, 256),
        pads_v=False, source=_AITER,
    ),
})  # fmt: skip
"""Name of `kernels.attention` → library. Two ages of one library are two entries."""

NEWEST: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "ampere": ("fa2",),
    "hopper": ("cudnn", "fa3", "cudnn-2024", "fa2"),
    "blackwell": ("cudnn", "fa2"),
    "cdna3": ("aiter",),
    "cdna4": ("aiter",),
})  # fmt: skip
"""GPU family → the libraries that serve where a scenario names none, the newest that was measured first: Transformer Engine
prefers cuDNN from Hopper on, FlashAttention before."""

GENERIC_BLOCK: Final = 128
"""Rows of a block of a library that this table does not know (a stack's own), and of a family that is not listed."""


def serving(family: str) -> tuple[str, ...]:
    """The libraries that serve a GPU family, best first; one that is not listed is served as the newest is."""
    return NEWEST.get(family, NEWEST["hopper"])


def block_rows(library: str, family: str, direction: str) -> int:
    """Rows of one SM's block; direction: "fwd" or "bwd"."""
    known = LIBRARIES.get(library)
    rows = known.families.get(family) if known else None
    return GENERIC_BLOCK if rows is None else rows[direction == "bwd"]


def key_block(library: str) -> int:
    """Keys of a step inside a block."""
    known = LIBRARIES.get(library)
    return known.key_block if known else GENERIC_BLOCK


def writes_scores(library: str) -> bool:
    """Whether the scores of all pairs go through memory."""
    known = LIBRARIES.get(library)
    return known is not None and known.writes_scores


def padded_v(library: str, head_dim_qk: int, head_dim_v: int) -> int:
    """Head size of the values as the library's kernel gets them."""
    known = LIBRARIES.get(library)
    return max(head_dim_qk, head_dim_v) if known and known.pads_v else head_dim_v
