"""Kernels bound by memory: what each is made of, alone, compiled, or as a chain of plain torch's functions.

Libraries: torch (its own kernel, or its functions one behind another), eager (a module written out in functions where torch
has a kernel of its own too), compiled (torch.compile, for each size), triton (this project's quantisers), moesim
(functions of the torch model).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch.utils._pytree import tree_leaves

from hwprofiles.calibration.counting.traffic import Traffic
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.calibration.rates.finer import SIZES, Shape

GRID: Final[tuple[Shape, ...]] = (
    (512, 1024), (1024, 4096), (4096, 2048), (4096, 7168), (16_384, 4096), (16_384, 7168), (32_768, 7168)
)  # fmt: skip
"""1 to 470 MB in BF16."""
COARSE: Final[tuple[Shape, ...]] = ((512, 2048), (4096, 2048), (8192, 5120), (32_768, 4096))
COMPILED: Final[tuple[Shape, ...]] = ((1024, 4096), (4096, 2048), (8192, 7168), (16_384, 4096))
FINER: Final = {GRID: (1, 4), COMPILED: (1,)}
"""Which of these shapes are candidates of a finer grid."""
ONE: Final = frozenset(("compiled", "triton", "triton-of-fp8"))
"""Libraries that make one kernel of a function."""
HOST_LAUNCHES: Final = 6
"""That the host is as busy as with, besides the kernels: of a compiled function's guards, of autograd."""


@dataclass(frozen=True)
class Kernel:
    """A call on tensors. function(*operands(device, rows, width)).

    per_number: bytes moved for each of rows * width numbers, where a kernel (or the simulator) counts them so; None: those of
    its functions, one behind another. wrt: operands whose gradient is timed, in place of the function itself.
    launches: kernels of a call; 0: one, of a chain its functions. hidden: launches inside these, of sorts and scans, that
    wait in a stream's queue too. dtype: of integers as KernelShape has it. shapes: rows and width of the full measurement.
    """

    op: str
    library: str
    function: Callable[..., Any]
    operands: Callable[[Any, int, int], tuple[Any, ...]]
    per_number: float | None = None
    wrt: tuple[int, ...] = ()
    variant: str = ""
    dtype: str = "bf16"
    shapes: tuple[Shape, ...] = GRID
    launches: int = 0
    hidden: int = 0


def cases_of(kernels: Iterable[Kernel], device: Any, size: Size) -> Iterator[RateCase]:
    """Each kernel at its shapes. quick: those that have no compiler to wait for, at two of them."""
    for kernel in kernels:
        if size == "quick" and kernel.library == "compiled":
            continue
        shapes = {"full": kernel.shapes, "quick": fewer(kernel.shapes), "cpu": smallest(kernel.shapes)}[size]
        for idx, (rows, width) in enumerate(shapes):
            level = int(size == "full" and idx in FINER.get(kernel.shapes, ()))
            yield replace(memory_case(device, kernel, rows, width), level=level)
        for rows, width in _more(kernel) if size == "full" else ():
            yield replace(memory_case(device, kernel, rows, width), level=1)


def _more(kernel: Kernel) -> Iterator[Shape]:
    """Candidates of the finer grid that the coarse one has not."""
    found = SIZES.get((kernel.op, kernel.library), ())
    return (shape for shape in found if shape not in kernel.shapes)


def fewer(shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """Of many the second and the last but one, of few one from the middle."""
    return (shapes[1], shapes[-2]) if len(shapes) > 4 else (shapes[len(shapes) // 2],)


def smallest(shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """32 rows of at most 256 numbers."""
    return ((32, min(256, shapes[0][1])),)


def memory_case(device: Any, kernel: Kernel, rows: int, width: int) -> RateCase:
    """At one size."""
    operands = kernel.operands(torch.device("meta"), rows, width)
    if kernel.per_number is not None and (kernel.launches or kernel.library in ONE):
        counted, launches, held = round(kernel.per_number * rows * width), kernel.launches or 1, size_of(operands)
    else:
        call = _call(kernel.function, operands, kernel.wrt)
        with Traffic() as traffic:
            result = call()
        counted = traffic.bytes if kernel.per_number is None else round(kernel.per_number * rows * width)
        launches = kernel.launches or max(traffic.launches, 1)
        held = size_of(operands) + size_of(result)
    cells = {
        "part": "memory", "op": kernel.op, "variant": kernel.variant, "dtype": kernel.dtype, "library": kernel.library,
        "m": rows, "n": width, "bytes": counted, "launches": launches,
    }  # fmt: skip
    on_host = kernel.hidden + HOST_LAUNCHES * (bool(kernel.wrt) + (kernel.library == "compiled"))
    made = partial(_make, device, kernel, rows, width)
    return RateCase(cells, made, held, launches + on_host, light=True)


def size_of(tensors: Any) -> float:
    """Bytes of tensors in any structure."""
    return float(sum(leaf.nbytes for leaf in tree_leaves(tensors) if isinstance(leaf, torch.Tensor)))


def _make(device: Any, kernel: Kernel, rows: int, width: int) -> Call:
    """Keeps the last result, so that the next one has other memory: a level-2 cache then holds neither."""
    function = kernel.function
    if kernel.library == "compiled":
        function = _compiled(function, device)
    operands = kernel.operands(device, rows, width)
    call = _call(function, operands, kernel.wrt)
    kept = [call()]

    def keeping() -> Any:
        kept[0] = call()
        return kept[0]

    return keeping


def _call(function: Callable[..., Any], operands: tuple[Any, ...], wrt: tuple[int, ...]) -> Call:
    """The function itself, or its gradients by the operands of these numbers for a random gradient of its result."""
    if not wrt:

        def forward() -> Any:
            with torch.no_grad():
                return function(*operands)

        return forward
    inputs = [operands[idx].requires_grad_() for idx in wrt]
    with torch.enable_grad():
        out = function(*operands)
    return partial(torch.autograd.grad, out, inputs, torch.randn_like(out), retain_graph=True)


def _compiled(function: Callable[..., Any], device: Any) -> Callable[..., Any]:
    if device.type != "cuda":
        raise NotImplementedError("compiled kernels are timed on a GPU alone: a CPU's compiler takes minutes")
    import torch._dynamo
    import torch._functorch.config

    torch._dynamo.config.recompile_limit = 256
    torch._functorch.config.donated_buffer = False  # a gradient is taken several times
    return torch.compile(function, dynamic=False)
