"""Are a device's FP8 products right, and how long do they take? `python -m hwprofiles.calibration.numerics.check -o FILE.json`

Compares the library's products, and on a GPU this project's own, with the emulated ones, and kernels that quantise in one pass
with torch (comparing). Times linear layers and experts of DeepSeek-V3's sizes in BF16 and both FP8 recipes, forward and
backward, and the parts of the block-wise one, by the library and by the own kernels. Weights are quantised before the timing
starts, as they are once a step; that takes `weight`. On a device without FP8 products all is emulated, and says so. Exit code
1 where a product differs.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.command import Parser, check_output, guarded, write_json
from hwprofiles.calibration.kernels.products import reason_against as reason_against_own
from hwprofiles.calibration.measuring import Clock, device_facts
from hwprofiles.calibration.numerics import comparing
from hwprofiles.calibration.numerics.blockwise_library import reason_against_kernels
from hwprofiles.calibration.numerics.comparing import Shape
from hwprofiles.calibration.numerics.device import cpu_or_gpu
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.library import probe_block_wise, probe_row_wise, reason_against
from hwprofiles.calibration.numerics.recipes import Gemms, numerics

FP8_RECIPES: Final = {"fp8-blockwise": probe_block_wise, "fp8-row": probe_row_wise}
TIMED: Final = ("bf16", *FP8_RECIPES)
OWN: Final = "fp8-blockwise"
"""The recipe of which this project has kernels."""
WARM_UP, REPETITIONS = 5, 20
COUNTS: Final = (4096, 3801, 4575, 5120, 2950, 4230, 3600, 4496)
"""Rows of 8 local experts: 4,096 tokens of 8 experts each, as a balanced group of GPUs sends a GPU; not equal."""
LAYERS: Final = {
    "q_down": Shape((4096,), 1536, 7168), "q_up": Shape((4096,), 24576, 1536), "kv_up": Shape((4096,), 32768, 512),
    "out": Shape((4096,), 7168, 16384), "shared_up": Shape((4096,), 4096, 7168), "shared_down": Shape((4096,), 7168, 2048),
    "experts_up": Shape(COUNTS, 4096, 7168), "experts_down": Shape(COUNTS, 7168, 2048),
}  # fmt: skip
"""Linear layers of DeepSeek-V3 (report 4.2); gate and up projection are one."""
SMALL_LAYERS: Final = {"dense": Shape((48,), 128, 160), "experts": Shape((20, 0, 13), 128, 128)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the JSON file. Exit code: 0, 1 where products differ, 2 for input or a device that cannot be."""
    return guarded("check", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.numerics.check", description="Compares and times FP8 products."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="small shapes: a rehearsal without a GPU")
    given = parser.parse_args(arguments)
    device = cpu_or_gpu(given.device)
    check_output(given.out)
    shapes = comparing.SMALL if given.small else comparing.SHAPES
    none_because = reason_against_own(device)
    whose: tuple[Gemms, ...] = ("auto",) if none_because else ("auto", "own")
    own: list[tuple[str, Gemms]] = [(OWN, gemms) for gemms in whose[1:]]
    asked: list[tuple[str, Gemms]] = [*((recipe, "auto") for recipe in FP8_RECIPES), *own]  # type: ignore[list-item]
    rows = [row for recipe, gemms in asked for row in comparing.compare(recipe, shapes, device, gemms)]
    layers = SMALL_LAYERS if given.small else LAYERS
    result: dict[str, Any] = {
        "device": device_facts(device.index or 0) if device.type == "cuda" else {"gpu": "", "torch": torch.__version__},
        "emulated_because": {recipe: reason_against(device, probe) for recipe, probe in FP8_RECIPES.items()},
        "no_own_because": none_because,
        "several_passes_because": reason_against_kernels(device),
        "kernels": list(comparing.compare_kernels(device)),
        "farthest": comparing.FARTHEST,
        "products": rows,
        "times": list(time_layers(layers, device, [*((recipe, "auto") for recipe in TIMED), *own])),
        "parts": [row for gemms in whose for row in time_parts(layers, device, gemms)],
    }
    write_json(given.out, result)
    different = [row for row in (*result["kernels"], *rows) if not row["equal"]]
    for row in different:
        print(f"differs: {row}", file=sys.stderr)
    return 1 if different else 0


def time_layers(
    layers: dict[str, Shape], device: torch.device, timed: Sequence[tuple[str, Gemms]]
) -> Iterator[dict[str, Any]]:
    """Of each layer and recipe: forward and backward, s, with their FLOP."""
    for name, shape in layers.items():
        for recipe, gemms in timed:
            formats = numerics(recipe, device, gemms)
            rows, weights, grad = _operands(shape, device)
            rows = rows.to(formats.dtype).requires_grad_()
            weights = weights.to(formats.param_dtype).requires_grad_()
            if len(shape.counts) == 1:
                forward = partial(formats.linear, rows, weights)
            else:
                forward = partial(formats.grouped_linear, rows, weights, torch.tensor(shape.counts, device=device))
            gradients = partial(
                torch.autograd.grad, forward(), (rows, weights), grad.to(formats.dtype), retain_graph=True
            )
            flop = 2.0 * sum(shape.counts) * shape.n * shape.k
            yield {
                "layer": name, "recipe": recipe, "gemms": gemms, "counts": shape.counts, "n": shape.n, "k": shape.k,
                "forward_s": median_s(forward, device), "backward_s": median_s(gradients, device),
                "forward_flop": flop, "backward_flop": 2 * flop,
            }  # fmt: skip


def time_parts(layers: dict[str, Shape], device: torch.device, gemms: Gemms) -> Iterator[dict[str, Any]]:
    """Of each layer, what the block-wise recipe does one after another, s."""
    formats = numerics(OWN, device, gemms)
    assert isinstance(formats, Fp8)
    products = formats.products
    for name, shape in layers.items():
        rows, weights, grad = _operands(shape, device)
        rows, grad, groups = rows.to(formats.dtype), grad.to(formats.dtype), Groups(shape.counts)
        operand, of_grad = products.operand(rows), products.gradient(grad)
        master = weights.view(-1, shape.n, shape.k).float()
        weight = products.quantised_weight(master)
        columns, kept = products.columns(grad, groups), products.kept(rows, operand, groups)
        inputs = products.columns_of_kept(kept, shape.k, groups)
        calls: dict[str, Callable[[], Any]] = {
            "weight": partial(products.quantised_weight, master),
            "operand": partial(products.operand, rows),
            "fprop": partial(products.fprop, operand, weight, groups),
            "gradient": partial(products.gradient, grad),
            "dgrad": partial(products.dgrad, of_grad, weight, groups),
            "columns_of_gradient": partial(products.columns, grad, groups),
            "columns_of_kept": partial(products.columns_of_kept, kept, shape.k, groups),
            "wgrad": partial(products.wgrad, columns, inputs, (shape.n, shape.k), groups),
        }
        yield {"layer": name, "gemms": gemms, **{f"{part}_s": median_s(call, device) for part, call in calls.items()}}


def median_s(call: Callable[[], Any], device: torch.device) -> float:
    """Median time of a call, s, behind a warm-up; on a GPU all calls are queued before any is waited for."""
    clock = Clock(device)

    def timed() -> tuple[Any, Any]:
        begin = clock.mark()
        call()
        return begin, clock.mark()

    moments = [timed() for _ in range(WARM_UP + REPETITIONS)][WARM_UP:]
    return statistics.median(clock.between(begin, end) for begin, end in moments)


def _operands(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Random rows (r, k), weights ([e,] n, k) and gradients (r, n) in BF16."""
    seed = torch.Generator(device).manual_seed(5)
    rows, weights, grads = (
        torch.randn(sizes, generator=seed, device=device, dtype=torch.bfloat16)
        for sizes in (
            (sum(shape.counts), shape.k), (len(shape.counts), shape.n, shape.k), (sum(shape.counts), shape.n)
        )
    )  # fmt: skip
    return rows, weights if len(shape.counts) > 1 else weights[0], grads


if __name__ == "__main__":
    sys.exit(main())
