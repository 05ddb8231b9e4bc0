"""Are the products right? Against float64 of the very operands, and of the numbers before they were quantised.

What a kernel is held to (`error` is ||out - truth|| / ||truth||, truth the float64 product of the FP8 numbers with scales):

FP32 out  5e-4: tensor cores of Hopper sum FP8 products in registers of some 14 bits (DeepSeek-V3 report 3.3.2), so that each of
          the four instructions of 32 in a sum of 128 cuts off up to 2^-13 of its largest number: 4 x 2^-13; 128 is where the
          recipe puts an end to it. FP32's own rounding, 2^-24 a term, is nothing beside that
BF16 out  4.4e-3: the same, and BF16's rounding of the result, 2^-8 at most
in FP32   1e-5 of what computes in FP32 throughout: Triton's interpreter on a CPU, which cuts BF16 off: 2^-7

Every output is poisoned with NaN first, with a border of 3.0 around it that nobody may touch. What a number format costs
(`formats`) is no fault of a kernel: E4M3 rounds to 2^-4 at most, evenly: 2^-4 / sqrt(3) / 2 = 1.8 % rms on the mean over a
power of two, 2.6 % of a product of two; the bound of 5 % is twice that, of BF16 0.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.kernel_bench import operands as made
from hwprofiles.calibration.kernel_bench.operands import Operands, slices
from hwprofiles.calibration.kernel_bench.shapes import PASSES, Product
from hwprofiles.calibration.kernels import products
from hwprofiles.calibration.kernels.operands import Columns, Rows
from hwprofiles.calibration.kernels.sms import at_most_sms
from hwprofiles.calibration.numerics.quantise import TILE, Quantised

BOUNDS: Final = {"bf16": 4.4e-3, "fp32": 5e-4}
INTERPRETED: Final = {"bf16": 8e-3, "fp32": 1e-5}
FORMATS: Final = {"bf16": 5e-3, "fp8-block": 0.05, "fp8-row": 0.05}
BORDER: Final = 3.0
MARGIN: Final = 8
"""Rows of a border on both sides of an output."""
ODD: Final = (
    ((1,), 128, 128), ((127,), 384, 128), ((129,), 128, 640), ((4097,), 2112, 1536), ((0,), 128, 256),
    ((0, 5, 0, 300), 256, 384), ((64, 1, 0, 191, 128), 384, 256), ((3, 0, 0), 256, 128), ((0, 0, 0), 256, 256),
    ((700, 1, 1300, 47), 4096, 896), ((33,) * 64, 256, 256),
)  # fmt: skip
"""Rows of each group, n, k: single rows, one more and one less than a tile, empty groups at both ends and between."""
SMALL_ODD: Final = (((1,), 128, 128), ((0, 5, 0, 130), 128, 256), ((0, 0), 128, 128), ((129,), 192, 128))
FEW_SMS: Final = (1, 7, 100)
SMALL_SMS: Final = (1,)
SEED: Final = 16


@dataclass(frozen=True)
class Checked:
    """A product that was held to its bound. written: whether all of the result was, and nothing beside it."""

    variant: str
    kernel: str
    counts: tuple[int, ...]
    n: int
    k: int
    out: str
    sms: int
    error: float
    bound: float
    written: bool
    note: str = ""

    @property
    def right(self) -> bool:
        """NaN is never right."""
        return self.written and self.error <= self.bound and not self.note


def checks(device: torch.device, *, small: bool) -> Iterator[Checked]:
    """Every odd product in every pass and format of its result, by each kernel that the device has; then on few SMs."""
    generator = torch.Generator(device).manual_seed(SEED)
    for counts, n, k in SMALL_ODD if small else ODD:
        for variant in PASSES:
            operands = made.of(Product(variant, counts, n, k), device, generator)
            for kernel in kernels(variant, device):
                yield from _checked(operands, kernel)
    for num in SMALL_SMS if small else FEW_SMS:
        counts, n, k = (SMALL_ODD if small else ODD)[1 if small else -2]
        for variant in PASSES:
            operands = made.of(Product(variant, counts, n, k), device, generator)
            for kernel in kernels(variant, device):
                yield from _checked(operands, kernel, num)


def kernels(variant: str, device: torch.device) -> list[products.Kernel]:
    """That the device has for a pass."""
    which: products.Product = "wgrad" if variant == "wgrad" else "gemm"
    found: list[products.Kernel] = []
    if not products.reason_against_cuda(device, which):
        found.append("cuda")
    if not products.reason_against_triton(device):
        found.append("triton")
    return found


def _checked(operands: Operands, kernel: products.Kernel, sms: int = 0) -> Iterator[Checked]:
    product, is_wgrad = operands.product, operands.is_wgrad
    ways = ("fp32", "added") if is_wgrad else ("bf16", "fp32")
    truth = exact(operands)
    for way in ways:
        form = "bf16" if way == "bf16" else "fp32"
        bounds = BOUNDS if operands.left.is_cuda else INTERPRETED
        note, error, written = "", math.nan, False
        try:
            error, written = _run(operands, kernel, way, truth, sms)
        except Exception as wrong:  # a compiler's, a driver's, torch's: whatever it is, it is the finding
            note = reason(wrong)
        yield Checked(
            product.variant, kernel, product.counts, product.n, product.k, way, sms, error, bounds[form], written, note
        )


def _run(operands: Operands, kernel: products.Kernel, way: str, truth: Tensor, sms: int) -> tuple[float, bool]:
    """Error of the result, and whether it was written whole and nothing else."""
    left, right = operands.own
    out, border = poisoned(truth.shape, torch.bfloat16 if way == "bf16" else torch.float32, truth.device)
    limited: AbstractContextManager[Any] = at_most_sms(sms) if sms else nullcontext()
    with limited:
        if operands.is_wgrad:
            if way == "added":
                before = torch.randn(out.shape, device=out.device) * truth.abs().mean().float().clamp(min=1e-30)
                out.copy_(before)
                truth = truth + before.double()
            products.wgrad(left, right, operands.groups, out=out, accumulate=way == "added", kernel=kernel)
        else:
            products.fprop(left, right, operands.groups, out=out, kernel=kernel)
    return distance(out, truth), bool(torch.isfinite(out).all()) and all(
        bool((side == BORDER).all()) for side in border
    )


def poisoned(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A result of NaN, and the memory in front of it and behind it."""
    numbers, margin = math.prod(shape), MARGIN * shape[-1]
    whole = torch.full((numbers + 2 * margin,), BORDER, dtype=dtype, device=device)
    inner = whole[margin : margin + numbers]
    inner.fill_(math.nan)
    return inner.view(shape), (whole[:margin], whole[margin + numbers :])


