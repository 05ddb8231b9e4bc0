"""What the scenario format can say and the simulator does not model yet: refused with what to do instead.

A mechanism that arrives takes its line away here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hwprofiles.problems import show
from hwprofiles.yaml_file import KeyPath


@dataclass(frozen=True, slots=True)
class Limit:
    """Values of a key that are modelled now, and what to do instead of the others."""

    key: str
    modelled: tuple[Any, ...]
    instead: str


LIMITS: Final[tuple[Limit, ...]] = (
    Limit("framework", (None,), "leave it out and write the keys that differ"),
    Limit("parallel.tp", (1,), "use tp: 1 and spread the model with pp and ep"),
    Limit("parallel.cp", (1,), "use cp: 1"),
    Limit("parallel.vpp", (1,), "use vpp: 1 with schedule gpipe, 1f1b or dualpipe"),
    Limit("parallel.etp", (1,), "use etp: 1 and more ep"),
    Limit("parallel.zero_stage", (1,), "use zero_stage: 1"),
    Limit("parallel.sequence_parallel", (False,), "use sequence_parallel: false (it acts with tp > 1)"),
    Limit("parallel.schedule", ("gpipe", "1f1b", "dualpipe"), "use gpipe, 1f1b or dualpipe"),
    Limit("parallel.overlap.ep", (None, "pair", "none"), "use pair or none"),
    Limit("parallel.overlap.pp", (True,), "use pp: true, or mechanisms.pp_transfer: false for free transfers"),
    Limit("parallel.overlap.tp", ("none",), "use tp: none"),
    Limit("parallel.rank_order", ("tp-cp-ep-dp-pp",), "use rank_order: tp-cp-ep-dp-pp"),
    Limit("data_parallel.param_gather.overlap", (False,), "use overlap: false"),
    Limit("data_parallel.param_gather.dtype", ("bf16",), "use dtype: bf16"),
    Limit("data_parallel.bucket_bytes", (None,), "use bucket_bytes: null"),
    Limit("data_parallel.hsdp_group", (None,), "use hsdp_group: null"),
    Limit("training.packing", ("none",), "use packing: none"),
    Limit("training.padding_fraction", (0,), "use padding_fraction: 0"),
    Limit("precision.recipe", ("bf16", "fp8-blockwise"), "use bf16 or fp8-blockwise"),
    Limit("precision.head", ("bf16",), "use head: bf16"),
    Limit("precision.attention", ("bf16",), "use attention: bf16"),
    Limit("precision.wgrad_accumulate", ("fp32",), "use wgrad_accumulate: fp32"),
    Limit("precision.fp8_weight_cache", ("per_step", "none"), "use fp8_weight_cache: per_step"),
    Limit("moe.dispatcher", ("deepep",), "use dispatcher: deepep"),
    Limit("moe.combine_dtype", ("bf16",), "use combine_dtype: bf16"),
    Limit("moe.capacity_factor", (None,), "use capacity_factor: null (no token is dropped)"),
    Limit("moe.drop", ("none",), "use drop: none"),
    Limit("moe.row_padding", (128,), "use row_padding: 128"),
    Limit("moe.permute_fusion", (True,), "use permute_fusion: true"),
    Limit("moe.host_sync", ("none",), "use host_sync: none"),
    Limit("recompute.granularity", ("none", "selective"), "use selective with modules"),
    Limit("recompute.modules", ("rmsnorm", "mla_up_proj", "swiglu"), "use modules of rmsnorm, mla_up_proj, swiglu"),
    Limit("recompute.saved.attn_out", ("bf16", "e5m6"), "use bf16 or e5m6"),
    Limit("head.cross_entropy", ("fused",), "use cross_entropy: fused"),
    Limit("head.chunk_tokens", (None,), "use chunk_tokens: null"),
    Limit("host.cuda_graph", ("none",), "use cuda_graph: none"),
    Limit("host.launch_s", (None,), "use launch_s: null"),
    Limit("device.power_cap_w", (None,), "use power_cap_w: null"),
    Limit("reliability", (None,), "use reliability: null; the result then says that no failures are included"),
    Limit("phases.*.kind", ("pretrain",), "use kind: pretrain"),
    Limit("phases.*.batch_ramp.shape", ("linear",), "use shape: linear, or leave batch_ramp out"),
    Limit("phases.*.batch_ramp.schedule_below", (None, "gpipe", "1f1b"), "use gpipe or 1f1b"),
)

PHASE_OVERRIDES: Final = (
    "model", "cluster", "stack", "framework", "parallel", "data_parallel", "training", "precision", "moe", "recompute",
    "head", "host", "device", "reliability", "prices", "seq_len", "global_batch_size", "micro_batch_size", "samples",
    "epochs",
)  # fmt: skip
"""Keys of a phase that the format has and that are not modelled yet."""


def take_unmodelled(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(key path, message) for keys whose mechanism does not exist; they leave `data`, so that the rest is checked."""
    if data.get("reliability") is not None:
        yield ("reliability",), _text(data.pop("reliability"), _instead("reliability"))
    phases = data.get("phases")
    for idx, phase in enumerate(phases if isinstance(phases, list) else ()):
        for key in [key for key in PHASE_OVERRIDES if isinstance(phase, dict) and key in phase]:
            value = phase.pop(key)
            if value is not None:
                yield ("phases", idx, key), _text(value, "run a scenario file of its own for this phase")


def unmodelled(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(key path, message) for values whose mechanism does not exist."""
    for limit in LIMITS:
        for path, value in _values(data, tuple(limit.key.split("."))):
            if isinstance(value, list) and limit.key == "recompute.modules":
                values = value
            else:
                values = [value]
            for entry in values:
                if not any(type(entry) is type(known) and entry == known for known in _as_written(limit, entry)):
                    yield path, _text(entry, limit.instead)


def _as_written(limit: Limit, entry: Any) -> tuple[Any, ...]:
    """The modelled values; a float may stand for a whole number where the field is a float."""
    return tuple(float(known) if isinstance(entry, float) and type(known) is int else known for known in limit.modelled)


def _instead(key: str) -> str:
    return next(limit.instead for limit in LIMITS if limit.key == key)


def _text(value: object, instead: str) -> str:
    return f"not modelled yet ({show(value)}); {instead}"


def _values(data: Any, parts: tuple[str, ...], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """(path, value) of a dotted key; * stands for every entry of a list."""
    if not parts:
        yield path, data
    elif parts[0] == "*":
        for idx, entry in enumerate(data if isinstance(data, list) else ()):
            yield from _values(entry, parts[1:], (*path, idx))
    elif isinstance(data, Mapping) and parts[0] in data:
        yield from _values(data[parts[0]], parts[1:], (*path, parts[0]))
