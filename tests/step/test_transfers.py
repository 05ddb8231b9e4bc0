"""parallel.overlap.pp in a whole step: which schedules wait for their transfers, where it has no meaning or no model."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.step.graph import build_graph
from simulator.step.prepared import prepare
from tests.laws.runs import changed, simulate
from tests.laws.scenarios import Document, dense_model

PIPELINE: Document = {
    "model": dense_model(8, 4096, 14_336, heads=32, kv_heads=8, vocab=32_000),
    "cluster": {"node": "h800-x8", "num_gpus": 32, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 4, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 64},
    "device": {"speed_cv": 0.0},
    "draws": 1,
}
INTERLEAVED = changed(PIPELINE, parallel={"schedule": "interleaved_1f1b", "vpp": 2})


def step_s(document: Document, *, overlap: bool, **sections: object) -> float:
    parallel = {"overlap": {"pp": overlap}}
    return simulate(changed(changed(document, parallel=parallel), **sections)).step_s


def test_interleaving_hides_its_transfers_unless_told_not_to() -> None:
    """Free transfers, asynchronous ones, and ones that hold their sender; the assumption of other executors says nothing."""
    free = step_s(INTERLEAVED, overlap=True, mechanisms={"pp_transfer": False})
    hidden, held = step_s(INTERLEAVED, overlap=True), step_s(INTERLEAVED, overlap=False)
    assert free < hidden < held
    assert hidden - free < 0.5 * (held - free)
    assert step_s(INTERLEAVED, overlap=True, assumptions={"pp_boundary_wait": 0}) == hidden


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_one_stage_a_rank_waits_for_its_transfers_by_the_assumption_and_for_the_receiver_without_overlap(
    schedule: str,
) -> None:
    document = changed(PIPELINE, parallel={"schedule": schedule})
    beside = step_s(document, overlap=True, assumptions={"pp_boundary_wait": 0})
    behind, joint = step_s(document, overlap=True), step_s(document, overlap=False)
    assert beside <= behind <= joint
    assert beside < joint
    assert step_s(document, overlap=False, assumptions={"pp_boundary_wait": 0}) == joint


def test_a_hop_inside_a_node_is_faster_than_one_between_nodes() -> None:
    """Four ranks a stage on nodes of eight: the first hop stays inside, the second leaves, the last goes round."""
    half = changed(PIPELINE, cluster={"num_gpus": 16}, parallel={"vpp": 2, "schedule": "interleaved_1f1b"})
    graph = build_graph(prepare(load_scenario(half)))
    seconds = dict(zip(graph.labels, graph.class_seconds().tolist(), strict=True))
    hops = [seconds[f"stage_{stage}.send_f"] for stage in range(7)]
    assert hops[0] == hops[2] == hops[4] == hops[6]
    assert hops[1] == hops[5]
    assert hops[0] < hops[1] <= hops[3]


def test_where_it_has_no_meaning_or_no_model() -> None:
    alone = load_scenario(changed(PIPELINE, parallel={"pp": 1, "overlap": {"pp": False}}))
    assert any("parallel.overlap.pp" in text and "no meaning with pp 1" in text for text in alone.warnings)
    with pytest.raises(InputError, match=r"parallel\.overlap\.pp: false with schedule dualpipe .* use pp: true"):
        load_scenario(changed(PIPELINE, parallel={"schedule": "dualpipe", "overlap": {"pp": False}}))
