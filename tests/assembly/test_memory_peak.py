"""Laws of the peak: what is allocated is freed, schedules keep what they must, the walk is exact."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.assembly.memory_peak import RankMemory, peak_of, rank_memory
from simulator.errors import InconsistentSimulation
from simulator.scenario import derived
from simulator.schedule.action import Action, Kind, Schedule
from simulator.schedule.family import SCHEDULES, build_schedule
from simulator.workload.casts.separate import SeparateCasts
from simulator.workload.memory import activation_recipe, buffer_tensors, state_recipe
from simulator.workload.model_state import RankState, rank_states, stage_params
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe
from simulator.workload.stages import build_workload, stage_blocks
from simulator.workload.tensors import BlockMemory, Tensor, total_bytes
from tests.workload.memory_cases import ASSUMED, DENSE, FP8, MODULES, V3, scenario

UNIT = (BlockMemory("unit", (Tensor("saved", 1, "W"),)),)
NOTHING = RankState((), (), ())
DEVICE_BYTES = 84_943_110_144
"""H800, device record of the training trace of deepseek-ai/profile-data."""


def chunks(name: str, num_ranks: int, num_micro_batches: int) -> list[int]:
    """Most micro-batch stages in flight a rank."""
    schedule = build_schedule(name, num_ranks, num_micro_batches)
    memory = rank_memory(schedule, [UNIT] * schedule.num_stages, [NOTHING] * num_ranks, [()] * num_ranks)
    return [rank.peak_bytes for rank in memory]


@given(num_ranks=st.integers(1, 8), num_micro_batches=st.integers(1, 20))
def test_gpipe_keeps_all_micro_batches_and_1f1b_those_downstream(num_ranks: int, num_micro_batches: int) -> None:
    assert chunks("gpipe", num_ranks, num_micro_batches) == [num_micro_batches] * num_ranks
    expected = [min(num_ranks - rank, num_micro_batches) for rank in range(num_ranks)]
    assert chunks("1f1b", num_ranks, num_micro_batches) == expected


@given(num_ranks=st.integers(2, 6), groups=st.integers(1, 4), vpp=st.integers(2, 4))
def test_interleaving_keeps_the_chunks_of_its_warm_up_and_one(num_ranks: int, groups: int, vpp: int) -> None:
    """2 (P - 1 - r) + (v - 1) P + 1 chunks, of which those of the first chunk are the fuller ones where it alone keeps more."""
    schedule = build_schedule("interleaved_1f1b", num_ranks, groups * num_ranks, vpp)
    held = [NOTHING] * num_ranks

    def peaks(first: int) -> list[int]:
        """first: bytes that a passage through a rank's first chunk keeps; the others keep 1."""
        blocks = [
            (BlockMemory("unit", (Tensor("saved", first if s < num_ranks else 1, "W"),)),)
            for s in range(num_ranks * vpp)
        ]
        return [rank.peak_bytes for rank in rank_memory(schedule, blocks, held, [()] * num_ranks)]

    most = [2 * (num_ranks - 1 - rank) + (vpp - 1) * num_ranks + 1 for rank in range(num_ranks)]
    assert peaks(1) == [min(each, groups * num_ranks * vpp) for each in most]
    fuller = [max(_weighed(schedule, rank, 100)) for rank in range(num_ranks)]
    assert peaks(100) == fuller


def _weighed(schedule: Schedule, rank: int, first: int) -> list[int]:
    """Bytes after each action of a rank, counted action by action."""
    live, found = 0, []
    for action in schedule.ranks[rank]:
        live += (first if action.stage < schedule.num_ranks else 1) * (1 if action.kind == "F" else -1)
        found.append(live)
    return found


