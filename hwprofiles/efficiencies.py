"""Shares of a datasheet that software reaches, by operator class and by the GPU on which they were measured.

`stacks/transfer/families.yaml` orders the GPU families; every other file of that folder holds groups of efficiencies with
their sources.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwprofiles.catalog import load_gpu
from hwprofiles.fields import Name
from hwprofiles.leave_out import LeftOut
from hwprofiles.provenance import Source, State
from hwprofiles.record_file import CatalogError, read_record
from hwprofiles.same_chip import equal_chips

Number = Annotated[float, Field(allow_inf_nan=False)]
Triple = tuple[Number, Number, Number]
"""value, low, high."""

_FOLDER = Path(__file__).parent / "stacks" / "transfer"
_FAMILIES = "families.yaml"


class EfficiencyGroup(BaseModel):
    """Efficiencies measured together. prefix: of the parameters' keys; gpu: where measured, None: a bound for any.

    only_families: the families that may use it (empty: all). state: of the chip when it was measured; None: not of kernels that
    a clock bounds. values: name → value, low, high.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: str
    gpu: Name | None = None
    only_families: tuple[str, ...] = ()
    state: State | None = None
    source: str
    note: str = ""
    values: dict[str, Triple] = Field(min_length=1)

    @model_validator(mode="after")
    def _ranges_hold_values(self) -> Self:
        for name, (value, low, high) in self.values.items():
            if not 0.0 <= low <= value <= high:
                raise ValueError(f"{self.prefix}.{name}: needs 0 <= low <= value <= high, got {value}, {low}, {high}")
        return self


class Efficiencies(BaseModel):
    """All tables. families: oldest first; sources: by the name that groups use. other_gpu_residual, other_family_residual:
    measured / formula of GEMMs with constants of another GPU of the family, and of another family.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: tuple[Name, ...]
    other_gpu_residual: Triple
    other_family_residual: Triple
    sources: dict[str, Source]
    groups: tuple[EfficiencyGroup, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for group in self.groups:
            if group.source not in self.sources:
                raise ValueError(f"{group.prefix}: unknown source {group.source}")
            if unknown := set(group.only_families) - set(self.families):
                raise ValueError(f"{group.prefix}: unknown families {sorted(unknown)}")
        return self

    def without(self, left: LeftOut) -> Efficiencies:
        """The tables less the groups that are left out; bounds of no GPU stay, without them some keys would have nothing."""
        if not left:
            return self
        gpus = {other for name in left.gpus for other in equal_chips(name)}
        kept = (
            group for group in self.groups
            if group.gpu is None
            or (group.gpu not in gpus and group.source not in left.sources and load_gpu(group.gpu).family not in left.families)
        )  # fmt: skip
        return self.model_copy(update={"groups": tuple(kept)})

    def distance(self, family: str, other: str) -> float:
        """Steps between two families, one that is not listed newer than all; of two equally far ones the older is nearer."""
        steps = self._place(other) - self._place(family)
        return abs(steps) + (0.5 if steps > 0 else 0.0)

    def _place(self, family: str) -> int:
        return self.families.index(family) if family in self.families else len(self.families)


class _Families(BaseModel):
    """families.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: tuple[Name, ...]
    other_gpu_residual: Triple
    other_family_residual: Triple


class _Groups(BaseModel):
    """Any other file of the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: dict[str, Source]
    groups: tuple[EfficiencyGroup, ...]


@cache
def load_efficiencies() -> Efficiencies:
    """The committed tables as one. Raises CatalogError with every problem of a file, where two files give a source another
    meaning, or where a group names a GPU of no file.
    """
    head = read_record(_FOLDER / _FAMILIES, _Families)
    files = [read_record(path, _Groups) for path in sorted(_FOLDER.glob("*.yaml")) if path.name != _FAMILIES]
    sources: dict[str, Source] = {}
    for file in files:
        for name, source in file.sources.items():
            if sources.setdefault(name, source) != source:
                raise CatalogError(f"stacks/transfer: two files name different sources {name}")
    groups = tuple(group for file in files for group in file.groups)
    for gpu in {group.gpu for group in groups if group.gpu is not None}:
        load_gpu(gpu)
    return Efficiencies(
        families=head.families,
        other_gpu_residual=head.other_gpu_residual,
        other_family_residual=head.other_family_residual,
        sources=sources,
        groups=groups,
    )
