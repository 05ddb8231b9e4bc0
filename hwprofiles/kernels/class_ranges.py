"""By how much a whole class of kernels may be off: what calls of one class have in common, whatever their shapes.

A range of a single call (KernelCost) is of that call alone; over the many shapes of a step such errors average out. What does
not is the library, its release and, where a rate comes from another GPU, the transfer: class_ranges.yaml has it from
groups of measurements that were left out (hwprofiles/calibration/class_ranges.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.kernels.shape import PEAK_OF_DTYPE, KernelShape
from hwprofiles.provenance import Basis
from hwprofiles.record_file import read_record

Evidence = Literal["row", "own", "transferred"]
"""What a kernel's rate rests on: rows of this very software, measurements on the GPU, or other GPUs' and assumptions."""

_EVIDENCE: Final[dict[Basis, Evidence]] = {"measured": "row", "interpolated": "own"}
_FILE: Final = Path(__file__).with_suffix(".yaml")
Factor = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class ClassRange:
    """Seconds of a class at both ends over those predicted; groups: left-out groups that it is taken from."""

    low: float
    high: float
    groups: int = 0


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(alias="class")
    evidence: Evidence
    range: tuple[Factor, Factor]
    groups: int


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    ranges: tuple[_Entry, ...]


def kernel_class(shape: KernelShape) -> str:
    """GEMMs by the format of their peak, dense and grouped apart; attention by pass; memory-bound kernels each by itself."""
    if shape.bound == "gemm":
        return f"{shape.op}.{PEAK_OF_DTYPE.get(shape.dtype, shape.dtype)}"
    return shape.op if shape.bound == "attention" else f"memory.{shape.op}"


def evidence_of(basis: Basis) -> Evidence:
    """What a cost of that basis rests on."""
    return _EVIDENCE.get(basis, "transferred")


@cache
def class_range(name: str, evidence: Evidence) -> ClassRange | None:
    """The range of a class; None of memory-bound kernels, whose calls' own range is that of the libraries, and of rows of this
    very software. A format of which nothing was left out has the widest of its kind.
    """
    if name.startswith("memory."):
        return None
    table = {(each.name, each.evidence): ClassRange(*each.range, each.groups) for each in load_class_ranges().ranges}
    if (name, evidence) in table:
        return table[name, evidence]
    kind = name.partition(".")[0]
    alike = [found for (other, of), found in table.items() if of == evidence and other.partition(".")[0] == kind]
    return max(alike, key=lambda each: each.high, default=None)


@cache
def load_class_ranges() -> _File:
    """The committed table. Raises CatalogError with every problem of the file."""
    return read_record(_FILE, _File)
