"""How right a cost is that was carried from other GPUs: each GPU, and each generation, left out in turn.

    python -m hwprofiles.calibration.fits.transfer REFERENCE_DIR

Every GPU's measured GEMMs of at least 1,024 rows and attention cores are predicted by the stack that its datasheet gets from
the GPUs that are left (`<gpu>-transfer`). REFERENCE_DIR: copies of public tables as reference_points.py states them; our own
measurements need none. Time that a table's calls spend on quantising is taken off, at the rate that their own fit finds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Final, Literal, get_args

from hwprofiles.calibration.attention_families import FAMILIES as CORES
from hwprofiles.calibration.attention_families import AttentionFamily
from hwprofiles.calibration.gemm_families import FAMILIES as GEMMS
from hwprofiles.calibration.gemm_families import GemmFamily
from hwprofiles.calibration.gemm_groups import fit_family, limits_of
from hwprofiles.catalog import list_names, load_gpu
from hwprofiles.kernels.gemm import gemm_constants
from hwprofiles.kernels.gemm_formula import gemm_seconds
from hwprofiles.kernels.parameters import MissingKernelError
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.leave_out import LeftOut
from hwprofiles.stack_records import Stack
from hwprofiles.transfer import build_stack

Left = Literal["gpu", "family"]
LEFT: Final[tuple[Left, ...]] = get_args(Left)
"""What is left out: a GPU and chips of its datasheet, or its whole generation."""
MIN_ROWS: Final = 1024
JUDGED: Final = (
    *CORES, *(AttentionFamily("h200", name, way, is_own=True) for name in ("fa2", "cudnn") for way in ("fwd", "bwd"))
)  # fmt: skip
"""Attention cores: what rates are carried from, and our own measurements that are no rates of a public stack."""
MADE_OF: Final = {"gb200": frozenset({"gb300"})}
"""GPU → those whose rates were made of its own: they are left out with it."""
GOALS: Final = {
    "another GPU of its generation": 0.08, "another generation": 0.16, "no measurement": None,
}  # fmt: skip
"""Where rates are carried from → mean error aimed at for GEMMs and attention."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Calls of one library, format and pass on a GPU. logs: log(measured / predicted); inside: share within the cost's own
    range; of: the GPU that its rates are carried from, in the source's words.
    """

    gpu: str
    left: Left
    kind: str
    name: str
    logs: tuple[float, ...]
    inside: float
    of: str

    @property
    def carried_from(self) -> str:
        """Key of GOALS."""
        if self.of not in list_names("gpus"):
            return "no measurement"
        is_near = load_gpu(self.of).family == load_gpu(self.gpu).family
        return "another GPU of its generation" if is_near else "another generation"

    @property
    def error(self) -> float:
        """Mean |predicted / measured - 1|."""
        return fmean(abs(math.expm1(-log)) for log in self.logs)

    def line(self) -> str:
        """As a row of a table."""
        bias = math.expm1(-fmean(self.logs))
        return (
            f"| {self.gpu} | {self.left} | {self.name} | {len(self.logs)} | {100 * self.error:.1f} % | {100 * bias:+.1f} % | "
            f"{100 * self.inside:.0f} % | {self.of} |"
        )


HEAD: Final = (
    "| GPU | left out | kernels | calls | mean error | bias | in the range | rates of |",
    "|---|---|---|---:|---:|---:|---:|---|",
)


@cache
def _stack(gpu: str, left: Left) -> Stack:
    gpus = frozenset({gpu}) | MADE_OF.get(gpu, frozenset())
    out = LeftOut(gpus=gpus) if left == "gpu" else LeftOut(families=frozenset({load_gpu(gpu).family}))
    return build_stack("transfer", gpu, out)


def carried(folder: Path) -> Iterator[Carried]:
    """Every family of measured kernels, predicted without its GPU and without its GPU's generation."""
    for left in LEFT:
        for family in GEMMS:
            found = _gemms(family, folder, left)
            if found is not None:
                yield found
        for core in JUDGED:
            found = _cores(core, folder, left)
            if found is not None:
                yield found


