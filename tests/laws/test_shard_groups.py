"""Laws of shard groups (HSDP): bytes on NVLink and NICs in closed form, both ends of their size, who waits for what."""

from __future__ import annotations

from math import fsum

import numpy as np
import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.schedule import SCHEDULES
from tests.laws.runs import changed
from tests.laws.scenarios import Document
from tests.laws.test_data_parallel import DENSE, MOE, seconds, sent_bytes, step_of
from tests.laws.test_memory_laws import memories

TWO_NODES: Document = changed(DENSE, cluster={"num_gpus": 16}, training={"global_batch_size": 48})
MOE_NODES: Document = changed(MOE, cluster={"num_gpus": 16}, training={"global_batch_size": 48})


def wire(document: Document, **sections: object) -> dict[str, tuple[float, float]]:
    """Operation → bytes that a rank sends over NICs and over NVLink in a step."""
    graph = step_of(document, **sections)[1]
    times = np.bincount(graph.dag.op_class, minlength=graph.dag.num_classes)
    found: dict[str, tuple[float, float]] = {}
    for count, segment in zip(times, graph.classes, strict=True):
        for message in segment.messages:
            nic, near = found.get(message.name, (0.0, 0.0))
            cost = message.cost
            found[message.name] = nic + float(count) * cost.bytes_nic, near + float(count) * cost.bytes_scale_up
    return found


@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.parametrize("document", [TWO_NODES, MOE_NODES], ids=["dense", "moe"])
def test_groups_of_a_node_send_shards_alone_over_nics(document: Document, zero: int) -> None:
    """Groups of 8 on two nodes: (N - 1) / N on NVLink, 2 (g - 1) / g of a shard of 1/N over NICs; experts their own."""
    plan = {"parallel": {"zero_stage": zero}, "data_parallel": {"hsdp_group": 8}}
    prepared = step_of(document, **plan)[0]
    (stage,), count = prepared.workload.stages, 3 if zero >= 2 else 1
    gathers = 2 * count if zero == 3 else 1
    found = wire(document, **plan)
    for kind, params, n in (("dense", stage.dense_params, 8), ("expert", stage.expert_params, 2)):
        if params:
            assert found[f"reduce_scatter_{kind}"] == pytest.approx((0, 4 * params * (n - 1) / n * count), rel=1e-5)
            assert found[f"all_gather_{kind}"] == pytest.approx((0, 2 * params * (n - 1) / n * gathers), rel=1e-5)
            nic, near = found[f"all_reduce_{kind}"]
            assert (nic, near) == pytest.approx((4 * params / n * count, 0), rel=1e-5)


@pytest.mark.parametrize("document", [TWO_NODES, MOE_NODES], ids=["dense", "moe"])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_one_group_of_all_is_no_group(document: Document, zero: int) -> None:
    """Bit for bit."""
    none = changed(document, parallel={"zero_stage": zero})
    every = changed(none, data_parallel={"hsdp_group": 16})
    assert seconds(none) == seconds(every)
    assert memories(none) == memories(every)


@pytest.mark.parametrize("document", [TWO_NODES, changed(MOE_NODES, parallel={"ep": 1})], ids=["dense", "moe"])
def test_groups_of_one_are_plain_data_parallelism(document: Document) -> None:
    """Bit for bit; where more than optimizer state would be shared they are refused."""
    whole = changed(document, parallel={"zero_stage": 0})
    alone = changed(document, parallel={"zero_stage": 1}, data_parallel={"hsdp_group": 1})
    assert seconds(whole) == seconds(alone)
    assert memories(whole) == memories(alone)
    for zero in (2, 3):
        with pytest.raises(InputError, match="1 shares nothing of what zero_stage"):
            load_scenario(changed(alone, parallel={"zero_stage": zero}))


def test_state_is_that_of_the_group() -> None:
    """Optimizer state and, with ZeRO 2, gradients of a rank go with 1/N."""
    state = {}
    for size in (2, 4, 8, 16):
        rank = memories(changed(TWO_NODES, parallel={"zero_stage": 3}, data_parallel={"hsdp_group": size}))[0]
        state[size] = rank.optimizer_bytes
    assert [state[size] * size / state[16] for size in (2, 4, 8)] == pytest.approx([16, 16, 16], rel=1e-6)


@pytest.mark.parametrize("zero", [2, 3])
def test_sums_over_groups_once_a_step(zero: int) -> None:
    """A third of the bytes over NICs with three micro-batches, the same inside the groups, and a shorter step."""
    each = changed(TWO_NODES, parallel={"zero_stage": zero}, data_parallel={"hsdp_group": 8})
    once = changed(each, data_parallel={"grad_reduce": {"over_groups": "step"}})
    assert 3 * sent_bytes(once, "all_reduce") == pytest.approx(sent_bytes(each, "all_reduce"), rel=1e-9)
    assert sent_bytes(once, "reduce_scatter") == sent_bytes(each, "reduce_scatter")
    assert seconds(once) < seconds(each)
    assert memories(once) == memories(each)


@pytest.mark.parametrize("overlap", [True, False])
def test_sums_over_groups_are_hidden_or_exposed_as_the_reductions_are(overlap: bool) -> None:
    """Without overlap the step is longer by every second of them."""
    plan = {"parallel": {"zero_stage": 2, "overlap": {"dp": overlap}}}
    each, once = (
        changed(TWO_NODES, **plan, data_parallel={"hsdp_group": 8, "grad_reduce": {"over_groups": how}})
        for how in ("micro_batch", "step")
    )
    graph = step_of(each)[1]
    times = np.bincount(graph.dag.op_class, minlength=graph.dag.num_classes)
    sums = fsum(
        count * segment.seconds
        for count, segment in zip(times, graph.classes, strict=True)
        if any(message.name.startswith("all_reduce") for message in segment.messages)
    )
    added = seconds(each) - seconds(once)
    if overlap:
        assert 0 < added < 0.8 * sums * 2 / 3
    else:
        assert added == pytest.approx(sums * 2 / 3, rel=1e-6)


@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.parametrize(
    "schedule", [name for name in SCHEDULES.names() if SCHEDULES[name].placement != "mirrored"]
)  # fmt: skip
def test_what_is_gathered_and_reduced_is_the_same_in_every_schedule(schedule: str, zero: int) -> None:
    """Bytes of two pipeline ranks, by micro-batch where the stage is shared: those of 1F1B. With input and weight gradients
    apart, parameters are gathered for the first and gradients reduced behind the second.
    """
    rule = SCHEDULES[schedule]
    plan = {"parallel": {"pp": 2, "zero_stage": zero}, "data_parallel": {"hsdp_group": 2}}
    plain = changed(changed(MOE, **plan), parallel={"ep": 2})
    chunks: Document = {"vpp": rule.fewest_chunks} if rule.fewest_chunks > 1 else {}
    paired: Document = {"overlap": {"ep": "pair"}} if rule.overlaps_pairs else {}
    other = changed(plain, parallel={"schedule": schedule, **paired, **chunks})
    for name in ("all_gather", "reduce_scatter", "all_reduce"):
        assert sent_bytes(other, name) == pytest.approx(sent_bytes(plain, name), rel=1e-5)


def test_sums_cannot_be_more_frequent_than_reductions() -> None:
    with pytest.raises(InputError, match=r"data_parallel\.grad_reduce\.over_groups: micro_batch, and gradients are"):
        load_scenario(
            changed(TWO_NODES, data_parallel={"hsdp_group": 8, "grad_reduce": {"over_groups": "micro_batch"}})
        )
