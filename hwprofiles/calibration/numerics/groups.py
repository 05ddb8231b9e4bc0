"""Rows sorted by expert, and where each expert's rows begin once they are padded to a multiple."""

from __future__ import annotations

from dataclasses import dataclass
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
        counts = torch.tensor(self.counts)
        shifts = torch.tensor(to.starts) - torch.tensor(self.starts)
        places = torch.arange(len(rows)) + shifts.repeat_interleave(counts)
        return rows.new_zeros(sum(to.counts), rows.shape[1]).index_copy_(0, places.to(rows.device), rows)

    def sources(self, within: Groups) -> Tensor:
        """Of each row that `within` has, which of the rows stands there: (r,) int64 on the CPU, -1 for none."""
        result = torch.full((sum(within.counts),), -1)
        for start, part in zip(self.starts, self.slices(within), strict=True):
            result[part] = torch.arange(start, start + part.stop - part.start)
        return result

    def repeated(self, values: Tensor) -> Tensor:
        """Of values (e, c), each group's for each of its rows: (r, c)."""
        if len(self.counts) == 1:
            return values
        counts = torch.tensor(self.counts, device=values.device)
        return values.repeat_interleave(counts, dim=0, output_size=sum(self.counts))

    def slices(self, within: Groups) -> tuple[slice, ...]:
        """Each group's own rows where `within` has them."""
        return tuple(slice(start, start + count) for start, count in zip(within.starts, self.counts, strict=True))
