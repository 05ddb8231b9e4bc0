"""Laws of the memory of two scenarios: recompute and sequence length. No step is simulated."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.assembly.memory_peak import RankMemory
from simulator.scenario import derived
from simulator.schedule import SCHEDULES, Schedule
from simulator.step.graph import order_of_actions
from simulator.step.memory import rank_memories
from simulator.step.prepared import count, memory_question
from tests.laws.runs import changed
from tests.laws.scenarios import LAW, Document, scenarios

MODULES = ("rmsnorm", "mla_up_proj", "swiglu")
SETS = [frozenset(taken) for count in range(len(MODULES) + 1) for taken in combinations(MODULES, count)]


def memories(document: Document) -> tuple[RankMemory, ...]:
    scenario = load_scenario(document)
    return rank_memories(memory_question(count(scenario)), order_of_actions(scenario))


def recomputing(document: Document, modules: frozenset[str]) -> Document:
    """The scenario with these modules recomputed and the formats of what is saved unchanged."""
    granularity = "selective" if modules else "none"
    plain = {"method": "uniform", "num_layers": None}
    return changed(document, recompute={"granularity": granularity, "modules": sorted(modules), **plain})


def most_in_flight(schedule: Schedule, rank: int) -> int:
    """Most micro-batches whose forward a rank has done and whose backward it has not."""
    live = most = 0
    for action in schedule.ranks[rank]:
        kinds = [kind for kind, _, _ in action.halves()]
        live += kinds.count("F")
        most = max(most, live)
        live -= kinds.count("B") + kinds.count("W")
    return most


def busy_ranks(document: Document) -> list[int]:
    """Ranks with at least two layers and two micro-batches in flight: with less, the work in hand is all there is."""
    scenario = load_scenario(document)
    schedule, layout = order_of_actions(scenario), derived.layout(scenario)
    layers = [sum(sum(code in ("d", "m") for code in layout[s]) for s in held) for held in schedule.placement]
    return [rank for rank, count in enumerate(layers) if count >= 2 and most_in_flight(schedule, rank) >= 2]


@pytest.mark.slow
@settings(LAW, max_examples=10)
@given(scenarios())
def test_more_recompute_is_never_more_memory(document: Document) -> None:
    """Without CUDA graphs, whose pool keeps the largest working set of a block, recomputation included."""
    document = changed(document, host={"cuda_graph": "none"})
    busy = busy_ranks(document)
    by_set = {modules: memories(recomputing(document, modules)) for modules in SETS}
    for fewer, more in ((a, b) for a in SETS for b in SETS if a < b):
        for rank in busy:
            light, heavy = by_set[more][rank], by_set[fewer][rank]
            assert light.peak_bytes <= heavy.peak_bytes, (rank, sorted(fewer), sorted(more))


@settings(LAW, max_examples=10)
@given(scenarios())
def test_a_checkpoint_of_each_layer_keeps_least(document: Document) -> None:
    """No more than nothing recomputed, or the first layer of each stage alone; on busy ranks, without CUDA graphs as above."""
    document = changed(document, host={"cuda_graph": "none"})
    assume(not SCHEDULES[document["parallel"]["schedule"]].pairs_by_layer)  # these pair layers that keep what they need
    full = {"granularity": "full", "modules": [], "method": "uniform", "num_layers": 1}
    least = memories(changed(document, recompute=full))
    none = memories(recomputing(document, frozenset()))
    one = memories(changed(document, recompute={**full, "method": "block"}))
    for rank in busy_ranks(document):
        assert least[rank].peak_bytes <= one[rank].peak_bytes <= none[rank].peak_bytes


@settings(LAW, max_examples=10)
@given(scenarios(), st.integers(2, 5))
def test_longer_sequences_are_never_less_memory(document: Document, times: int) -> None:
    tokens = document["training"]["seq_len"] * times - document["parallel"]["tp"]
    longer = changed(document, training={"seq_len": tokens})
    for short, long in zip(memories(document), memories(longer), strict=True):
        assert short.activations_bytes <= long.activations_bytes
        assert short.buffers_bytes <= long.buffers_bytes
        assert short.peak_bytes <= long.peak_bytes


@settings(LAW, max_examples=10)
@given(scenarios())
def test_more_micro_batches_are_never_less_memory(document: Document) -> None:
    """More micro-batches fill the pipeline more, or as much."""
    batch = document["training"]["global_batch_size"]
    for few, many in zip(
        memories(document), memories(changed(document, training={"global_batch_size": 2 * batch})), strict=True
    ):
        assert few.peak_bytes <= many.peak_bytes


@settings(LAW, max_examples=10)
@given(scenarios(is_moe=True))
def test_more_expert_ranks_hold_fewer_expert_weights(document: Document) -> None:
    """All that is held of a model's state; weights and gradients also each by itself, unless with ZeRO 3 every parameter has
    one holder left: nothing is gathered then, and BF16 weights stay.
    """
    ep = document["parallel"]["ep"]
    assume(
        ep > (2 if SCHEDULES[document["parallel"]["schedule"]].pairs_by_layer else 1)
    )  # these refuse a single expert rank
    narrow = changed(document, parallel={"ep": ep // 2}, moe={"max_nodes_per_token": None})
    for wide, whole in zip(memories(document), memories(narrow), strict=True):
        states = [each.weights_bytes + each.gradients_bytes + each.optimizer_bytes for each in (wide, whole)]
        assert states[0] <= states[1]
        if ("weights.gathered" in wide.tensors) == ("weights.gathered" in whole.tensors):
            assert wide.weights_bytes <= whole.weights_bytes
            assert wide.gradients_bytes <= whole.gradients_bytes
