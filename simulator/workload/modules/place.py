"""Where an operator of the torch model stands: its sizes by the model and the recipe."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.scenario.model import ModelSpec
from simulator.workload.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operator stands. share: of micro-batches whose gradients are added to earlier ones'."""

    model: ModelSpec
    recipe: Recipe
    share: float
    has_shared: bool
    is_moe: bool

    @property
    def tokens(self) -> int:
        """Of a micro-batch."""
        return self.recipe.tokens

    @property
    def hidden(self) -> int:
        """Numbers of a token."""
        return self.tokens * self.model.hidden_size

    @property
    def rows(self) -> int:
        """Of the routed experts."""
        return self.tokens * self.model.moe.top_k if self.model.moe else 0

    @property
    def scores(self) -> int:
        """Of tokens and experts."""
        return self.tokens * self.model.moe.num_routed_experts if self.model.moe else 0
