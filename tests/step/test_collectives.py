"""`step.collectives`: every collective that the graph runs, once, with the seconds of its price and the bytes by hand."""

from __future__ import annotations

from math import fsum

import pytest

from simulator import load_scenario, simulate_step
from simulator.results.step_result import CollectiveTime
from tests.laws.runs import changed
from tests.laws.scenarios import Document

PLAN: Document = {
    "model": "deepseek-v2-lite",
    "cluster": {"node": "h800-x8", "num_gpus": 64, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 2, "ep": 16, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 128},
    "precision": "bf16",
    "moe": {"balance": "forced"},
    "draws": 1,
}


def collectives(**changes: object) -> dict[str, list[CollectiveTime]]:
    found: dict[str, list[CollectiveTime]] = {}
    for row in simulate_step(load_scenario(changed(PLAN, **changes))).step.collectives:
        found.setdefault(row.name, []).append(row)
    return found


def test_every_kind_stands_there_with_its_group_and_bytes() -> None:
    found = collectives(data_parallel={"grad_reduce": {"overlap": False}})
    assert set(found) == {
        "dispatch_f", "combine_f", "combine_b", "dispatch_b", "pipeline_send", "grad_norm",
        "reduce_scatter_dense", "reduce_scatter_expert", "all_gather_dense", "all_gather_expert",
    }  # fmt: skip
    (send,) = found["pipeline_send"]
    assert (send.ranks, send.nodes, send.bytes) == (2, 2, 4096 * 2048 * 2)
    assert send.gb_per_s == pytest.approx(send.bytes / send.seconds / 1e9)
    (dispatch,) = found["dispatch_f"]
    assert (dispatch.ranks, dispatch.nodes) == (16, 2)
    copies = dispatch.bytes / (4096 * 2048 * 2)
    assert 1.9 < copies <= 2.0 and "DeepEP" in dispatch.counted_as
    for row in (*found["reduce_scatter_dense"], *found["all_gather_expert"]):
        assert row.gb_per_s == pytest.approx(row.bytes * (row.ranks - 1) / row.ranks / row.seconds / 1e9)
    assert {row.ranks for row in found["reduce_scatter_dense"]} == {32}
    assert {row.ranks for row in found["reduce_scatter_expert"]} == {2}
    # Gradients of four bytes, parameters of two: the same two stages, twice and once.
    sizes = [[row.bytes for row in found[name]] for name in ("reduce_scatter_expert", "all_gather_expert")]
    assert sizes[0] == [2 * each for each in sizes[1]] and fsum(sizes[1]) > 0
    (norm,) = found["grad_norm"]
    assert (norm.ranks, norm.limit) == (64, "latency")


def test_inside_a_node_a_copy_is_counted_for_each_gpu_and_nothing_is_sent_by_one_rank() -> None:
    inside = collectives(parallel={"ep": 8})
    (dispatch,) = inside["dispatch_f"]
    assert dispatch.limit == "scale_up" and dispatch.nodes == 1 and "each GPU" in dispatch.counted_as
    alone = collectives(parallel={"ep": 1, "pp": 1}, cluster={"num_gpus": 1}, training={"global_batch_size": 2})
    assert alone == {}


def test_beside_compute_stands_apart_where_pairs_overlap() -> None:
    found = collectives(parallel={"schedule": "dualpipe", "overlap": {"ep": "pair"}})
    for name in ("dispatch_f", "combine_f", "combine_b", "dispatch_b"):
        (alone,), (beside,) = found[name], found[f"{name}.beside_compute"]
        assert beside.seconds > alone.seconds and beside.bytes == alone.bytes
