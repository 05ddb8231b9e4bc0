"""Rows sorted by expert, and where each expert's rows begin once they are padded to a multiple."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Groups:
    """Counts of consecutive rows, zeros allowed."""

    counts: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """First row of each group."""
        return tuple(accumulate(self.counts, initial=0))[:-1]

    def padded(self, multiple: int, *, at_least: int = 0) -> Groups:
        """Each count rounded up to a multiple, and to at_least."""
        return Groups(tuple(max(count + -count % multiple, at_least) for count in self.counts))

    def spread(self, rows: Tensor, to: Groups) -> Tensor:
        """Rows (r, c) where `to` has them, zeros between; the rows themselves where they lie so already."""
        if to.counts == self.counts:
            return rows
        if len(self.counts) == 1:
            return functional.pad(rows, (0, 0, 0, to.counts[0] - self.counts[0]))
        return rows.new_zeros(sum(to.counts), rows.shape[1]).index_copy_(0, _places(self, to, rows.device), rows)

    def sources(self, within: Groups, device: torch.device) -> Tensor:
        """Of each row that `within` has, which of the rows stands there: (r,) int64, -1 for none."""
        return _sources(self, within, device)

    def repeated(self, values: Tensor) -> Tensor:
        """Of values (e, c), each group's for each of its rows: (r, c)."""
        if len(self.counts) == 1:
            return values
        return values.index_select(0, _owners(self, values.device))

    def ends(self, device: torch.device) -> Tensor:
        """Behind the last row of each group: (e,) int32."""
        return _ends(self, device)

    def slices(self, within: Groups) -> tuple[slice, ...]:
        """Each group's own rows where `within` has them."""
        return tuple(slice(start, start + count) for start, count in zip(within.starts, self.counts, strict=True))


# A layer's products have the same groups; and what is copied to a GPU makes the host wait for it.


@lru_cache(maxsize=32)
def _places(groups: Groups, to: Groups, device: torch.device) -> Tensor:
    shifts = torch.tensor(to.starts) - torch.tensor(groups.starts)
    places = torch.arange(sum(groups.counts)) + shifts.repeat_interleave(torch.tensor(groups.counts))
    return places.to(device)


@lru_cache(maxsize=32)
def _sources(groups: Groups, within: Groups, device: torch.device) -> Tensor:
    result = torch.full((sum(within.counts),), -1)
    for start, part in zip(groups.starts, groups.slices(within), strict=True):
        result[part] = torch.arange(start, start + part.stop - part.start)
    return result.to(device)


@lru_cache(maxsize=32)
def _owners(groups: Groups, device: torch.device) -> Tensor:
    """(r,) int64: the group of each row."""
    return torch.arange(len(groups.counts)).repeat_interleave(torch.tensor(groups.counts)).to(device)


@lru_cache(maxsize=32)
def _ends(groups: Groups, device: torch.device) -> Tensor:
    return torch.tensor(groups.counts).cumsum(0).to(torch.int32).to(device)
