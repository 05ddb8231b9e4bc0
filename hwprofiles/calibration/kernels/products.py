"""FP8 products by this project's kernels: of CUDA where they are and the GPU is a Hopper, else of Triton.

    y = fprop(rows, weights, ends)        (R, N): rows of each group times its matrix (N, K) transposed; one launch
    dx = dgrad(grads, turned, ends)       (R, K): the same of the gradients and the transposed weights (K, N)
    dw = wgrad(grads, inputs, ends)       (e, N, K) in FP32: of each group's tokens; accumulate=True adds into out

All sum in FP32, and what 128 of the summed dimension gave is scaled and joins a second FP32 sum ("promotion").
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.calibration.kernels.operands import (
    Blocks,
    Columns,
    Rows,
    ends_of,
    num_groups_of,
    problems_of_groups,
    problems_of_product,
    problems_of_types,
    problems_of_wgrad,
)
from hwprofiles.calibration.kernels.sms import num_sms
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8, TILE
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

Kernel = Literal["auto", "cuda", "triton"]
Product = Literal["gemm", "wgrad"]
MODULES: Final[dict[tuple[str, Product], str]] = {
    ("cuda", "gemm"): "hwprofiles.calibration.kernels.cuda.gemm",
    ("cuda", "wgrad"): "hwprofiles.calibration.kernels.cuda.wgrad",
    ("triton", "gemm"): "hwprofiles.calibration.kernels.triton_gemm",
    ("triton", "wgrad"): "hwprofiles.calibration.kernels.triton_wgrad",
}
"""Each has `product(left: Rows, right: Blocks, ends, out, num_sms)`, or `wgrad(left: Columns, right: Columns, ends, out,
accumulate, num_sms)`; operands are checked, ends are on the device, no dimension but the tokens' is 0."""
HOPPER: Final = (9, 0)
NO_CUDA: Final = "this torch sees no CUDA GPU"
PASSING: Final = "out of memory"
"""In the driver's words, of what may be otherwise the next time."""
LEAST_FOR_FP8: Final = (8, 9)
"""Compute capability from which on tensor cores have E4M3 (CUDA programming guide, table of compute capabilities)."""


def fprop(
    left: Rows,
    right: Blocks,
    groups: Tensor | Groups | None = None,
    *,
    out_dtype: torch.dtype = torch.bfloat16,
    out: Tensor | None = None,
    kernel: Kernel = "auto",
) -> Tensor:
    """Rows (R, K) of each group times its matrix of (e, N, K) transposed: (R, N) in BF16 or FP32.

    groups: None is one group of all rows. Rows behind the last group's end are left as they are. out: is written and returned.
    Raises CalibrationError for operands that do not fit.
    """
    refuse(problems_of_types(Rows, Blocks, left, right, groups, out))
    out_dtype = out_dtype if out is None else out.dtype
    refuse(problems_of_product(left, right, out, out_dtype))
    device, (num_rows, k), (num_groups, n, _) = left.values.device, left.values.shape, right.values.shape
    refuse(problems_of_groups(groups, num_groups, num_rows, device))
    if out is None:
        out = torch.empty(num_rows, n, dtype=out_dtype, device=device)
    module = _module(kernel, "gemm", device)
    if num_rows and n and k:
        module.product(left, right, ends_of(groups, num_rows, device), out, num_sms(device))
    return out if k else out.zero_()


dgrad = fprop
"""With gradients (R, N) for the rows, and the transposed weights, (e, K, N) with scales (e, K / 128, N / 128)."""


def wgrad(
    left: Columns,
    right: Columns,
    groups: Tensor | Groups | None = None,
    *,
    out: Tensor | None = None,
    accumulate: bool = False,
    kernel: Kernel = "auto",
) -> Tensor:
    """Of each group's tokens, left (N, P) times right (K, P) transposed: (e, N, K) in FP32; of no tokens, zeros.

    groups: ends are multiples of 128, of others a group becomes NaN; of `Groups` those of the counts rounded up. accumulate: is
    added into `out`, else that is written. Raises CalibrationError for operands that do not fit.
    """
    refuse(problems_of_types(Columns, Columns, left, right, groups, out))
    num_groups, device = num_groups_of(groups), left.values.device
    problems = list(problems_of_wgrad(left, right, num_groups, out))
    if accumulate and out is None:
        problems.append(Problem("", "accumulate", "True without out: there is nothing to add to; give out"))
    if not problems:
        problems = problems_of_groups(groups, None, left.values.shape[1], device, TILE)
    refuse(problems)
    if out is None:
        out = torch.empty(num_groups, left.values.shape[0], right.values.shape[0], device=device)
    module = _module(kernel, "wgrad", device)
    if out.numel() and (left.values.shape[1] or not accumulate):
        ends = ends_of(groups, left.values.shape[1], device, TILE)
        module.wgrad(left, right, ends, out, accumulate, num_sms(device))
    return out