@pytest.mark.parametrize("num_ranks", [2, 4, 8, 16])
@pytest.mark.parametrize("extra", [0, 2, 10])
def test_dualpipe_keeps_one_micro_batch_more_than_ranks(num_ranks: int, extra: int) -> None:
    """Table 2 of the DeepSeek-V3 report: PP + 1 activations. Without pairs of the same rank's kind it is PP."""
    counts = chunks("dualpipe", num_ranks, 2 * num_ranks + extra)
    assert max(counts) == num_ranks + 1
    assert min(counts) >= num_ranks


def blocks_strategy() -> st.SearchStrategy[tuple[BlockMemory, ...]]:
    size, until = st.integers(0, 50), st.sampled_from(["I", "W"])
    saved = st.lists(st.builds(Tensor, st.sampled_from("abc"), size, until), max_size=3).map(tuple)
    waiting = st.lists(
        st.builds(Tensor, st.sampled_from("xy"), size, st.just("W"), st.booleans()), max_size=2
    ).map(tuple)  # fmt: skip
    outputs = st.lists(st.builds(Tensor, st.just("o"), size), max_size=1).map(tuple)
    block = st.builds(BlockMemory, st.just("block"), saved, waiting, waiting, waiting, outputs)
    return st.lists(block, min_size=0, max_size=3).map(tuple)


def brute_force(
    actions: tuple[Action, ...], stages: list[tuple[BlockMemory, ...]], late: dict[int, tuple[Tensor, ...]]
) -> tuple[int, dict[str, int], int]:
    """Bytes, bytes by name and action of the first fullest instant, with every tensor as an entry of a list that is filled
    and emptied one block at a time. late: gradients that each block of a stage allocates with its first weight gradients.
    """
    live: list[tuple[Any, ...]] = []
    kept: list[Tensor] = []
    has_gradients: set[tuple[int, int]] = set()
    peak: tuple[int, dict[str, int], int] = (0, {}, 0)
    for action_idx, action in enumerate(actions):
        steps: list[list[tuple[str, int, int, int]]] = []
        for kind, stage, micro_batch in action.halves():
            order = range(len(stages[stage])) if kind == "F" else reversed(range(len(stages[stage])))
            steps.append([(kind, stage, micro_batch, idx) for idx in order])
        for position in range(max((len(half) for half in steps), default=0)):
            at_work: list[Tensor] = []
            pair = [half[position] for half in steps if position < len(half)]
            for each, stage, micro_batch, idx in pair:
                block = stages[stage][idx]
                if each == "F":
                    live += [(stage, micro_batch, idx, tensor) for tensor in block.saved]
                    at_work += block.working_forward
                    kept += block.outputs
                elif each != "W":
                    at_work += block.working_backward
                    at_work += [tensor for tensor in block.deferred if each == "I" or not tensor.is_working]
                if each in ("B", "W") and (stage, idx) not in has_gradients:
                    has_gradients.add((stage, idx))
                    kept += late.get(stage, ())
            there = [*(entry[-1] for entry in live), *at_work, *kept]
            if total_bytes(there) > peak[0]:
                names = {tensor.name for tensor in there if tensor.num_bytes}
                contents = {name: total_bytes(t for t in there if t.name == name) for name in names}
                peak = total_bytes(there), contents, action_idx
            for each, stage, micro_batch, idx in pair:
                mine = [entry for entry in live if entry[:3] == (stage, micro_batch, idx)]
                gone = [entry for entry in mine if each in ("B", "W") or (each == "I" and entry[-1].until == "I")]
                live = [entry for entry in live if all(entry is not other for other in gone)]
                if each == "I":
                    live += [(stage, micro_batch, idx, tensor) for tensor in stages[stage][idx].deferred]
    assert not live
    joined = [*kept, *(tensor for tensor in kept if tensor.name == "o")]
    if total_bytes(joined) > peak[0]:
        names = {tensor.name for tensor in joined if tensor.num_bytes}
        contents = {name: total_bytes(t for t in joined if t.name == name) for name in names}
        peak = total_bytes(joined), contents, len(actions) - 1
    return peak


