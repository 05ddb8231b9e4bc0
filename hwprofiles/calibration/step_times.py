"""How long a training step of the torch model takes on this GPU, and its parts: a slice of DeepSeek-V3 in each recipe,
and in FP8 by blocks with this project's kernels.

    python -m hwprofiles.calibration.step_times -o FILE.json

The slice has the widths of DeepSeek-V3 (report 4.2), one dense layer, one with experts and one MTP module, fewer experts and a
smaller vocabulary: what one GPU holds with its optimizer. As many rows reach the experts as there (8 a token). Medians of CUDA
events behind a warm-up, one micro-batch a step; `compared` says how far the recipes' losses and gradients are from BF16's.
"""

# ruff: noqa: E402
from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch(__name__)

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from hwprofiles.calibration.command import Parser, check_output, guarded, write_json
from hwprofiles.calibration.kernels.products import reason_against as reason_against_own
from hwprofiles.calibration.measuring import Clock, device_facts, middle
from hwprofiles.calibration.model.config import Ffn, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.optimizer import AdamW, Settings
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import Gemms, numerics

RECIPES: Final = ("bf16", "fp8-blockwise", "fp8-row")
OWN: Final = "fp8-blockwise"
"""The recipe that is timed by this project's kernels, too, where the GPU has them."""
SEQ: Final = 4096
WARM_UP: Final = 5
STEPS: Final = 20

