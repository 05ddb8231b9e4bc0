"""Variants of a scenario's memory are what a run with the same changes says, and what cannot be says why."""

from __future__ import annotations

from functools import cache

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.results.memory_variants import MemoryVariants
from simulator.schedule import SCHEDULES
from simulator.step.memory_variants import changed, memory_variants
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared

PRESET = "mixtral-8x22b"
SETS = ("draws=1", "mechanisms.imbalance=false")


@cache
def variants(*sets: str, preset: str = PRESET) -> MemoryVariants:
    return memory_variants(load_scenario(preset, [*SETS, *sets]))


@pytest.mark.parametrize("kind", ["recompute", "schedule"])
def test_each_kind_holds_the_scenario_as_it_is_once(kind: str) -> None:
    own = variants().of(kind)  # type: ignore[arg-type]
    (current,) = (each for each in own if each.is_current)
    memory = simulate_prepared(prepare(load_scenario(PRESET, SETS)), explained=False).memory
    assert current.memory is not None
    assert current.memory.peak_bytes == memory.peak_bytes_per_gpu
    assert current.memory.by_rank == tuple(stage.peak_bytes for stage in memory.by_stage)
    assert (current.memory.verdict, current.memory.fits) == (memory.verdict, memory.fits)


def test_a_variant_is_a_run_with_its_changes() -> None:
    row = next(each for each in variants().of("schedule") if each.name == "dualpipe")
    assert row.changes[0] == "parallel.schedule=dualpipe"
    memory = simulate_prepared(prepare(load_scenario(PRESET, [*SETS, *row.changes])), explained=False).memory
    assert row.memory is not None and row.memory.peak_bytes == memory.peak_bytes_per_gpu
    assert row.memory.pp_rank == memory.worst_stage.pp_rank


def test_more_recompute_is_less_memory() -> None:
    rows = {each.name: each.memory.peak_bytes for each in variants().of("recompute") if each.memory}
    assert rows["none"] > rows["rmsnorm, swiglu"] >= rows["attention too"] > rows["moe too"] > rows["full"]
    assert rows["none"] > rows["experts too"] > rows["moe too"], "routed experts alone keep what came over the network"


def test_modules_that_the_model_has_not_are_left_out() -> None:
    names = [each.name for each in variants().of("recompute")]
    assert names == ["none", "rmsnorm, swiglu", "attention too", "moe too", "experts too", "full"]
    dense = [each.name for each in variants(preset="llama-3.1-70b").of("recompute")]
    assert (
        "moe too" not in dense
        and "moe" not in dense
        and "gemms too" in dense
        and dense[0] == "none"
        and dense[-1] == "full"
    )


def test_every_registered_schedule_is_there_or_says_why_not() -> None:
    rows = variants().of("schedule")
    assert [each.name for each in rows] == list(SCHEDULES.names())
    for each in rows:
        assert (each.memory is None) == (each.why_not is not None)
    refused = next(each for each in rows if each.name == "interleaved_1f1b")
    assert refused.why_not is not None and "14" in refused.why_not and "next valid" in refused.why_not


def test_formats_and_sharding_that_the_scenario_has_not_make_it_smaller_or_say_why_not() -> None:
    rows = variants().of("state")
    names = [each.name for each in rows]
    assert names[:3] == ["ZeRO 2", "ZeRO 3", "gradients in BF16"]
    own = next(each.memory.peak_bytes for each in variants().variants if each.is_current and each.memory)
    sizes = {each.name: each.memory.peak_bytes for each in rows if each.memory is not None}
    assert all(size <= own for size in sizes.values())
    assert sizes["gradients in BF16"] < own and sizes["moments in BF16, no master weights"] < own
    quantised = ("precision.recipe=fp8-blockwise", "precision.primary_weights=quantised")
    fp8 = variants(*quantised, "recompute.saved.attn_out=e5m6").of("state")
    (refused,) = (each for each in fp8 if each.name == "ZeRO 3")
    assert refused.why_not is not None and "zero_stage" in refused.why_not
    assert "attention output kept in E5M6" not in [each.name for each in fp8], "it has that"


def test_what_is_recomputed_whole_can_go_back() -> None:
    full = variants("recompute={granularity: full, method: block, num_layers: 2}")
    names = [each.name for each in full.of("recompute")]
    assert names == ["none", "rmsnorm", "swiglu", "attention", "moe", "experts", "full"]
    assert [each.is_current for each in full.of("recompute")] == [False] * 6 + [True]
    assert all(each.memory for each in full.of("recompute"))
    plain = {each.name: each.memory for each in variants().of("recompute")}
    assert next(each.memory for each in full.of("recompute")) == plain["none"]


def test_progress_is_told_and_a_scenario_that_is_none_is_refused() -> None:
    told: list[float] = []
    memory_variants(load_scenario(PRESET, SETS), told.append)
    assert told == sorted(told) and told[-1] == 1.0
    with pytest.raises(InputError, match=r"parallel\.schedule"):
        changed(load_scenario(PRESET, SETS), ("parallel.schedule=nothing",))
