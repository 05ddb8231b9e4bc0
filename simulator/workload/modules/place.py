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

    def activation(self, name: str) -> tuple[int, int]:
        """Of the feed-forward network of an operator of that name: width of the activation's output, and its rows."""
        return activation_width(self.model, name), self.rows if name.startswith("expert") else self.tokens

    @property
    def scores(self) -> int:
        """Of tokens and experts."""
        return self.tokens * self.model.moe.num_routed_experts if self.model.moe else 0


def activation_width(model: ModelSpec, name: str) -> int:
    """Numbers of a row of the activation's output in the feed-forward network of an operator of that name."""
    if name.startswith("ffn"):
        assert model.dense_ffn
        return model.dense_ffn.intermediate_size
    assert model.moe
    return model.moe.expert_intermediate_size * (1 if name.startswith("expert") else model.moe.num_shared_experts)