_MLA: Final = Mla(128, 1536, 512, 128, 64, 128)
_MOE: Final = Moe(
    num_experts=16, top_k=8, expert=Ffn(2048), num_shared=1, num_groups=8, max_groups=4, score="sigmoid", has_bias=True,
    weight_scale=2.5,
)  # fmt: skip
SLICE: Final = ModelConfig(
    "slice of DeepSeek-V3",
    hidden_size=7168,
    vocab_size=16_384,
    layers=(Layer(_MLA, Ffn(18_432)), Layer(_MLA, _MOE)),
    num_mtp=1,
)
SMALL: Final = ModelConfig(
    "rehearsal", hidden_size=128, vocab_size=256, num_mtp=1,
    layers=(
        Layer(Mla(4, 64, 32, 16, 8, 16), Ffn(256)),
        Layer(Mla(4, 64, 32, 16, 8, 16), Moe(8, 2, Ffn(128), 1, 4, 2, score="sigmoid", has_bias=True)),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one call, median and the ends of the middle 80 %."""

    median_s: float
    low_s: float
    high_s: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timed:
        """Of several calls."""
        return cls(*middle(seconds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the JSON file. Exit code: 0, 2 for input or a device that cannot be."""
    return guarded("step_times", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.step_times",
        description="Times a training step of a slice of DeepSeek-V3 and its parts.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--small", action="store_true", help="a small model: a rehearsal without a GPU")
    given = parser.parse_args(arguments)
    if not (given.small or torch.cuda.is_available()):
        parser.error("needs a CUDA GPU; --small rehearses without one")
    check_output(given.out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, seq, calls = (SMALL, 64, 2) if given.small else (SLICE, SEQ, STEPS)
    result: dict[str, Any] = {
        "device": device_facts(0) if device.type == "cuda" else {"gpu": "", "torch": torch.__version__},
        "model": config.name, "tokens": seq, "num_calls": calls, "rows": [], "compared": [],
    }  # fmt: skip
    reference: dict[str, Tensor] = {}
    ways: list[tuple[str, Gemms]] = [(recipe, "auto") for recipe in RECIPES]
    for recipe, gemms in ways if reason_against_own(device) else [*ways, (OWN, "own")]:
        measured, gradients = measure(recipe, config, seq, device, calls, gemms)
        result["rows"] += [{**row, "gemms": gemms} for row in measured]
        reference = reference or gradients
        result["compared"].append({"recipe": recipe, "gemms": gemms, **_distance(gradients, reference)})
    write_json(given.out, result)
    return 0


def measure(
    recipe: str, config: ModelConfig, seq: int, device: torch.device, calls: int, gemms: Gemms = "auto"
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """(rows of the step and its parts, loss and sampled gradients of the first step) of one recipe."""
    model = Model(config, numerics(recipe, device, gemms), device=device)
    optimizer = AdamW(model.parameters(), Settings(moment_dtype=torch.bfloat16))
    generator = torch.Generator().manual_seed(11)
    shape = (1, seq + 1 + config.num_mtp)
    tokens = torch.randint(config.vocab_size, shape, generator=generator).to(device)
    loss = model(tokens).total()
    loss.backward()
    seen = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    gradients = {"loss": loss.detach().float().cpu()}
    gradients |= {name: grad.flatten()[:: max(1, grad.numel() // 10_000)].float().cpu() for name, grad in seen.items()}
    rows = [_row(recipe, "step", **_time_step(model, optimizer, tokens, calls, device))]
    x = torch.randn((1, seq, config.hidden_size), generator=generator).to(device)
    for name, part in _parts(model):
        rows.append(_row(recipe, name, **_time_part(part, x.to(model.numerics.dtype), calls, device)))
    return rows, gradients


def _parts(model: Model) -> Iterator[tuple[str, nn.Module]]:
    dense, moe = model.layers[0], model.layers[1]
    yield from (
        ("attention", dense.attention), ("dense_ffn", dense.ffn), ("moe_ffn", moe.ffn), ("moe_layer", moe),
        ("norm", dense.ffn_norm),
    )  # fmt: skip


def _time_step(
    model: Model, optimizer: AdamW, tokens: Tensor, calls: int, device: torch.device
) -> dict[str, Timed | int]:
    clock, moments = Clock(device), []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP + calls):
        begin = clock.mark()
        loss = model(tokens).total()
        forward = clock.mark()
        loss.backward()
        backward = clock.mark()
        optimizer.step()
        optimizer.zero_grad()
        moments.append((begin, forward, backward, clock.mark()))
    spans = [[clock.between(a, b) for a, b in pairwise(each)] for each in moments[WARM_UP:]]
    forward_s, backward_s, optimizer_s = ([span[place] for span in spans] for place in range(3))
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {
        "forward": Timed.of(forward_s), "backward": Timed.of(backward_s), "optimizer": Timed.of(optimizer_s),
        "peak_bytes": peak,
    }  # fmt: skip


def _time_part(part: nn.Module, x: Tensor, calls: int, device: torch.device) -> dict[str, Timed | int]:
    clock = Clock(device)
    x = x.requires_grad_()
    grad = torch.randn_like(x)
    parameters = [parameter for parameter in part.parameters() if parameter.requires_grad]

    def both() -> tuple[Any, Any, Any]:
        begin = clock.mark()
        out = part(x)
        forward = clock.mark()
        torch.autograd.grad(out, (x, *parameters), grad, allow_unused=True)
        return begin, forward, clock.mark()

    moments = [both() for _ in range(WARM_UP + calls)][WARM_UP:]
    return {
        "forward": Timed.of([clock.between(begin, forward) for begin, forward, _ in moments]),
        "backward": Timed.of([clock.between(forward, end) for _, forward, end in moments]),
    }


def _row(recipe: str, part: str, **found: Timed | int) -> dict[str, Any]:
    row: dict[str, Any] = {"recipe": recipe, "part": part}
    for name, value in found.items():
        if isinstance(value, Timed):
            row |= {f"{name}_s": value.median_s, f"{name}_low_s": value.low_s, f"{name}_high_s": value.high_s}
        else:
            row[name] = value
    return row


def _distance(found: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """Relative distance of the loss, and of all sampled gradients together, from the reference's."""
    of_loss = float(abs(found["loss"] - reference["loss"]) / abs(reference["loss"]))
    names = [name for name in reference if name != "loss"]
    difference = sum(float((found[name] - reference[name]).square().sum()) for name in names)
    size = sum(float(reference[name].square().sum()) for name in names)
    return {"loss": float(found["loss"]), "loss_rel": of_loss, "gradient_rel": (difference / size) ** 0.5}


if __name__ == "__main__":
    sys.exit(main())
