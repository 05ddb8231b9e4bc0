"""Laws of offload: bytes and seconds in closed form, what it hides behind, what it leaves on the GPU, what it refuses."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise
from math import fsum

import numpy as np
import pytest
from rich.console import Console

from simulator import load_scenario, simulate_run, simulate_step
from simulator.assembly.chunks import COMPUTE, COPY_IN, COPY_OUT, NUM_STREAMS
from simulator.assembly.memory_peak import peak_of
from simulator.assembly.step_graph import StepGraph
from simulator.costs.host import host_of
from simulator.engine import sweep
from simulator.errors import InputError
from simulator.report import step_sections
from simulator.results.step_memory import StageMemory
from simulator.scenario.hardware import node_of
from simulator.schedule.action import Action
from simulator.step.graph import order_of_actions
from simulator.step.memory import step_memory
from simulator.step.prepared import count, memory_question
from simulator.workload.offload import offloaded
from simulator.workload.stages import PartBlocks
from simulator.workload.tensors import BlockMemory, Tensor
from tests.laws.runs import changed
from tests.laws.scenarios import Document
from tests.laws.test_data_parallel import DENSE, MOE, seconds, step_of

LAYERS = 6
PP2: Document = changed(DENSE, parallel={"pp": 2})
KEPT: Document = changed(DENSE, recompute="none")
NODE = {
    "name": "fast", "gpu": "h100", "gpus_per_node": 8, "scale_up_name": "NVLink 4", "scale_up_bytes_per_s": "450 GB/s",
    "scale_up_domain_gpus": 8, "nic_bytes_per_s": "400 Gb/s", "nics_per_node": 8,
}  # fmt: skip


def host(gigabytes_per_s: float, memory: float = 1e5) -> Document:
    """A node whose host has such a link and memory."""
    return {
        **NODE, "host_link_name": "a link", "host_link_bytes_per_s": gigabytes_per_s * 1e9, "host_memory_bytes": 10**13,
        "host_memory_bytes_per_s": memory * 1e9,
    }  # fmt: skip


def memory(document: Document) -> tuple[StageMemory, ...]:
    """The memory of every pipeline rank."""
    scenario = load_scenario(document)
    return step_memory(memory_question(count(scenario)), order_of_actions(scenario)).by_stage


def copies(graph: StepGraph, stream: int) -> tuple[float, float]:
    """Bytes and seconds on one stream of copies, of all ranks."""
    ops = np.flatnonzero(graph.dag.resource % NUM_STREAMS == stream)
    segments = [graph.classes[graph.dag.op_class[op]] for op in ops]
    sent = fsum(message.cost.counted.num_bytes for segment in segments for message in segment.messages)
    return sent, fsum(segment.seconds for segment in segments)


@pytest.mark.parametrize("document", [KEPT, PP2, changed(MOE, parallel={"pp": 2})], ids=["dense", "pp2", "moe"])
def test_what_is_kept_goes_out_and_comes_back_once_a_micro_batch(document: Document) -> None:
    """Bytes: all that the layers keep, each micro-batch; and the memory of activations falls by what the host holds."""
    share = {"offload": {"activations": 1}}
    graph = step_of(document, **share)[1]
    out, back = copies(graph, COPY_OUT), copies(graph, COPY_IN)
    assert out[0] == back[0] > 0
    node = node_of(load_scenario(document))
    rate = min(0.87 * (node.host_link_bytes_per_s or 0), 0.75 * (node.host_memory_bytes_per_s or 0) / 8)
    assert out[1] == pytest.approx(out[0] / rate, rel=1e-9)
    for rank, (whole, left) in enumerate(zip(memory(document), memory(changed(document, **share)), strict=True)):
        assert whole.host_bytes is None and left.host_bytes is not None
        ranks = load_scenario(document).parallel.pp
        micro_batches = 24 // (8 // ranks)
        if "moe" not in document["model"]:
            assert left.host_bytes == (ranks - rank) * out[0] / ranks / micro_batches
        assert left.activations_bytes < whole.activations_bytes
        assert left.activations_bytes + left.host_bytes >= whole.activations_bytes
        assert left.peak_bytes - whole.peak_bytes == (
            left.activations_bytes + left.buffers_bytes - whole.activations_bytes - whole.buffers_bytes
        )


@pytest.mark.parametrize("document", [KEPT, PP2, MOE], ids=["dense", "pp2", "moe"])
def test_nothing_offloaded_is_no_offload(document: Document) -> None:
    """Bit for bit, and so is all of it when copies take no time."""
    assert seconds(document) == seconds(changed(document, offload={"activations": 0.0, "optimizer": 0.0}))
    free = changed(document, offload={"activations": 1}, mechanisms={"offload_time": False})
    assert seconds(free) == seconds(document)


def test_copies_hide_behind_compute_until_the_link_is_slower() -> None:
    """Hidden but for ends while a layer computes for longer than its copy takes; else at least the copies of one way."""
    plain = changed(KEPT, cluster={"node": host(1e4)}, parallel={"overlap": {"dp": False}})
    base = seconds(plain)
    steps = []
    for rate in (1e4, 300, 60, 20, 5, 1):
        moved = changed(plain, cluster={"node": host(rate)}, offload={"activations": 1})
        graph = step_of(moved)[1]
        steps.append(sweep(graph.dag, graph.class_seconds()).makespan_s)
        assert steps[-1] >= max(base, copies(graph, COPY_OUT)[1], copies(graph, COPY_IN)[1])
    assert all(slower >= faster for faster, slower in pairwise(steps))
    assert steps[0] == pytest.approx(base, rel=2e-3)
    graph = step_of(changed(plain, cluster={"node": host(1)}, offload={"activations": 1}))[1]
    # With one pipeline rank a micro-batch's copies go out before they come back: nothing else is left at such a rate.
    both = copies(graph, COPY_OUT)[1] + copies(graph, COPY_IN)[1]
    assert steps[-1] == pytest.approx(both, rel=0.2)


@pytest.mark.parametrize("layers", [1, 3, 6, 60])
def test_layers_are_counted_from_the_first(layers: int) -> None:
    """The bytes of so many layers of all; more than there are is all."""
    whole = copies(step_of(KEPT, offload={"activations": 1})[1], COPY_OUT)[0]
    some = copies(step_of(KEPT, offload={"activations": 1, "activation_layers": layers})[1], COPY_OUT)[0]
    assert some == pytest.approx(whole * min(layers, LAYERS) / LAYERS, rel=1e-3)
    half = copies(step_of(KEPT, offload={"activations": 0.5})[1], COPY_OUT)[0]
    assert half == pytest.approx(whole / 2, rel=1e-3)


def test_a_copy_comes_back_after_it_has_gone_and_before_its_layer() -> None:
    """Of every micro-batch; no more than one layer waits to go while the next but one computes."""
    graph = step_of(PP2, cluster={"node": host(5)}, offload={"activations": 1})[1]
    line = sweep(graph.dag, graph.class_seconds())
    names = [graph.labels[row] for row in graph.dag.op_class]
    stream = graph.dag.resource % NUM_STREAMS
    for index, (action, low, high) in enumerate(zip(graph.actions, graph.spans.first, graph.spans.last, strict=True)):
        ops = range(int(low), int(high))
        starts = {names[op].split(".")[0]: line.start_s[op, 0] for op in reversed(ops) if stream[op] == COMPUTE}
        for op in ops:
            if stream[op] == COPY_IN:
                assert line.finish_s[op, 0] <= starts[names[op].split(".")[0]], (index, str(action))
    gone = {}
    waits = 0
    for action, low, high in zip(graph.actions, graph.spans.first, graph.spans.last, strict=True):
        ops = range(int(low), int(high))
        for kind, stage, micro_batch in action.halves():
            key = stage, micro_batch
            if kind == "B":
                assert min(line.start_s[op, 0] for op in ops if stream[op] == COPY_IN) >= gone[key]
                continue
            sent = [op for op in ops if stream[op] == COPY_OUT]
            gone[key] = line.finish_s[sent[-1], 0]
            started = {names[op].split(".")[0]: line.start_s[op, 0] for op in reversed(ops) if stream[op] == COMPUTE}
            units = [names[op].split(".")[0] for op in sent]
            for before, unit in zip(sent, units[2:], strict=False):
                assert started[unit] >= line.finish_s[before, 0]
                waits += bool(started[unit] == line.finish_s[before, 0])
    assert waits > 0, "the link is slow enough to hold layers up"


def test_a_rank_is_never_two_actions_ahead_of_its_copies() -> None:
    """Its action after the next waits for what a forward sends; what comes back is ahead of its backward by one action."""
    graph = step_of(PP2, cluster={"node": host(5)}, offload={"activations": 1})[1]
    dag, stream = graph.dag, graph.dag.resource % NUM_STREAMS
    held = {COPY_OUT: 0, COPY_IN: 0}
    for rank in range(graph.num_ranks):
        spans = [(graph.spans.first[i], graph.spans.last[i]) for i in np.flatnonzero(graph.spans.rank == rank)]
        on = [{at: [op for op in range(*span) if stream[op] == at] for at in range(NUM_STREAMS)} for span in spans]
        for before, now in zip(on, on[2:], strict=False):
            for first, then, copy in ((COPY_OUT, COMPUTE, COPY_OUT), (COMPUTE, COPY_IN, COPY_IN)):
                if before[first] and now[then]:
                    op = now[then][0]
                    assert before[first][-1] in dag.pred[dag.pred_ptr[op] : dag.pred_ptr[op + 1]]
                    held[copy] += 1
    assert min(held.values()) > 2


def test_layers_recomputed_together_come_back_before_the_last_of_them() -> None:
    together = changed(DENSE, recompute={"granularity": "full", "num_layers": 3}, offload={"activations": 1})
    (stage,) = step_of(together)[0].stages
    assert stage.copies is not None
    names = [[stage.units[copy.unit].name for copy in way] for way in (stage.copies.out, stage.copies.back)]
    assert names == [["layer_0", "layer_3"], ["layer_5", "layer_2"]]


def test_gpus_of_a_host_share_it_whatever_the_number_of_hosts() -> None:
    node = node_of(load_scenario(changed(DENSE, cluster={"node": host(50, 400)})))
    link, dram = (step_of(DENSE)[0].assumptions[f"host_{of}_frac"] for of in ("link", "memory"))
    rates = [found.memory_bytes_per_s for of in (1, 4, 8, 64) if (found := host_of(node, of, link, dram)) is not None]
    assert rates == pytest.approx([0.75 * 400e9 / of for of in (1, 4, 8, 8)])


def test_an_operand_of_a_weight_gradient_stays_from_the_input_gradient_on() -> None:
    """Of 100 bytes for I and 60 for W with the host: after I the 60 are on the GPU, after W nothing is."""
    block = BlockMemory("a", (Tensor("x", 100), Tensor("y", 60, "W")))
    stage = offloaded([PartBlocks(0, 0, True, (block,))], 1.0, None)
    f, i, w = Action("F", 0, 0), Action("I", 0, 0), Action("W", 0, 0)
    other = Action("F", 0, 1), Action("I", 0, 1), Action("W", 0, 1)
    assert peak_of([f, i, w, *other], [stage.blocks]).num_bytes == 160
    assert peak_of([f, i, other[0], w, *other[1:]], [stage.blocks]).num_bytes == 60 + 160
    assert peak_of([f, i, w, *other], [stage.on_host]).num_bytes == 160


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_optimizer_on_the_host(share: float) -> None:
    """Gradients out, 30 bytes of host memory a parameter (4 of gradient, 12 read, 14 written), weights back."""
    dram = 400.0
    plain = changed(DENSE, cluster={"node": host(50, dram)})
    (stage,) = step_of(plain)[0].workload.stages
    held = int(-(-stage.dense_params // 8) * share)
    link, own = 0.87 * 50e9, 0.75 * dram * 1e9 / 8
    link = min(link, own)
    parts = (4 * held / link, 30 * held / own, 2 * held / link)
    for overlap, alone in ((False, fsum(parts)), (True, max(parts))):
        moved = changed(plain, offload={"optimizer": share, "optimizer_overlap": overlap})
        graph = step_of(moved)[1]
        update = next(
            row for label, row in zip(graph.labels, graph.classes, strict=True) if label == "rank_0.optimizer"
        )
        kernel = update.by_category.get("optimizer", 0.0)
        assert update.seconds == pytest.approx(max(alone, kernel), rel=1e-6)
        whole, rest = memory(plain)[0], memory(moved)[0]
        assert rest.optimizer_bytes == pytest.approx(whole.optimizer_bytes * (1 - share), rel=1e-6, abs=16)
        assert rest.host_bytes == pytest.approx(whole.optimizer_bytes * share, rel=1e-6)
        assert whole.peak_bytes - rest.peak_bytes == whole.optimizer_bytes - rest.optimizer_bytes


def test_fsdp_keeps_the_bf16_shard_of_a_master_that_is_on_the_host() -> None:
    sharded = changed(DENSE, parallel={"zero_stage": 3})
    whole, moved = memory(sharded)[0], memory(changed(sharded, offload={"optimizer": 1}))[0]
    assert moved.optimizer_bytes == 0
    assert moved.weights_bytes - whole.weights_bytes == pytest.approx(whole.optimizer_bytes / 6, rel=1e-3)


def test_results_tell_of_it() -> None:
    """Its category, its collectives, and the same joules: kernels are the same."""
    hosted = changed(PP2, cluster={"node": host(5)}, offload={"activations": 1, "optimizer": 0.5})
    result = simulate_step(load_scenario(hosted))
    assert {row.name for row in result.step.collectives if row.limit == "host_link"} == {
        "activations_to_host", "activations_from_host", "gradients_to_host", "weights_from_host",
    }  # fmt: skip
    assert next(row.seconds for row in result.step.binding if row.what == "offload") > 0
    effects = {row.key: row for row in simulate_step(load_scenario(hosted)).assumptions}
    assert {"host_link_frac", "host_memory_frac"} <= set(effects)


def test_the_host_has_room_or_the_report_says_so() -> None:
    """A GPU's share of the host's memory beside what the host holds for it; told where it is too little."""
    hosted = changed(PP2, cluster={"node": host(50)}, offload={"activations": 1, "optimizer": 1})
    small = {**host(50), "host_memory_bytes": 8 * 10**6}
    for node, words in ((host(50), "1.25 TB"), (small, "1.00 MB: too little")):
        result = simulate_run(load_scenario(changed(hosted, cluster={"node": node})))
        assert result.memory.host_capacity_bytes == node["host_memory_bytes"] // 8
        console = Console(width=200, record=True, file=StringIO())
        for line in step_sections.memory(result, 200):
            console.print(line)
        assert f"for a GPU, whose share of it is {words}" in console.export_text()


@pytest.mark.parametrize("what", ["optimizer", "activations"])
def test_a_node_without_a_host_link_offloads_nothing(what: str) -> None:
    with pytest.raises(
        InputError, match=rf"offload\.{what}: 0\.5 on node fast, which states no link to its host; give"
    ):
        load_scenario(changed(DENSE, cluster={"node": NODE}, offload={what: 0.5}))


def test_parameters_stay() -> None:
    with pytest.raises(InputError, match=r"offload\.parameters"):
        load_scenario(changed(DENSE, offload={"parameters": 0.5}))


def test_keys_without_meaning_are_named() -> None:
    warnings = load_scenario(changed(DENSE, offload={"optimizer_overlap": True, "activation_layers": 2})).warnings
    assert sum("has no meaning" in text and "offload." in text for text in warnings) == 2
    for layers, told in ((6, 0), (7, 1)):
        warnings = load_scenario(changed(DENSE, offload={"activations": 1, "activation_layers": layers})).warnings
        assert sum("7 is more than the 6 layers of a stage, and acts as 6" in text for text in warnings) == told
