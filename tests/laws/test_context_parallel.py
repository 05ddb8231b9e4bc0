"""Laws of context parallelism: what more of it, longer sequences, faster links and other switches may do to a step."""

from __future__ import annotations

from collections.abc import Mapping
from time import process_time
from typing import Any

import pytest

from hwprofiles.catalog import load_node
from simulator import load_scenario, simulate_run
from simulator.assembly.unit_costs import CP_COLLECTIVES
from tests.laws.runs import ROUNDING, Run, changed, simulate
from tests.laws.scenarios import Document
from tests.laws.test_tensor_parallel import DENSE, MOE, model_flop

LONG: Document = changed(DENSE, parallel={"tp": 1, "pp": 1, "sequence_parallel": False}, training={"seq_len": 32_768})
WAYS = ("a2a", "ring", "all_gather")


def shared(document: Mapping[str, Any], cp: int, way: str = "ring", **sections: Any) -> Run:
    return simulate(changed(changed(document, parallel={"cp": cp, "cp_comm": way}), **sections))


def spent(run: Run, category: str) -> float:
    return sum(row.seconds for row in run.result.step.by_category if row.category == category)


def test_one_rank_is_no_context_parallelism() -> None:
    plain = simulate(LONG)
    assert shared(LONG, 1).result.step == plain.result.step


@pytest.mark.parametrize("document", [LONG, MOE], ids=["dense", "moe"])
@pytest.mark.parametrize("way", WAYS)
def test_equal_gpus_do_the_same_model_flop_whatever_cp(document: Document, way: str) -> None:
    """A rank's micro-batch has half of the FLOP, and a replica twice as many ranks."""
    here, there = simulate(document), shared(document, 2, way)
    assert model_flop(there) == pytest.approx(model_flop(here), rel=ROUNDING)
    assert there.result.step.tokens_per_step == here.result.step.tokens_per_step


@pytest.mark.parametrize(("way", "more"), [("a2a", 0.02), ("all_gather", 0.05), ("ring", 0.05)])
def test_two_ranks_with_free_links_attend_twice_as_fast(way: str, more: float) -> None:
    """An all-to-all leaves whole sequences and half of the heads; blocks of a ring are a little slower at a pair."""
    free = {"mechanisms": {"cp_collectives": False, "power": False}}
    alone = shared(LONG, 1, **free)
    both = shared(LONG, 2, way, cluster={"num_gpus": 32}, **free)
    assert spent(both, CP_COLLECTIVES) == 0.0
    ratio = 2.0 * spent(both, "attention") / spent(alone, "attention")
    assert 1.0 - ROUNDING <= ratio <= 1.0 + more


@pytest.mark.parametrize("way", WAYS)
def test_exchanges_cost_what_their_switch_takes_away(way: str) -> None:
    off = {"mechanisms": {"cp_collectives": False}}
    for document in (LONG, changed(LONG, parallel={"pp": 2})):
        on, without = shared(document, 4, way), shared(document, 4, way, **off)
        assert spent(on, CP_COLLECTIVES) > 0.0 == spent(without, CP_COLLECTIVES)
        assert on.step_s > without.step_s
        names = {each.name for each in on.result.step.collectives if each.name.startswith("cp_")}
        assert names == {"a2a": {"cp_all_to_all"}, "ring": {"cp_send_recv"}}.get(
            way, {"cp_all_gather", "cp_reduce_scatter"}
        )


def test_a_ring_hides_under_long_sequences_and_is_exposed_at_short_ones() -> None:
    """A hop's bytes grow with the tokens of a rank, its attention with their square: between nodes 256K tokens hide it."""
    wide = changed(LONG, parallel={"tp": 8, "sequence_parallel": True}, cluster={"num_gpus": 32})
    shares = []
    for seq_len in (4096, 16_384, 262_144):
        run = shared(wide, 4, training={"seq_len": seq_len, "global_batch_size": 4}, device={"power_cap_w": None})
        shares.append(spent(run, CP_COLLECTIVES) / spent(run, "attention"))
    assert shares[0] > 0.2
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] < 0.05


@pytest.mark.parametrize("way", WAYS)
def test_links_between_nodes_are_felt_and_faster_ones_never_slower(way: str) -> None:
    """The same group of 8 inside a node, over two of them, and over two with faster NICs."""
    base = changed(LONG, cluster={"num_gpus": 32})
    inside, across = shared(base, 8, way), shared(changed(base, parallel={"tp": 2, "sequence_parallel": True}), 8, way)
    assert {each.nodes for each in inside.result.step.collectives if each.name.startswith("cp_")} == {1}
    assert {each.nodes for each in across.result.step.collectives if each.name.startswith("cp_")} == {2}
    node = load_node("h100-x8").model_dump(mode="json", exclude_none=True)
    quick = {**node, "name": "quick", "nic_bytes_per_s": 4 * node["nic_bytes_per_s"]}
    fast = changed(base, parallel={"tp": 2, "sequence_parallel": True}, cluster={"node": quick})
    assert spent(shared(fast, 8, way), CP_COLLECTIVES) <= spent(across, CP_COLLECTIVES)


@pytest.mark.slow
def test_a_128k_step_on_2048_gpus_is_simulated_in_ten_seconds() -> None:
    """Seconds of CPU, of the longest way: a ring has 8 kernels a core."""
    options = [
        "cluster.num_gpus=2048", "parallel.tp=4", "parallel.sequence_parallel=true", "parallel.cp=8", "parallel.pp=8",
        "parallel.vpp=1", "parallel.schedule=1f1b", "training.seq_len=131072", "training.global_batch_size=256",
    ]  # fmt: skip
    scenario = load_scenario("llama-3.1-70b", options)
    before = process_time()
    assert simulate_run(scenario).step.step_s > 0
    assert process_time() - before < 10.0