def chosen(kernel: Kernel, product: Product, device: torch.device) -> Literal["cuda", "triton"]:
    """Whose kernel runs. Raises CalibrationError where the device has not what is asked for, or neither of them."""
    if kernel not in get_args(Kernel):
        raise CalibrationError(
            [Problem("", "kernel", f"{kernel!r} is unknown{nearest(str(kernel), get_args(Kernel))}")]
        )
    against = {"cuda": reason_against_cuda(device, product), "triton": reason_against_triton(device)}
    for name in ("cuda", "triton"):
        if kernel in (name, "auto") and not against[name]:
            return name  # type: ignore[return-value]
    asked = against if kernel == "auto" else {kernel: against[kernel]}
    why = "; ".join(f"{name}: {reason}" for name, reason in asked.items())
    raise CalibrationError([Problem("", "kernel", f"{kernel!r}: {device} has no FP8 {product} kernel ({why})")])


def require(device: torch.device) -> None:
    """Raises CalibrationError where one of the products has no kernel on the device."""
    for product in get_args(Product):
        chosen("auto", product, device)


def reason_against(device: torch.device) -> str:
    """Why nothing is to be timed with these kernels there; empty where they run. Interpreted ones would take hours."""
    if device.type != "cuda":
        return "needs a CUDA GPU"
    try:
        require(device)
    except CalibrationError as why:
        return str(why)
    return ""


_LASTING: Final[dict[tuple[torch.device, Product], str]] = {}
"""Reasons that were found, or none, and that stay: no memory at the first look is none of them."""


def reason_against_cuda(device: torch.device, product: Product) -> str:
    """Why the CUDA kernel cannot run there; empty where it can."""
    if (known := _LASTING.get((device, product))) is not None:
        return known
    reason, lasts = _against_cuda(device, product)
    if lasts:
        _LASTING[device, product] = reason
    return reason


def _against_cuda(device: torch.device, product: Product) -> tuple[str, bool]:
    """The reason, and whether it is the same the next time."""
    if device.type != "cuda":
        return "needs a CUDA GPU", True
    if not torch.cuda.is_available():
        return NO_CUDA, True
    if (found := torch.cuda.get_device_capability(device)) != HOPPER:
        return f"compute capability {found[0]}.{found[1]}; the kernels are written for 9.0, Hopper", True
    try:
        _probe(import_module(MODULES["cuda", product]), product, device)
    except (ImportError, OSError, RuntimeError, CalibrationError) as error:
        is_passing = isinstance(error, torch.OutOfMemoryError) or PASSING in str(error)
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}", not is_passing
    return "", True


@cache
def reason_against_triton(device: torch.device) -> str:
    """Why the Triton kernels cannot run there; empty where they can."""
    if find_spec("triton") is None:
        return "needs triton"
    if device.type == "cpu":
        is_interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        return "" if is_interpreted else "on a CPU they are interpreted: set TRITON_INTERPRET=1 before the start"
    if device.type != "cuda":
        return f"no kernels for a device of type {device.type}"
    if not torch.cuda.is_available():
        return NO_CUDA
    if (found := torch.cuda.get_device_capability(device)) < LEAST_FOR_FP8:
        return f"compute capability {found[0]}.{found[1]}; FP8 products begin with 8.9"
    return ""


def _module(kernel: Kernel, product: Product, device: torch.device) -> Any:
    return import_module(MODULES[chosen(kernel, product, device), product])


def _probe(module: Any, product: Product, device: torch.device) -> None:
    """The smallest product: what cannot be compiled or launched raises."""
    values, ends = torch.ones(TILE, TILE, device=device).to(FP8), torch.tensor([TILE], device=device, dtype=torch.int32)
    scales, sms = torch.ones(1, TILE, device=device), num_sms(device)
    if product == "gemm":
        blocks = Blocks(values.unsqueeze(0), torch.ones(1, 1, 1, device=device))
        module.product(Rows(values, scales.t()), blocks, ends, torch.empty(TILE, TILE, device=device), sms)
    else:
        sides = Columns(values, scales)
        module.wgrad(sides, sides, ends, torch.empty(1, TILE, TILE, device=device), False, sms)