def agrees(
    actions: tuple[Action, ...],
    stages: list[tuple[BlockMemory, ...]],
    late: dict[int, tuple[Tensor, ...]] | None = None,
) -> None:
    late = late or {}
    with_gradients = {
        stage: tuple(replace(block, gradients=gradients) for block in stages[stage])
        for stage, gradients in late.items()
    }
    peak = peak_of(actions, stages, with_gradients)
    assert (peak.num_bytes, +Counter(peak.contents), peak.action_idx) == brute_force(actions, stages, late)


@settings(max_examples=40, deadline=None)
@given(first=blocks_strategy(), second=blocks_strategy(), rank=st.integers(0, 3))
def test_the_walk_equals_a_list_of_live_tensors(
    first: tuple[BlockMemory, ...], second: tuple[BlockMemory, ...], rank: int
) -> None:
    schedule = build_schedule("dualpipe", 4, 8)
    agrees(schedule.ranks[rank], [first, second, first, second])


@settings(max_examples=40, deadline=None)
@given(first=blocks_strategy(), second=blocks_strategy(), rank=st.integers(0, 3), size=st.integers(0, 60))
def test_gradients_that_come_with_the_first_backward_are_walked_too(
    first: tuple[BlockMemory, ...], second: tuple[BlockMemory, ...], rank: int, size: int
) -> None:
    schedule = build_schedule("dualpipe", 4, 8)
    late = {stage: (Tensor("g", size, "W"),) for stage in schedule.placement[rank]}
    agrees(schedule.ranks[rank], [first, second, first, second], late)


def test_late_gradients_are_those_of_the_state_and_there_once_all_stages_had_a_backward() -> None:
    """7 bytes over two blocks: 4 with the last block's backward, 3 with the first one's, of 10 saved bytes a block."""
    block = BlockMemory("unit", (Tensor("saved", 10, "W"),))
    state = RankState((Tensor("weights.bf16", 5),), (Tensor("gradients.dense", 7, "W"),), ())
    schedule = build_schedule("gpipe", 1, 3)
    (whole,) = rank_memory(schedule, [(block, block)], [state], [()])
    (late,) = rank_memory(schedule, [(block, block)], [state], [()], late_gradients=True)
    assert (whole.peak_bytes, whole.gradients_bytes) == (5 + 7 + 60, 7)
    assert (late.peak_bytes, late.gradients_bytes, late.at_action) == (5 + 60 + 3, 3, "0B2")
    assert late.weights_bytes + late.gradients_bytes + late.activations_bytes == late.peak_bytes
    (single,) = rank_memory(
        build_schedule("gpipe", 1, 1), [(replace(block, saved=()),) * 2], [state], [()], late_gradients=True
    )
    assert (single.peak_bytes, single.gradients_bytes) == (12, 7)


def test_outputs_stay_to_the_end_and_are_joined_there() -> None:
    block = BlockMemory("head", (Tensor("saved", 1, "W"),), outputs=(Tensor("logits", 10),))
    (found,) = rank_memory(build_schedule("1f1b", 1, 4), [(block,)], [NOTHING], [()])
    assert (found.peak_bytes, dict(found.tensors), found.at_action) == (80, {"logits": 80}, "0B3")


@st.composite
def orders(draw: st.DrawFn) -> tuple[Action, ...]:
    """Any order of a few micro-batches of two stages, each with its passes in turn; half of them defer W."""
    passes: dict[tuple[int, int], list[Kind]] = {
        (stage, i): ["F", "I", "W"] if draw(st.booleans()) else ["F", "B"]
        for stage in (0, 1)
        for i in range(draw(st.integers(0, 4)))
    }
    order: list[Action] = []
    while passes:
        stage, i = draw(st.sampled_from(sorted(passes)))
        order.append(Action(passes[stage, i].pop(0), stage, i))
        passes = {key: left for key, left in passes.items() if left}
    return tuple(order)


