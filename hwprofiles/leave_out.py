"""What a prediction may not know: groups of efficiencies and measured stacks that validation leaves out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was measured on these GPUs or on chips of equal datasheet, comes from these sources (by the names that
    stacks/transfer and the stacks' provenance.yaml use), or is of these families. A stack that is built without it uses none.
    """

    gpus: frozenset[str] = field(default_factory=frozenset)
    sources: frozenset[str] = field(default_factory=frozenset)
    families: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return bool(self.gpus or self.sources or self.families)

    def __str__(self) -> str:
        """In words, one order whatever the sets' order."""
        parts = (("GPU", self.gpus), ("source", self.sources), ("family", self.families))
        return "; ".join(f"{what} {', '.join(sorted(names))}" for what, names in parts if names)


NOTHING: Final = LeftOut()
