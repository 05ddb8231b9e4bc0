"""What the documented interface names and nothing computes yet: one table, which refusals alone read.

The schema, the catalogues, the help and the hints offer only what runs. A mechanism that arrives takes its line away here.
Imports nothing of ours, so that every room and the command line can use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["key", "value", "command", "catalogue", "format"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One entry of the documented interface without a mechanism.

    name: dotted key (* stands for every phase), command, kind of `list`, or format of a report. instead: what to do, for the
    refusal.
    now: of a key, what it may say: the value that says how things are anyway, for files that give every key.
    values: of a key of the schema, the planned values.
    """

    kind: Kind
    name: str
    instead: str
    now: tuple[Any, ...] = ()
    values: tuple[str, ...] = ()


def _key(name: str, instead: str, *now: Any) -> Planned:
    return Planned("key", name, instead, now=now)


def _value(name: str, instead: str, *values: str) -> Planned:
    return Planned("value", name, instead, values=values)


_PHASE = "run a scenario file of its own for this phase"
_ADAPTERS = (
    "train all weights (leave it out): small matrices beside frozen weights leave out their gradients and optimizer state, so "
    "that memory, weight gradients and reductions are others"
)
_LISTED = ""
"""The refusal lists what the key's type or its family has instead."""

TABLE: Final[tuple[Planned, ...]] = (
    _key("parallel.rank_order", "use rank_order: tp-cp-ep-dp-pp", "tp-cp-ep-dp-pp"),
    _key("precision.head", "use head: bf16", "bf16"),
    _key("precision.attention", "use attention: bf16", "bf16"),
    _key("precision.wgrad_accumulate", "use wgrad_accumulate: fp32", "fp32"),
    _key("reliability", "use reliability: null; the result then says that no failures are included", None),
    _key("phases.*.sft.method", _ADAPTERS, "full"),
    _key("phases.*.sft.lora", _ADAPTERS, None),
    _key("phases.*.batch_ramp.shape", "use shape: linear, or leave batch_ramp out", "linear"),
    _key("phases.*.reliability", _PHASE, None),
    _value("model", "write its dimensions as keys of moesim's own model file (see `moesim schema`)", "config.json"),
    _value("cluster.fabric.topology", _LISTED, "torus"),
    _value("precision.fp8_weight_cache", "leave it out: the recipe sets it", "per_micro_batch"),
    _value("recompute.saved.attn_out", _LISTED, "fp8"),
    Planned("command", "explain", "use run, which prints the parts of a step and what binds it"),
    Planned("command", "trace", "use run, which prints the parts of a step by rank"),
    Planned("command", "sweep", "use run --set in a loop"),
    Planned("command", "search", "use run --set in a loop"),
    Planned("command", "import", "write the model's dimensions as a YAML file (see `moesim schema`)"),
    Planned("command", "claims", "use run"),
    Planned("command", "init", "start from a preset: extends: NAME (see `moesim list presets`)"),
    Planned("format", "focus", "use csv, and map its columns to your cost system's"),
    Planned("format", "pdf", "use html, and print it to a PDF file: it has a style for print"),
)  # fmt: skip


def entries(kind: Kind) -> tuple[Planned, ...]:
    """The entries of one kind, in the table's order."""
    return tuple(entry for entry in TABLE if entry.kind == kind)


def values(name: str) -> tuple[str, ...]:
    """The planned values of a key."""
    return tuple(value for entry in entries("value") if entry.name == name for value in entry.values)


def instead(kind: Kind, name: str) -> str | None:
    """What to do instead of a planned command, catalogue or key; None where the name is not planned."""
    return next((entry.instead for entry in entries(kind) if entry.name == name), None)
