"""Which groups of efficiencies serve a GPU: its own and those of equal chips, the nearest family's, the nearest datasheet's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from hwprofiles.catalog import list_names, load_gpu
from hwprofiles.efficiencies import Efficiencies, EfficiencyGroup, Triple
from hwprofiles.same_chip import datasheet_distance, is_same_chip
from hwprofiles.schema import Gpu

FITS = ("gemm.", "attention.")
"""Prefixes of groups whose constants belong together: they come from one source."""

TILES = ("bm_max", "bn_max", "bn_step")
SHARES = ("eta", "ecap", "eb")
"""Constants of a GEMM that are counts, and those that no chip has above 1."""

Entry = tuple[EfficiencyGroup, Triple]


@dataclass(frozen=True)
class Found:
    """What a key takes: the entries it is made of, all usable ones, whether they come from another family, and whether all of
    the chosen are of the GPU itself or of equal chips.
    """

    chosen: list[Entry] = field(default_factory=list)
    usable: list[Entry] = field(default_factory=list)
    is_other_family: bool = False
    is_own: bool = False


def added_rate(rate: float, there: Gpu, here: Gpu) -> float | None:
    """Bytes a FLOP at which a weight gradient adds its results to memory `here`, where they do so at `rate` `there`.

    Every stored byte moves two, and where these are no more than the memory's bandwidth, it bounds them: the rate goes with
    it. None where they are more (sums that stay in the cache), so that it goes with the SMs' own.
    """
    a_flop = there.hbm_bytes_per_s / there.peak_flop_per_s["bf16"]
    if 2.0 * rate > a_flop:
        return None
    return rate * here.hbm_bytes_per_s / here.peak_flop_per_s["bf16"] / a_flop


@dataclass(frozen=True)
class Choice:
    """Chooses for one GPU. own_alone: shares measured on the GPU, or on a chip of equal datasheet, are not pooled with others'.

    A share is pooled over all GPUs of the nearest family, which is one of the own vendor where one has it. The constants of a
    fit are of one group: of the nearest family the nearest datasheet's; of several fits on chips equally near the one that
    stands first in its file.
    """

    table: Efficiencies
    target: Gpu
    own_alone: bool = False

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """All keys of the tables, in their order."""
        return tuple(self._entries)

    @cached_property
    def own_groups(self) -> tuple[EfficiencyGroup, ...]:
        """Groups that were measured on the GPU or on a chip of equal datasheet."""
        return tuple(group for group in self.table.groups if self.may_use(group) and self._is_own(group))

    def may_use(self, group: EfficiencyGroup) -> bool:
        """Whether the group is for chips of this family."""
        return not group.only_families or self.target.family in group.only_families

    def found(self, key: str) -> Found:
        """What the key takes; nothing where no group has it. Bounds of no GPU serve only where nobody measured."""
        entries = self._entries.get(key, [])
        usable = [entry for entry in entries if entry[0].gpu is not None and self.may_use(entry[0])]
        if not usable:
            bounds = [entry for entry in entries if entry[0].gpu is None and self.may_use(entry[0])]
            return Found(bounds, bounds)
        far = [self._steps(load_gpu(str(group.gpu))) for group, _ in usable]
        near = [entry for entry, steps in zip(usable, far, strict=True) if steps == min(far)]
        if key.startswith(FITS):
            near = [self._nearest(near)]
        elif self.own_alone:
            near = [entry for entry in near if self._is_own(entry[0])] or near
        is_own = all(self._is_own(group) for group, _ in near)
        families = {load_gpu(str(group.gpu)).family for group, _ in near}
        near = [self._carried(key, *entry) for entry in near]
        return Found(near, usable, is_other_family=families != {self.target.family}, is_own=is_own)

    def _carried(self, key: str, group: EfficiencyGroup, triple: Triple) -> Entry:
        """A constant of a special GEMM (gemm.bf16.wgrad) that another chip has measured than the one of the plain GEMM.

        It is that one's plain constant times the ratio of special to plain where both were measured (of results that memory
        adds up: `added_rate`); tiles and residual stay. All of it is of the state of that one.
        """
        kind, _, rest = group.prefix.partition(".")
        dtype, _, special = rest.partition(".")
        name = key.rpartition(".")[2]
        if kind != "gemm" or not special or len(group.values) == 1:
            return group, triple
        plain = self._entries.get(f"{kind}.{dtype}.{name}", [])
        there = next((entry for entry in plain if entry[0].gpu == group.gpu), None)
        here = self.found(f"{kind}.{dtype}.{name}").chosen if there else []
        if there is None or not here or is_same_chip(load_gpu(str(here[0][0].gpu)), load_gpu(str(group.gpu))):
            return group, triple
        state = here[0][0].state
        if name == "residual" or name in TILES:
            return group.model_copy(update={"state": state}), triple
        ratio, upper = triple[0] / there[1][0], 1.0 if name in SHARES else math.inf
        value = min(here[0][1][0] * ratio, upper)
        if (special, name) == ("wgrad", "st_bytes_per_flop"):
            value = added_rate(triple[0], load_gpu(str(group.gpu)), self._sheet) or value
        ends = (value * triple[1] / triple[0], max(value, min(value * triple[2] / triple[0], upper)))
        note = f"{kind}.{dtype} of {here[0][0].gpu} times the ratio of {special} to it on {group.gpu}"
        return group.model_copy(update={"note": note, "state": state}), (value, *ends)

    def _nearest(self, entries: list[Entry]) -> Entry:
        return min(entries, key=lambda entry: self._unlikeness(entry[0]))

    @cached_property
    def _entries(self) -> dict[str, list[Entry]]:
        """Key → its entries in the files' order."""
        found: dict[str, list[Entry]] = {}
        for group in self.table.groups:
            for name, triple in group.values.items():
                found.setdefault(f"{group.prefix}.{name}" if group.prefix else name, []).append((group, triple))
        return found

    @cached_property
    def _sheet(self) -> Gpu:
        """The datasheet that decides whose groups serve: the catalogue's, also where the target is a what-if of it."""
        name = self.target.name
        return load_gpu(name) if name in list_names("gpus") else self.target

    def _steps(self, gpu: Gpu) -> float:
        """Steps between families; every family of another vendor is farther than all of the own one's."""
        other_vendor = 0.0 if gpu.vendor == self.target.vendor else 2.0 * len(self.table.families)
        return self.table.distance(self.target.family, gpu.family) + other_vendor

    def _is_own(self, group: EfficiencyGroup) -> bool:
        return group.gpu is not None and is_same_chip(load_gpu(group.gpu), self._sheet)

    def _unlikeness(self, group: EfficiencyGroup) -> tuple[bool, float]:
        return not self._is_own(group), datasheet_distance(load_gpu(str(group.gpu)), self._sheet)