@settings(max_examples=100, deadline=None)
@given(first=blocks_strategy(), second=blocks_strategy(), order=orders())
def test_the_walk_of_deferred_weight_passes_equals_a_list_of_live_tensors(
    first: tuple[BlockMemory, ...], second: tuple[BlockMemory, ...], order: tuple[Action, ...]
) -> None:
    agrees(order, [first, second])


def test_operands_wait_between_input_and_weight_gradients() -> None:
    block = BlockMemory(
        "block", (Tensor("a", 10), Tensor("b", 5, "W")), (Tensor("x", 7, "W"),), (Tensor("f", 1),), (Tensor("g", 2),)
    )
    forward, inputs, weights = (Action(kind, 0, 0) for kind in ("F", "I", "W"))
    peak = peak_of((forward, inputs, weights), [(block,)])
    assert peak.num_bytes == 10 + 5 + 7 + 2
    assert peak.contents == {"a": 10, "b": 5, "x": 7, "g": 2}
    assert peak.action_idx == 1
    second = Action("F", 0, 1)
    late = (forward, inputs, second, Action("B", 0, 1), weights)
    assert peak_of(late, [(block,)]).num_bytes == (5 + 7) + (10 + 5 + 7 + 2)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([Action("F", 0, 0)], "unfinished: 0F0"),
        ([Action("B", 0, 0)], "0B0 comes after nothing"),
        ([Action("F", 0, 0), Action("W", 0, 0)], "0W0 comes after F"),
        ([Action("F", 0, 0), Action("I", 0, 0), Action("B", 0, 0)], "0B0 comes after I"),
        ([Action("F", 0, 0), Action("F", 0, 0)], "0F0 comes after F"),
    ],
)
def test_broken_conservation_is_an_inconsistent_simulation(actions: list[Action], message: str) -> None:
    with pytest.raises(InconsistentSimulation, match=message):
        peak_of(actions, [UNIT])


def test_a_micro_batch_that_saves_nothing_is_finished_too() -> None:
    with pytest.raises(InconsistentSimulation, match=r"0 bytes of activations are left.*unfinished: 0F0"):
        peak_of([Action("F", 0, 0)], [()])


def test_the_first_of_equal_peaks_is_told() -> None:
    actions = [Action(kind, 0, micro_batch) for micro_batch in range(3) for kind in ("F", "B")]
    assert peak_of(actions, [UNIT]).action_idx < 2
    assert peak_of(actions, [UNIT]).num_bytes == peak_of(actions[:2], [UNIT]).num_bytes


@settings(max_examples=25, deadline=None)
@given(
    modules=st.frozensets(st.sampled_from(MODULES)),
    extra=st.sampled_from(MODULES),
    fp8=st.booleans(),
    name=st.sampled_from(SCHEDULES.names()),
    tokens=st.sampled_from([1, 128, 1000]),
)
def test_more_recompute_never_peaks_higher_and_longer_sequences_never_lower(
    modules: frozenset[str], extra: str, fp8: bool, name: str, tokens: int
) -> None:
    base = FP8 if fp8 else ActivationRecipe(tokens=1, ep=64)
    schedule = build_schedule(name, 2, 4)

    def peaks(recipe: ActivationRecipe) -> list[int]:
        codes = (("E", "d", "m"), *[("m",)] * (schedule.num_stages - 2), ("m", "mtp", "L"))
        stages = [stage_blocks(V3, each, recipe) for each in codes]
        return [peak_of(actions, stages).num_bytes for actions in schedule.ranks]

    plain = peaks(replace(base, tokens=tokens, recompute=modules))
    less = peaks(replace(base, tokens=tokens, recompute=modules | {extra}))
    longer = peaks(replace(base, tokens=tokens + 64, recompute=modules))
    assert all(a <= b < c for a, b, c in zip(less, plain, longer, strict=True))


