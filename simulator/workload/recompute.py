"""Which layers of a stage are computed again as a whole, and in which groups (checkpoints).

Megatron-LM's full recompute (megatron/core/transformer/transformer_block.py, _checkpointed_forward): `uniform` cuts a stage's
layers into groups of `num_layers`, keeps the input of each group and computes the group's forward again before its backward;
`block` does so, layer by layer, for the first `num_layers` layers of the stage and leaves the others alone. An MTP module is a
group of its own under `uniform`, and left alone under `block` (multi_token_prediction.py, _checkpointed_forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from simulator.scenario.plan import Recompute


class LayerLike(Protocol):
    """What of a part says whether it is a transformer layer."""

    @property
    def num_attentions(self) -> int: ...
    @property
    def is_behind_head(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How layers are computed again whole. num_layers: layers of a group (uniform), or that are recomputed (block)."""

    method: Literal["uniform", "block"] = "uniform"
    num_layers: int = 1


def checkpoint_of(recompute: Recompute) -> Checkpoint | None:
    """The checkpoints of a scenario; None where no layer is computed again as a whole."""
    if recompute.granularity == "full":
        return Checkpoint(recompute.method, recompute.num_layers or 1)
    return Checkpoint() if "layer" in recompute.modules else None


def module_names(recompute: Recompute) -> frozenset[str]:
    """Modules that every layer computes again by itself: none where whole layers are."""
    return frozenset() if checkpoint_of(recompute) else frozenset(recompute.modules)


def checkpoint_groups(parts: Sequence[LayerLike], checkpoint: Checkpoint | None) -> tuple[tuple[int, ...], ...]:
    """Indices of the parts of a stage that are computed again together, group by group, in forward order."""
    if checkpoint is None:
        return ()
    layers = [idx for idx, part in enumerate(parts) if part.num_attentions and not part.is_behind_head]
    modules = [idx for idx, part in enumerate(parts) if part.num_attentions and part.is_behind_head]
    size = checkpoint.num_layers
    if checkpoint.method == "block":
        return tuple((idx,) for idx in layers[:size])
    groups = [tuple(layers[first : first + size]) for first in range(0, len(layers), size)]
    return (*groups, *((idx,) for idx in modules))
