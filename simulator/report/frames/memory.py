"""Memory by stage and named tensor, and under other recompute and schedules."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from simulator.report import numbers
from simulator.report.memory_words import KIND_WORDS, VARIANT_TITLES, keys_of, short_keys, tensor_words
from simulator.results.memory_variants import MemoryVariants, VariantKind
from simulator.results.step_memory import MEMORY_KINDS, Memory, StageMemory, StageTensor


def tensors_of(stage: StageMemory) -> tuple[StageTensor, ...]:
    """The tensors of a stage's peak, largest first; in a document that tells of none, one a kind."""
    if stage.tensors is not None:
        return stage.tensors
    kinds = [StageTensor(name=kind, kind=kind, bytes=stage.bytes_of(kind)) for kind in MEMORY_KINDS]
    return tuple(sorted((tensor for tensor in kinds if tensor.bytes), key=lambda tensor: -tensor.bytes))


def tensors_shown(memory: Memory, pp_rank: int) -> pd.DataFrame:
    """One stage's tensors as texts, largest first: what, kind, size, of the peak, keys that act on it."""
    stage = next(stage for stage in memory.by_stage if stage.pp_rank == pp_rank)
    rows = [
        (
            tensor_words(tensor.name),
            KIND_WORDS[tensor.kind],
            numbers.amount_of_bytes(tensor.bytes),
            numbers.percent(tensor.bytes / stage.peak_bytes),
            short_keys(keys_of(tensor.name)),
        )
        for tensor in tensors_of(stage)
    ]
    return pd.DataFrame(rows, columns=["tensor", "holds", "size", "of the peak", "keys that act on it"])


def variants_shown(
    variants: MemoryVariants, kind: VariantKind, step_s: Mapping[tuple[str, ...], float] | None = None
) -> pd.DataFrame:
    """The variants of a kind as texts: name, peak, change against the scenario as it is, verdict, step where known, changes.

    step_s: simulated step times by the variants' changes.
    """
    rows = []
    own = next((each.memory.peak_bytes for each in variants.variants if each.is_current and each.memory), None)
    for each in variants.of(kind):
        if each.memory is None:
            cells = ["", "", "", "cannot be"]
        else:
            size = numbers.amount_of_bytes(each.memory.peak_bytes)
            change = "" if own is None or each.is_current else numbers.signed_percent(each.memory.peak_bytes / own - 1)
            cells = [size, change, str(each.memory.pp_rank), each.memory.verdict]
        name = f"as it is: {each.name}" if each.is_current else each.name
        times = [] if step_s is None else _times(step_s, each.changes)
        rows.append([name, *cells, *times, ", ".join(each.changes)])
    shown = [] if step_s is None else ["step", "step against as it is"]
    return pd.DataFrame(
        rows, columns=[VARIANT_TITLES[kind], "peak", "against as it is", "fullest rank", "fits?", *shown, "changes"]
    )


def _times(step_s: Mapping[tuple[str, ...], float], changes: tuple[str, ...]) -> list[str]:
    seconds, own = step_s.get(changes), step_s.get(())
    if seconds is None:
        return ["", ""]
    change = "" if own is None or not changes else numbers.signed_percent(seconds / own - 1)
    return [numbers.step_time(seconds), change]