def test_the_parts_sum_to_the_peak_and_the_names_to_the_parts() -> None:
    schedule = build_schedule("1f1b", 2, 4)
    recipe = ActivationRecipe(tokens=128)
    stages = [stage_blocks(DENSE, codes, recipe) for codes in (("E", "d"), ("d", "L"))]
    states = [RankState((Tensor("weights.bf16", 8),), (Tensor("gradients.dense", 16),), ())] * 2
    for rank in rank_memory(schedule, stages, states, [(Tensor("buffers.context", 5),)] * 2):
        assert rank.weights_bytes + rank.gradients_bytes + rank.buffers_bytes == 29
        assert rank.peak_bytes == 29 + rank.activations_bytes == sum(rank.tensors.values())
        assert rank.at_action == str(schedule.ranks[rank.pp_rank][rank.action_idx])


def test_a_rank_without_work_holds_its_state_only() -> None:
    schedule = Schedule("idle", 1, 1, 0, ((),), ((0,),), ())
    (rank,) = rank_memory(schedule, [UNIT], [NOTHING], [()])
    assert (rank.peak_bytes, rank.at_action, dict(rank.tensors)) == (0, "", {})


def deepseek_v3(**assumed: float) -> tuple[RankMemory, ...]:
    plan = scenario(
        training={"global_batch_size": 15360, "optimizer": "adamw-bf16-moments"},
        recompute={
            "granularity": "selective",
            "modules": ["rmsnorm", "mla_up_proj", "swiglu"],
            "saved": {"attn_out": "e5m6", "swiglu_in": "fp8"},
        },
    )
    recipe = Recipe(
        1, 4096, SeparateCasts(), True, frozenset(plan.recompute.modules), True, True, 64, 8, nodes_per_token=3.6,
        ranks_per_token=7.5,
    )  # fmt: skip
    layout, values = derived.layout(plan), replace(ASSUMED, **assumed)
    workload, schedule = build_workload(V3, layout, recipe), build_schedule("dualpipe", 16, 120)
    activations = activation_recipe(plan, values)
    state = state_recipe(plan, values)
    params = [stage_params(stage) for stage in workload.stages]
    return rank_memory(
        schedule,
        [stage_blocks(V3, codes, activations) for codes in layout],
        rank_states(params, state, schedule.placement),
        [buffer_tensors(plan, values, workload.boundary_bytes, held, 8, 120) for held in schedule.placement],
    )


def test_deepseek_v3_fits_its_gpus_and_its_state_is_the_hand_count() -> None:
    """Middle ranks: 8 MoE layers; edge ranks: 3 dense and 3 MoE layers, embedding, head and the MTP projection."""
    ranks = deepseek_v3(bf16_weight_copy_frac=0.0)
    layer, expert = 187_107_328 + 44_040_192 + 7168 * 256 + 256 + 2 * 7168, 4 * 44_040_192
    middle = ranks[7]
    assert middle.gradients_bytes == 4 * 8 * (layer + expert)
    shards = 2 * (-(-4 * layer // 256) + -(-4 * expert // 4))
    assert middle.optimizer_bytes == (4 + 2 * 2) * shards
    dense = 187_107_328 + 396_361_728 + 2 * 7168
    vocabulary, projection = 2 * 926_679_040 + 7168, 2 * 7168**2 + 3 * 7168
    assert ranks[0].gradients_bytes == 4 * (3 * dense + 3 * (layer + expert) + vocabulary + projection)
    for rank in (*ranks, *deepseek_v3(bf16_weight_copy_frac=1.0)):
        assert rank.peak_bytes < DEVICE_BYTES
    assert [rank.peak_bytes for rank in ranks] == [rank.peak_bytes for rank in reversed(ranks)]


def test_fuller_experts_never_take_less_memory() -> None:
    even, uneven = deepseek_v3(), deepseek_v3(expert_rows_frac=1.2, expert_rows_peak_frac=1.5)
    assert all(more.peak_bytes > less.peak_bytes for more, less in zip(uneven, even, strict=True))
