"""GPUs used of a scale-up domain: the stated rule against a search, published racks, and what is paid."""

from __future__ import annotations

import json
from math import lcm
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.catalog import load_node
from simulator import load_scenario, simulate_run, simulate_step
from simulator.errors import InputError
from simulator.network.domains import DomainUse, domain_use
from simulator.results.placement_result import ExpertGroups
from tests.laws.runs import changed
from tests.laws.scenarios import Document

FAULTS = Path(__file__).parent / "data"


@given(
    hosts=st.integers(1, 18), host=st.sampled_from([1, 2, 4, 8]), groups=st.integers(1, 160), jobs=st.integers(1, 400)
)
def test_the_rule_is_the_best_of_all_candidates(hosts: int, host: int, groups: int, jobs: int) -> None:
    """Multiples of host and groups that divide the job, then that do not, then divisors of the group, then all."""
    domain, num_gpus = hosts * host, jobs * host
    sizes = range(host, domain + 1, host)
    fitting = [size for size in sizes if size % lcm(host, groups) == 0]
    dividing = [size for size in fitting if num_gpus % size == 0]
    parts = [size for size in sizes if groups > domain and groups % size == 0]
    use = domain_use(domain, host, num_gpus, groups)
    assert use.gpus_per_domain == max(dividing or fitting or parts or [domain])
    assert use.num_domains * use.gpus_per_domain >= num_gpus > (use.num_domains - 1) * use.gpus_per_domain
    assert use.gpus_paid - use.gpus_idle == use.gpus_used == num_gpus <= use.gpus_paid
    if use.num_domains > 1:
        assert use.gpus_paid == use.num_domains * domain


@pytest.mark.parametrize("groups", [8, 16, 32, 64, 128, 4 * 64])
def test_racks_of_72_give_64_to_groups_of_powers_of_two(groups: int) -> None:
    rule = "groups_and_job" if groups <= 64 else "divisor_of_group"
    assert domain_use(72, 4, 1024, groups) == DomainUse(64, rule, 16, 1024, 16 * 72)


def test_racks_and_hosts_that_are_filled_leave_none_idle() -> None:
    assert domain_use(72, 4, 576, 24) == DomainUse(72, "groups_and_job", 8, 576, 576)
    assert domain_use(8, 8, 2048, 64) == DomainUse(8, "divisor_of_group", 256, 2048, 2048)
    assert domain_use(8, 8, 4, 4) == DomainUse(8, "groups", 1, 4, 8)
    assert domain_use(72, 4, 24, 8).gpus_paid == 24, "inside one rack a job pays its trays"
    assert domain_use(8, 8, 24, 12).rule == "whole_domain"
    assert domain_use(72, 4, 288, 8, given=72) == DomainUse(72, "given", 4, 288, 288)


RACKS: Document = {
    "model": "deepseek-v2-lite",
    "cluster": {"node": "gb200-nvl72", "num_gpus": 144, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 1, "ep": 8, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 144},
    "moe": {"balance": "forced"},
    "draws": 1,
}


@pytest.mark.parametrize("wrong", [76, 70, 2])
def test_parts_of_hosts_and_more_than_the_domain_are_refused(wrong: int) -> None:
    with pytest.raises(InputError, match=r"gpus_per_domain: .*allowed multiples of 4 up to 72"):
        load_scenario(changed(RACKS, cluster={"gpus_per_domain": wrong}))


@pytest.mark.slow
@pytest.mark.parametrize("ep", [8, 16, 32, 64])
def test_expert_groups_stay_inside_their_racks(ep: int) -> None:
    """DeepSeek-V3 on 256 GPUs of racks of 72: as on domains of 64, whatever the kernels' rates."""
    small = load_node("gb200-nvl72").model_dump(mode="json") | {"scale_up_domain_gpus": 64}
    here, there = (
        simulate_step(load_scenario(FAULTS / "nvl72.yaml", [f"parallel.ep={ep}", *node])).step.step_s
        for node in ((), (f"cluster.node={json.dumps(small)}",))
    )
    assert here == there


def test_thirty_two_slow_nics_are_eight_fast_ones() -> None:
    """The same bits a second for every GPU; read as one GPU's share it was half as long again."""
    slow, fast = (
        simulate_step(load_scenario(FAULTS / f"nics-{name}.yaml")).step.step_s for name in ("32x100", "8x400")
    )
    assert slow == fast


def test_groups_that_straddle_cost_what_their_own_parts_do() -> None:
    """Groups of eight: inside racks of 72 and of 64 used alike, and across where 36 of a rack are used."""
    inside = simulate_step(load_scenario(RACKS)).step
    whole = simulate_step(load_scenario(changed(RACKS, cluster={"gpus_per_domain": 72}))).step
    assert {row.nodes for row in inside.collectives if row.name == "dispatch_f"} == {1}
    assert {row.nodes for row in whole.collectives if row.name == "dispatch_f"} == {1}, (
        "nine groups of eight fill a rack"
    )
    parted = changed(RACKS, cluster={"gpus_per_domain": 36, "num_gpus": 64}, training={"global_batch_size": 64})
    slow = simulate_step(load_scenario(parted)).step
    (row,) = [row for row in slow.collectives if row.name == "dispatch_f"]
    assert (row.nodes, row.ranks) == (2, 8)
    assert slow.step_s > inside.step_s


def test_groups_of_a_size_that_hosts_do_not_divide_run() -> None:
    """Groups of four on hosts of six: inside one, or 2 + 2."""
    six = dict.fromkeys(("gpus_per_node", "scale_up_domain_gpus", "nics_per_node"), 6)
    node = load_node("h100-x8").model_dump(mode="json") | six
    plan = changed(
        RACKS, cluster={"node": node, "num_gpus": 12}, parallel={"ep": 4}, training={"global_batch_size": 12}
    )
    rows = simulate_step(load_scenario(plan)).step.collectives
    assert {(row.ranks, row.nodes) for row in rows if row.name == "dispatch_f"} == {(4, 2)}


def test_the_result_says_what_is_used_paid_and_idle_and_counts_hours_of_both() -> None:
    run = simulate_run(load_scenario(changed(RACKS, cluster={"num_gpus": 128}, training={"global_batch_size": 128})))
    placed = run.placement
    assert placed is not None
    assert (placed.gpus_per_domain, placed.rule, placed.gpus_paid, placed.gpus_idle) == (64, "groups_and_job", 144, 16)
    assert placed.expert_groups == (ExpertGroups(groups=16, ranks_by_domain=(8,), is_simulated=True),)
    paid = run.totals.gpu_hours_paid
    assert paid is not None and paid.value == pytest.approx(run.totals.gpu_hours.value * 144 / 128)
    assert simulate_run(load_scenario(RACKS)).totals.gpu_hours_paid is None, "two racks of 72 are filled"


def test_racks_that_could_be_spared_are_told() -> None:
    """264 GPUs divide by 24 and by no larger multiple of eight up to 72: eleven racks where four would do."""
    spread = changed(RACKS, cluster={"num_gpus": 264}, training={"global_batch_size": 264})
    (text,) = [each for each in load_scenario(spread).warnings if "gpus_per_domain" in each]
    assert "24 GPUs used of each of 11 domains of 72: 528 idle; 72 would take 4 domains" in text
    assert not [each for each in load_scenario(RACKS).warnings if "gpus_per_domain" in each]