def _gemms(family: GemmFamily, folder: Path, left: Left) -> Carried | None:
    if not family.is_own and not folder.is_dir():
        return None
    points = [point for point in family.load(folder) if point.rows >= MIN_ROWS]
    stack = _stack(family.gpu, left)
    variant = points[0].size.variant if points else ""
    grouped = bool(points) and points[0].size.groups > 1
    found = gemm_constants(stack, family.dtype, variant, is_grouped=grouped) if points else None
    if found is None:
        return None
    constants, residual = found
    rate = fit_family(family, folder).quantise_bytes_per_s if family.quantises else math.inf
    limits = limits_of(family.gpu, family.dtype)
    logs = tuple(
        math.log((point.seconds - point.quantised_bytes / rate) / gemm_seconds(point.size, constants, limits))
        for point in points
    )
    inside = fmean(residual.low <= math.exp(log) <= residual.high for log in logs)
    kind = "grouped GEMM" if grouped else "GEMM"
    name = f"{kind} {family.key.removeprefix('gemm.')}, {family.library}"
    keys = (f"{family.key}.eta", f"gemm.{family.dtype}.grouped.eta" if grouped else "", f"gemm.{family.dtype}.eta")
    return Carried(family.gpu, left, _kind(kind, family.dtype), name, logs, inside, _of(stack, *keys))


def _cores(family: AttentionFamily, folder: Path, left: Left) -> Carried | None:
    if family.device and not folder.is_dir():
        return None
    gpu, stack = load_gpu(family.gpu), _stack(family.gpu, left)
    points = family.calls(folder)
    try:
        costs = [kernel_seconds(replace(point.shape, library=family.library), stack, gpu, "alone") for point in points]
    except MissingKernelError:
        return None
    if not points:
        return None
    logs = tuple(math.log(point.seconds / cost.seconds) for point, cost in zip(points, costs, strict=True))
    inside = fmean(cost.low <= point.seconds <= cost.high for point, cost in zip(points, costs, strict=True))
    name = f"attention {family.dtype} {family.direction}, {family.library}"
    key = f"attention.{family.dtype}.{family.direction}.{family.library}.t0_s"
    return Carried(family.gpu, left, _kind("attention", family.dtype), name, logs, inside, _of(stack, key))


def _kind(kind: str, dtype: str) -> str:
    """Kernels that the summary puts together."""
    return f"{kind}, {'BF16' if dtype == 'bf16' else '8 bits and fewer'}"


def _of(stack: Stack, *keys: str) -> str:
    """Whose rates the first key that is there is, as its source begins."""
    where = next(stack.parameters[key].source.where for key in keys if key in stack.parameters)
    return where.partition(":")[0].removeprefix(REACHED) if where.startswith(REACHED) else "nobody's"


REACHED: Final = "reached on "
"""How the source of a carried rate begins."""


def summary(found: Sequence[Carried]) -> Iterator[str]:
    """Of each kind, generation and origin of the rates: calls and mean error, beside what was aimed at."""
    keys = ((each.kind, each.carried_from, load_gpu(each.gpu).family) for each in found)
    for kind, origin, family in sorted(dict.fromkeys(keys)):
        own = [
            each
            for each in found
            if (each.kind, each.carried_from, load_gpu(each.gpu).family) == (kind, origin, family)
        ]
        unique = {(each.gpu, each.name, each.of): each for each in own}.values()
        errors = [abs(math.expm1(-log)) for each in unique for log in each.logs]
        goal = None if kind.startswith("grouped") else GOALS[origin]
        aim = f"{100 * goal:.0f} %" if goal else "-"
        yield f"| {kind} | {family} | {origin} | {len(errors)} | {100 * fmean(errors):.1f} % | {aim} |"


SUMMARY_HEAD: Final = (
    "| kernels | generation | rates carried from | calls | mean error | aim |", "|---|---|---|---:|---:|---:|",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and its summary."""
    parser = argparse.ArgumentParser(prog="python -m hwprofiles.calibration.fits.transfer")
    parser.add_argument("reference", type=Path)
    found = list(carried(parser.parse_args(arguments).reference))
    print("\n".join((*SUMMARY_HEAD, *summary(found), "", *HEAD, *(each.line() for each in found))))


if __name__ == "__main__":
    main()
