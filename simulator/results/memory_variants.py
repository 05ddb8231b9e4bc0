"""What the same scenario's memory is under another recompute, another schedule, other number formats and sharding."""

from __future__ import annotations

from typing import Final, Literal, get_args

from pydantic import Field

from simulator.results.document import Bytes, ResultModel
from simulator.results.interval import Estimate
from simulator.results.step_memory import Verdict

VariantKind = Literal["recompute", "schedule", "state"]
"""state: number formats of what is kept, and what data-parallel ranks share of it."""
VARIANT_KINDS: Final[tuple[VariantKind, ...]] = get_args(VariantKind)


class VariantMemory(ResultModel):
    """peak_bytes: of the fullest pipeline rank, pp_rank; by_rank: peaks of all. margin: as of `Memory`."""

    peak_bytes: Bytes
    pp_rank: int = Field(ge=0)
    by_rank: tuple[Bytes, ...] = Field(min_length=1)
    fits: bool
    verdict: Verdict
    margin: Estimate


class MemoryVariant(ResultModel):
    """One change of the scenario. changes: `key=value` texts, none for the scenario as it is.

    memory: absent where the scenario cannot be so: why_not says why, in a line.
    """

    kind: VariantKind
    name: str
    changes: tuple[str, ...]
    memory: VariantMemory | None = None
    why_not: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether it is the scenario as it is."""
        return not self.changes


class MemoryVariants(ResultModel):
    """Variants by kind, in a fixed order. Of recompute and schedule one is the scenario as it is."""

    variants: tuple[MemoryVariant, ...]

    def of(self, kind: VariantKind) -> tuple[MemoryVariant, ...]:
        """Those of a kind."""
        return tuple(variant for variant in self.variants if variant.kind == kind)