def exact(operands: Operands) -> Tensor:
    """The float64 product of what the FP8 operands stand for: (R, N), or (e, N, K) of wgrad."""
    left, right = operands.own
    if isinstance(left, Columns):
        sides = [_columns(side) for side in (left, right)]
        parts = slices(operands.groups.padded(TILE).counts)
        return torch.stack([sides[0][:, part] @ sides[1][:, part].t() for part in parts])
    assert isinstance(left, Rows)
    rows = Quantised(left.values, left.scales, (1, TILE)).numbers.double()
    blocks = Quantised(right.values, right.scales, (TILE, TILE)).numbers.double()
    return by_groups(rows, blocks, operands.groups.counts)


def _columns(side: Columns) -> Tensor:
    return Quantised(side.values, side.scales.t().contiguous(), (1, TILE)).numbers.double()


def by_groups(rows: Tensor, matrices: Tensor, counts: tuple[int, ...]) -> Tensor:
    """Rows (R, k) of each group times its matrix of (e, n, k) transposed."""
    result = rows.new_zeros(len(rows), matrices.shape[1])
    for idx, part in enumerate(slices(counts)):
        result[part] = rows[part] @ matrices[idx].t()
    return result


def distance(out: Tensor, truth: Tensor) -> float:
    """||out - truth|| / ||truth||; of an empty result 0."""
    if not truth.numel():
        return 0.0
    size = float(truth.norm())
    off = float((out.double() - truth).norm())
    return off / size if size else off


def formats(device: torch.device, *, small: bool) -> Iterator[dict[str, Any]]:
    """What each number format is off from the float64 product of the BF16 numbers, on numbers of realistic scale."""
    n, k, rows = (128, 256, 64) if small else (4096, 7168, 4096)
    generator = torch.Generator(device).manual_seed(SEED)
    for variant in PASSES:
        operands = made.of(Product(variant, (rows,), n, k), device, generator)
        left, right = operands.left.double(), operands.right.double()
        truth = left.t() @ right if operands.is_wgrad else left @ right[0].t()
        for name, compute in OF_FORMAT.items():
            note, error = "", math.nan
            try:
                error = distance(compute(operands), truth)
            except Exception as wrong:  # as in _checked
                note = reason(wrong)
            yield {"variant": variant, "rows": rows, "n": n, "k": k, "format": name, "error": error,
                   "bound": FORMATS[name], "right": error <= FORMATS[name], "note": note}  # fmt: skip


def _in_bf16(operands: Operands) -> Tensor:
    left, right = operands.left, operands.right
    return left.t() @ right if operands.is_wgrad else left @ right[0].t()


def _by_blocks(operands: Operands) -> Tensor:
    """In FP32, by the own kernel that is chosen."""
    left, right = operands.own
    if operands.is_wgrad:
        n, k = operands.product.n, operands.product.k
        return products.wgrad(left, right, operands.groups)[0, :n, :k]
    whole = products.fprop(left, right, operands.groups, out_dtype=torch.float32)
    return whole[:, : operands.right.shape[1]]


def _by_rows(operands: Operands) -> Tensor:
    """As its operands stand for it: exact but for FP32's rounding."""
    left, right = (values.float() * scales[..., None] for values, scales in operands.rows_alone)
    return left @ right.t() if operands.is_wgrad else left @ right[0].t()


OF_FORMAT: Final = {"bf16": _in_bf16, "fp8-block": _by_blocks, "fp8-row": _by_rows}


def reason(wrong: Exception) -> str:
    """A line of it."""
    return f"{type(wrong).__name__}: {next(iter(str(wrong).splitlines()), '')}"[:200]


def as_row(checked: Checked) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(checked), "counts": list(checked.counts), "right": checked.right}
