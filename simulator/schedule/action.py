"""A schedule is a value: the order of actions of every pipeline rank. Knows no seconds, no model, no hardware.

Terms: F forward; B full backward (input and weights); I backward for the input only; W backward for the weights only;
FB one forward and one full backward of two different micro-batches, overlapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["F", "B", "I", "W", "FB"]


@dataclass(frozen=True, slots=True)
class Action:
    """One entry of a rank's order.

    stage, micro_batch: of the F, B, I or W; of an FB, of its forward half. b_stage, b_micro_batch: its backward half.
    Prints as the notation of the field: "3F17" is the forward of micro-batch 17 on stage 3, "3F17&12B4" a pair.
    """

    kind: Kind
    stage: int
    micro_batch: int
    b_stage: int | None = None
    b_micro_batch: int | None = None

    def __str__(self) -> str:
        if self.kind == "FB":
            return f"{self.stage}F{self.micro_batch}&{self.b_stage}B{self.b_micro_batch}"
        return f"{self.stage}{self.kind}{self.micro_batch}"

    def halves(self) -> tuple[tuple[Kind, int, int], ...]:
        """(kind, stage, micro-batch) of what it does: two entries for an FB, else one."""
        if self.kind == "FB":
            assert self.b_stage is not None and self.b_micro_batch is not None
            return (("F", self.stage, self.micro_batch), ("B", self.b_stage, self.b_micro_batch))
        return ((self.kind, self.stage, self.micro_batch),)


@dataclass(frozen=True)
class Schedule:
    """The order of actions of every rank, and which ranks hold which stage.

    placement[rank]: the stages that the rank holds, ascending (schedule/placement.py). `holders(stage)` are the ranks that
    execute it: two in DualPipe (stage s on ranks s and P-1-s), one elsewhere.
    direction[micro_batch]: 0, or 1 where the micro-batch enters at the other end of the pipeline (DualPipe): stage s of
    a micro-batch of direction 0 runs on rank s, of direction 1 on rank P-1-s.
    Invariants (kept by schedule/check.py): every (stage, micro-batch) has one F and one B, or one F, one I and one W;
    an action never precedes what it needs on its own rank; executing the orders reaches the end (no deadlock).
    """

    name: str
    num_ranks: int
    num_stages: int
    num_micro_batches: int
    ranks: tuple[tuple[Action, ...], ...]
    placement: tuple[tuple[int, ...], ...]
    direction: tuple[int, ...]

    def __hash__(self) -> int:
        """Cheap: of the counts alone, not of the orders."""
        return hash((self.name, self.num_ranks, self.num_stages, self.num_micro_batches))

    @cached_property
    def _ranks_of(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The rank of each stage for micro-batches of direction 0, and of direction 1."""
        first = dict[int, int]()
        for rank, stages in enumerate(self.placement):
            for stage in stages:
                first.setdefault(stage, rank)
        alone = tuple(first.get(stage, -1) for stage in range(self.num_stages))
        if len(self.holders(0)) == 1:
            return alone, alone
        return tuple(range(self.num_stages)), tuple(reversed(range(self.num_stages)))

    def rank_of(self, stage: int, micro_batch: int) -> int:
        """The rank on which this stage of this micro-batch runs."""
        return self._ranks_of[self.direction[micro_batch]][stage]

    @property
    def vpp(self) -> int:
        """Chunks of the model a rank: 1 without virtual stages (and in DualPipe, whose stages stand on two ranks)."""
        return self.num_stages // self.num_ranks

    def holders(self, stage: int) -> list[int]:
        """The ranks that hold the stage, ascending."""
        return [rank for rank, stages in enumerate(self.placement) if stage in stages]
