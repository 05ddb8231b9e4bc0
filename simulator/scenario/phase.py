"""A phase of a run: how long it is, how its batch grows, and what it does otherwise than the scenario around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from simulator.scenario.parallel import ScheduleName
from simulator.scenario.phase_kinds import KindKeys
from simulator.scenario.section import Section, Text, Tokens

SECTIONS: Final = (
    "model", "cluster", "stack", "framework", "kernels", "parallel", "data_parallel", "training", "precision", "moe",
    "recompute", "offload", "head", "host", "device", "prices",
)  # fmt: skip
"""Keys of a scenario that a phase may give in its own way."""

SHORTCUTS: Final = frozenset({"seq_len", "global_batch_size", "micro_batch_size"})
"""Keys of `training` that may stand in the phase itself."""


_ABSENT: Final = {**dict.fromkeys(SECTIONS), **{key: field.default for key, field in KindKeys.model_fields.items()}}
"""Key → the value that says nothing."""


class BatchRamp(Section):
    """The global batch grows from `from` to training.global_batch_size over the phase's first `over_tokens` tokens."""

    from_: Annotated[int, Field(ge=1, le=100_000_000, alias="from")]
    """Sequences of the first step."""
    over_tokens: Tokens
    schedule_below: ScheduleName | None = None
    """Schedule while the micro-batches are too few for parallel.schedule."""


class Phase(KindKeys):
    """A part of the run; exactly one of tokens and steps says how long a pre-training is, other kinds have keys of their own.

    Its sections hold what differs from the scenario's own, key by key; null: nothing does. A file may write single keys, and
    seq_len, global_batch_size, micro_batch_size for those of training: the loader lays them over the scenario as one more file
    and leaves the difference here.
    """

    name: Text
    tokens: Tokens | None = None
    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    batch_ramp: BatchRamp | None = None
    model: Any = None
    cluster: Any = None
    stack: Any = None
    framework: Any = None
    kernels: Any = None
    parallel: Any = None
    data_parallel: Any = None
    training: Any = None
    precision: Any = None
    moe: Any = None
    recompute: Any = None
    offload: Any = None
    head: Any = None
    host: Any = None
    device: Any = None
    prices: Any = None

    @property
    def changes(self) -> Mapping[str, Any]:
        """Section → what the phase says of it otherwise than the scenario; empty where it trains as the scenario does."""
        return {key: getattr(self, key) for key in SECTIONS if getattr(self, key) is not None}

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Sections that the phase does not change leave no trace, nor do keys of other kinds than its own."""
        return {key: value for key, value in handler(self).items() if key not in _ABSENT or value != _ABSENT[key]}
