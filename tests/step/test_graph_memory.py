"""What captured graphs take of a GPU's memory: closed forms, laws, and a published series of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from hwprofiles.kernels.shape import KernelShape
from simulator import load_scenario
from simulator.assembly.memory_peak import RankMemory
from simulator.results.step_memory import Memory
from simulator.step.graph import order_of_actions
from simulator.step.memory import MemoryQuestion, graph_needs, rank_memories, step_memory
from simulator.step.prepared import memory_question, prepare
from simulator.workload.graph_memory import (
    GraphNeeds,
    captured,
    captured_micro_batches,
    stage_nodes,
    static_bytes,
    unpacked,
    with_fixed_rows,
    working_bytes,
)
from simulator.workload.host_calls import PREPROCESS
from simulator.workload.op import AllToAll, Op, StageWorkload, Unit
from simulator.workload.tensors import BlockMemory, Tensor, total_bytes
from tests.workload.memory_cases import ASSUMED, FP8, scenario
from validation.published.row import read_rows
from validation.published.state import state

CASES = Path(__file__).parents[2] / "validation" / "data" / "published_cases.csv"
NO_TENSORS: tuple[Tensor, ...] = ()
DENSE = ("llama-3.1-70b", "draws=1")
PADDED = (
    "deepseek-v3", "draws=1", "moe.capacity_factor=1.0", "moe.drop=probs", "moe.pad_to_capacity=true",
    "moe.host_sync=null", "moe.dispatcher=alltoall",
)  # fmt: skip


@cache
def question(given: tuple[str, ...], graph: str) -> MemoryQuestion:
    preset, *overrides = given
    return memory_question(prepare(load_scenario(preset, [*overrides, f"host.cuda_graph={graph}"])))


@cache
def ranks(given: tuple[str, ...], graph: str) -> tuple[RankMemory, ...]:
    asked = question(given, graph)
    return rank_memories(asked, order_of_actions(asked.scenario))


def peaks(given: tuple[str, ...], graph: str) -> list[int]:
    return [rank.peak_bytes for rank in ranks(given, graph)]


def op(name: str, kernels: int) -> Op:
    return Op(name, "F", KernelShape("gemm", m=1, n=1, k=1, num_kernels=kernels), 0, 0)


UNIT = Unit(
    "layer", "moe",
    {"attn_f": (op("qkv", 2), op("router", 3)), "mlp_f_local": (op("shared_up", 5),), "mlp_f_routed": (op("up", 7),)},
    {"dispatch_f": AllToAll("dispatch", "F", 1, 1, 1, 8, 1.0, 1.0)},
)  # fmt: skip


@pytest.mark.parametrize(
    ("graph", "nodes"),
    [
        (("attn",), 2),
        (("attn", "moe_router"), 2 + 3 + 5),
        (("attn", "moe_router", "moe_preprocess"), 2 + 3 + 5 + PREPROCESS),
        (("moe",), 3 + 5 + 7 + 1 + PREPROCESS),
        ("full_iteration", 2 + 3 + 5 + 7 + 1 + PREPROCESS),
    ],
)
def test_nodes_are_the_kernels_of_what_is_captured(graph: str | Sequence[str], nodes: int) -> None:
    stage = StageWorkload(0, (UNIT, UNIT), 0, 0)
    assert stage_nodes(stage, scenario(host={"cuda_graph": graph})) == 2 * nodes


def tensors(*names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, 10**idx) for idx, name in enumerate(names))


def test_a_scope_captures_its_own_tensors() -> None:
    moe = BlockMemory(
        "moe_ffn",
        tensors("ffn.input", "router.scores", "shared.out", "expert.input"),
        NO_TENSORS,
        tensors("expert.out"),
    )
    dense = BlockMemory("dense_ffn", tensors("ffn.input"))

    def size(block: BlockMemory, *scopes: str) -> int:
        part = captured(block, scenario(host={"cuda_graph": scopes}))
        return total_bytes(part.saved) + total_bytes(part.working_forward)

    assert size(moe, "attn") == size(moe, "mlp") == size(dense, "moe_router") == 0
    assert size(moe, "moe_router") == 111
    assert size(moe, "moe") == 1112
    assert size(dense, "mlp") == 1
    assert captured(moe, scenario(host={"cuda_graph": "full_iteration"})) == moe


def test_the_pool_holds_the_largest_work_beside_its_share() -> None:
    blocks = [
        BlockMemory("a", (), working_forward=tensors("attn.q")),
        BlockMemory("b", (), working_backward=tensors("x", "y")),
    ]
    assert working_bytes(blocks) == 11
    needs = GraphNeeds(nodes=3, pooled_bytes=500, working_bytes=11, static_bytes=7)
    sizes = {tensor.name: tensor.num_bytes for tensor in needs.tensors(replace(ASSUMED, graph_pool_frac=0.5))}
    assert sizes == {"buffers.graph_pool": 250 + 11, "buffers.graph_nodes": 30_000, "buffers.graph_static": 7}


def test_static_tensors_are_a_steps_data_or_two_gradients_of_a_layer() -> None:
    assert static_bytes(scenario(host={"cuda_graph": "full_iteration"}), 100, 4096, 8) == 28 * 4096 * 8
    assert static_bytes(scenario(host={"cuda_graph": ["attn"]}), 100, 4096, 8) == 200


def test_layers_without_a_pipeline_have_one_set_of_graphs() -> None:
    plain = {"pp": 1, "ep": 64, "schedule": "1f1b"}
    attn, full = ({"cuda_graph": graph} for graph in (["attn"], "full_iteration"))
    assert captured_micro_batches(scenario(host=attn, parallel=plain), 32, has_pairs=False) == 1
    assert captured_micro_batches(scenario(host=attn, parallel=plain), 32, has_pairs=True) == 32
    assert captured_micro_batches(scenario(host=full, parallel=plain), 32, has_pairs=False) == 32
    assert captured_micro_batches(scenario(host=attn), 32, has_pairs=False) == 32


def test_captured_experts_have_room_for_more_rows_than_come() -> None:
    free = scenario(host={"cuda_graph": "full_iteration"}, moe={"host_sync": "none"})
    recipe = with_fixed_rows(FP8, free, ASSUMED)
    assert (recipe.expert_rows_frac, recipe.expert_rows_peak_frac) == (1.2, 1.5)
    worse = with_fixed_rows(replace(FP8, expert_rows_frac=1.3, expert_rows_peak_frac=1.8), free, ASSUMED)
    assert (worse.expert_rows_frac, worse.expert_rows_peak_frac) == (1.3, 1.8)
    for eager in (
        scenario(), scenario(host={"cuda_graph": ["attn"]}),
        scenario(host={"cuda_graph": "full_iteration"}, moe={"pad_to_capacity": True, "capacity_factor": 1.0, "drop": "probs"}),
    ):  # fmt: skip
        assert with_fixed_rows(FP8, eager, ASSUMED) == FP8
    block = BlockMemory("moe_ffn", tensors("router.scores", "expert.input", "expert.swiglu_in"))
    packed = unpacked(block, recipe)
    assert packed.working_forward == packed.working_backward == (Tensor("expert.unpacked", round(110 * 1.5 / 1.2)),)
    assert packed.saved == block.saved
    assert unpacked(BlockMemory("attention", tensors("attn.q")), recipe).working_forward == ()


def test_without_graphs_nothing_is_taken() -> None:
    asked = question(PADDED, "none")
    order = order_of_actions(asked.scenario)
    other = replace(
        asked.assumed, graph_node_bytes=1e9, graph_pool_frac=9.0, graph_rows_frac=9.0, graph_budget_frac=9.0
    )
    assert rank_memories(replace(asked, assumed=other), order) == rank_memories(asked, order)
    dear = replace(asked.highest, graph_node_bytes=1e9)
    assert step_memory(replace(asked, highest=dear), order).margin == step_memory(asked, order).margin


@pytest.mark.parametrize(
    ("given", "graphs"),
    [
        (DENSE, ("none", "[attn]", "[attn, mlp]")),
        ((*DENSE, "parallel.pp=1", "parallel.vpp=1"), ("none", "[mlp]", "[attn, mlp]")),
        (PADDED, ("none", "[attn]", "[attn, moe_router]", "[attn, moe_router, moe_preprocess]", "[attn, mlp, moe]")),
    ],
)  # fmt: skip
def test_more_captured_work_never_needs_less(given: tuple[str, ...], graphs: tuple[str, ...]) -> None:
    """And a graph of the whole step no less than those of its layers but for the gradients that pass between these."""
    found = [peaks(given, graph) for graph in graphs]
    for fewer, more in pairwise(found):
        assert all(one < other for one, other in zip(fewer, more, strict=True))
    between = 2 * question(given, "none").workload.boundary_bytes
    whole = peaks(given, "full_iteration")
    assert all(one - between <= other for one, other in zip(found[-1], whole, strict=True))


def needs(given: tuple[str, ...], graph: str) -> tuple[GraphNeeds, ...]:
    asked = question(given, graph)
    return graph_needs(asked, order_of_actions(asked.scenario))


def test_nodes_grow_with_the_micro_batches_and_with_nothing_else() -> None:
    size = question(DENSE, "none").scenario.training.global_batch_size
    one, twice = (needs((*DENSE, f"training.global_batch_size={times * size}"), "[attn]") for times in (1, 2))
    assert [2 * each.nodes for each in one] == [each.nodes for each in twice]
    assert [replace(each, nodes=0) for each in one] == [replace(each, nodes=0) for each in twice]


def test_the_margin_holds_the_ranges_of_graphs() -> None:
    asked = question(DENSE, "full_iteration")
    order = order_of_actions(asked.scenario)
    plain = step_memory(asked, order)
    dearer = replace(asked.highest, graph_node_bytes=2 * asked.highest.graph_node_bytes)
    wide = step_memory(replace(asked, highest=dearer), order)
    nodes = graph_needs(asked, order)[plain.worst_stage.pp_rank].nodes
    more = nodes * asked.highest.graph_node_bytes / plain.peak_bytes_per_gpu
    assert wide.margin.high - plain.margin.high == pytest.approx(more, rel=1e-6)
    assert (wide.margin.low, wide.margin.value) == (plain.margin.low, plain.margin.value)


MEASURED_GB = 1000 * 2**20
"""The series prints thousands of MiB as GB: a device of 276.5 GiB is full at 283."""


def case_memory(case: str, **host: object) -> Memory:
    row = next(row for row in read_rows(CASES) if row.text("case_id") == case)
    found = state(row).scenario
    assert found is not None
    asked = memory_question(prepare(found.model_copy(update={"host": found.host.model_copy(update=host)})))
    return step_memory(asked, order_of_actions(asked.scenario))


def held(memory: Memory) -> float:
    """The predicted peak with the allocator's usual share."""
    return memory.peak_bytes_per_gpu * (1 + memory.margin.value)


@pytest.mark.slow
def test_graphs_of_hy3_take_about_what_was_measured() -> None:
    """Hy3-295B on 64 GB300: 187 without graphs, 193 with graphs of layers, 194 with those of twice the micro-batches, 225 with
    one of the whole step (yangwhale/gpu-tpu-pedia 07f, results.csv: A8, A9, B7, A1).
    """
    layers, twice, whole = (case_memory(f"GB300-HY3-{case}") for case in ("006", "012", "004"))
    none = case_memory("GB300-HY3-006", cuda_graph="none")
    assert held(none) == pytest.approx(187 * MEASURED_GB, rel=0.06)
    assert held(layers) - held(none) == pytest.approx(6 * MEASURED_GB, rel=0.4)
    assert 0 < held(twice) - held(layers) < 4 * MEASURED_GB
    assert 20 * MEASURED_GB < held(whole) - held(none) < 38 * MEASURED_GB
    for memory, measured in ((layers, 193), (twice, 194), (whole, 225)):
        needed = measured * MEASURED_GB / memory.peak_bytes_per_gpu - 1
        assert memory.margin.low < needed < memory.margin.high
