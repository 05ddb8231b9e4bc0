"""Library products, or this project's own, beside emulated ones, shape by shape: how far apart they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.numerics.blockwise_library import fused_kernels
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.library import ALIGNED
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.calibration.numerics.quantise import TILE, padded, quantise, transposed
from hwprofiles.calibration.numerics.recipes import Gemms, numerics

FARTHEST: Final = 5e-3
"""Distance of two results, as a norm, over the norm of one: both are rounded to BF16, that is by up to 2^-9 of a number."""


@dataclass(frozen=True)
class Shape:
    """A linear layer (n, k) over counts of rows: one count is a dense layer, more are experts."""

    counts: tuple[int, ...]
    n: int
    k: int


SMALL: Final = (Shape((128,), 128, 128), Shape((50,), 200, 192), Shape((5, 0, 33), 128, 256))
SHAPES: Final = (
    *SMALL,
    Shape((1,), 256, 256), Shape((3,), 128, 640), Shape((127,), 384, 128), Shape((130,), 136, 144), Shape((4096,), 576, 7168),
    Shape((4096,), 1536, 7168), Shape((4095,), 7168, 2048), Shape((0, 0, 17), 256, 384), Shape((16, 128, 1, 255), 512, 640),
    Shape((0,), 128, 128), Shape((0, 0), 128, 128), Shape((512, 0, 900, 513, 3, 1, 2048, 119), 4096, 7168),
    Shape((512, 0, 900, 513, 3, 1, 2048, 119), 7168, 2048),
)  # fmt: skip
"""Counts of 0, odd counts, rows not a multiple of 4, n and k not of 128, and layers of DeepSeek-V3."""


def products_of(formats: Numerics, shape: Shape, device: torch.device) -> dict[str, Tensor]:
    """The results of fprop, dgrad and wgrad on random numbers, the same for every recipe."""
    seed = torch.Generator(device).manual_seed(11)

    def random(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=seed, device=device).bfloat16()

    rows = random(sum(shape.counts), shape.k).to(formats.dtype).requires_grad_()
    grad = random(sum(shape.counts), shape.n).to(formats.dtype)
    weights = random(len(shape.counts), shape.n, shape.k).to(formats.param_dtype).requires_grad_()
    if len(shape.counts) == 1:
        result = formats.linear(rows, weights[0])
    else:
        result = formats.grouped_linear(rows, weights, torch.tensor(shape.counts, device=device))
    result.backward(grad)
    assert rows.grad is not None and weights.grad is not None
    return {"fprop": result.detach(), "dgrad": rows.grad, "wgrad": weights.grad}


def distance(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected; 0 where both are 0 or empty, NaN where a number is."""
    of_difference, of_expected = (x.double().norm().item() for x in (found.double() - expected.double(), expected))
    return of_difference / of_expected if of_expected else of_difference


def compare(
    recipe: str, shapes: tuple[Shape, ...], device: torch.device, gemms: Gemms = "auto"
) -> Iterator[dict[str, Any]]:
    """Of each shape: its sizes, and the distance of each product from the emulated one; or "error", as torch says it."""
    for shape in shapes:
        row: dict[str, Any] = {"recipe": recipe, "gemms": gemms, **asdict(shape)}
        try:
            ours = products_of(numerics(recipe, device, gemms), shape, device)
            emulated = products_of(numerics(recipe, device, "emulated"), shape, device)
            row |= {name: distance(ours[name], emulated[name]) for name in ours}
        except RuntimeError as error:
            row["error"] = str(error).splitlines()[0]
        row["equal"] = all(row.get(name, float("inf")) <= FARTHEST for name in ("fprop", "dgrad", "wgrad"))
        yield row


def compare_kernels(device: torch.device) -> Iterator[dict[str, Any]]:
    """Of each kernel that quantises in one pass, whether its values and scales are torch's to the bit; nothing without them."""
    kernels, seed = fused_kernels(device), torch.Generator(device).manual_seed(3)
    if kernels is None:
        return
    for rows, columns, power_of_two in product((3, 130), (128, 200, 384), (False, True)):
        sizes = torch.randint(-12, 4, (rows, columns), generator=seed, device=device).exp2()
        x = (torch.randn(rows, columns, generator=seed, device=device) * sizes).bfloat16()
        x[0, :128], x[1, 5], x[2, 100] = 0, float("nan"), float("inf")
        groups = Groups((rows // 3, 0, rows - rows // 3))
        sources = groups.sources(groups.padded(TILE), device)
        quantised = quantise(x, (1, TILE), power_of_two=power_of_two)
        of_rows = kernels.quantise_rows(x, power_of_two=power_of_two)
        made: dict[str, tuple[Any, Any]] = {"rows": (of_rows, (quantised.values, quantised.scales))}
        for name, (values, scales, numbers) in {
            "columns": (x, None, x), "columns_of_fp8": (quantised.values, quantised.scales, quantised.numbers[:, :columns])
        }.items():  # fmt: skip
            ours = kernels.quantise_columns(values, scales, columns, sources, ALIGNED, power_of_two=power_of_two)
            spread = groups.spread(padded(numbers, (1, ALIGNED)), groups.padded(TILE))
            expected = quantise(spread, (TILE, 1), power_of_two=power_of_two)
            made[name] = ours, (transposed(expected.values), expected.scales)
        rows_of_both, columns_of_both = kernels.quantise_both(x, sources, ALIGNED, power_of_two=power_of_two)
        made |= {"both, rows": (rows_of_both, made["rows"][1]), "both, columns": (columns_of_both, made["columns"][1])}
        blocks = quantise(x.unsqueeze(0), (TILE, TILE), power_of_two=power_of_two)
        wanted = blocks.values, transposed(blocks.values), blocks.scales
        made["blocks"] = kernels.quantise_blocks(x.unsqueeze(0), power_of_two=power_of_two), wanted
        for name, pairs in made.items():
            equal = all(
                torch.equal(found.float().nan_to_num(-7), wanted.float().nan_to_num(-7))
                for found, wanted in zip(*pairs, strict=True)
            )
            yield {"kernel": name, "rows": rows, "columns": columns, "power_of_two": power_of_two, "equal": equal}
