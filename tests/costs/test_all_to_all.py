"""Dispatch and combine: published figures come out, bytes are conserved, more or slower is never faster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.collectives.rows import CollectiveTable
from hwprofiles.stack_records import Stack
from simulator.costs.collectives.all_to_all import all_to_all_cost, loaded_links, notify_floor
from simulator.network.topology import Network
from simulator.network.traffic import exchange_traffic
from simulator.workload.op import AllToAll

FP8, BF16 = 7392, 14336
NODES = {1: (8, 1.0, 5.29), 2: (16, 1.993, 6.49), 4: (32, 3.614, 7.25), 8: (64, 3.975, 7.34)}


def message(op: str, nodes: int = 8, tokens: int = 4096, direction: str = "F", cached: bool = False) -> AllToAll:
    ranks, nodes_per_token, ranks_per_token = NODES[nodes]
    size = FP8 if op == "dispatch" else BF16
    return AllToAll(op, direction, tokens, size, nodes, ranks, nodes_per_token, ranks_per_token, cached)


@pytest.mark.parametrize(
    ("op", "nodes", "printed"),
    [
        ("dispatch", 8, 46e9),
        ("combine", 8, 45e9),
        ("dispatch", 4, 44e9),
        ("combine", 4, 47e9),
        ("dispatch", 2, 43e9),
        ("combine", 2, 43e9),
    ],
)
def test_deepep_figures_between_nodes(h800: Network, stack: Stack, op: str, nodes: int, printed: float) -> None:
    """README of February 2025: the printed rate counts the own node's copies, 24 SMs; 2.6 and 5.2 ms at 3.98 of 8
    nodes."""
    it = message(op, nodes)
    cost = all_to_all_cost(it, h800, stack, "alone", 24)
    assert it.tokens * it.nodes_per_token * it.bytes_per_token / cost.seconds == pytest.approx(printed, rel=0.01)
    if nodes == 8:
        assert cost.seconds * 1e3 == pytest.approx({"dispatch": 2.62, "combine": 5.19}[op], rel=0.01)
    assert cost.bound_by == ("scale_up" if nodes == 2 else "nic")


@pytest.mark.parametrize(("op", "printed"), [("dispatch", 153e9), ("combine", 158e9)])
def test_deepep_figures_inside_a_node(h800: Network, notrace: Stack, op: str, printed: float) -> None:
    it = message(op, nodes=1)
    cost = all_to_all_cost(it, h800, notrace, "alone", 24)
    assert it.tokens * it.ranks_per_token * it.bytes_per_token / cost.seconds == pytest.approx(printed, rel=0.01)
    assert (cost.bytes_nic, cost.bound_by) == (0.0, "scale_up")


@pytest.mark.parametrize(
    ("it", "microseconds"),
    [
        (message("dispatch"), (4604, 4154, 4437, 4188)),
        (message("dispatch", direction="B", cached=True), (3320, 3575, 3613, 3113)),
        (message("combine"), (6002, 6074, 5847, 6052)),
        (message("combine", direction="B"), (6549, 6543, 5889, 6492)),
    ],
)
def test_beside_compute_the_trace_kernels_come_back(
    h800: Network, stack: Stack, it: AllToAll, microseconds: tuple[int, ...]
) -> None:
    """train.json of deepseek-ai/profile-data, 20 SMs: the mean of four layers, and their least and most."""
    cost = all_to_all_cost(it, h800, stack, "overlapped", 20)
    assert cost.basis == "measured"
    assert cost.seconds == pytest.approx(sum(microseconds) / 4e6, rel=1e-4)
    assert (cost.low, cost.high) == pytest.approx((min(microseconds) / 1e6, max(microseconds) / 1e6), rel=1e-3)


def test_without_overlapped_rows_the_slowdown_of_others_is_taken(h800: Network, notrace: Stack) -> None:
    for op in ("dispatch", "combine"):
        alone = all_to_all_cost(message(op), h800, notrace, "alone", 20)
        beside = all_to_all_cost(message(op), h800, notrace, "overlapped", 20)
        factor = notrace.parameters[f"all_to_all.overlap_slowdown_{op}"]
        assert beside.seconds == pytest.approx(alone.seconds * factor.value)
        assert beside.high / alone.high == pytest.approx(factor.high)
        assert beside.basis == "transferred"


def test_no_row_of_the_notrace_stack_comes_from_a_trace(notrace: Stack) -> None:
    assert all(row.regime == "alone" and "profile-data" not in row.source for row in notrace.collectives.rows)
    known = [*notrace.parameters.values(), *notrace.assumptions.values()]
    assert not any("profile-data" in str(entry.source) for entry in known)


@pytest.mark.parametrize("op", ["dispatch", "combine"])
@pytest.mark.parametrize("nodes", [1, 2, 4, 8])
def test_without_rows_the_formula_is_near_them(h800: Network, notrace: Stack, op: str, nodes: int) -> None:
    """Its constants come from another GPU and from link shares: within 25 % of the H800 rows, whose 4-node ones are
    odd."""
    bare = replace(notrace, collectives=CollectiveTable())
    rows = all_to_all_cost(message(op, nodes), h800, notrace, "alone", 24)
    formula = all_to_all_cost(message(op, nodes), h800, bare, "alone", 24)
    assert formula.seconds == pytest.approx(rows.seconds, rel=0.25)
    assert formula.low < formula.seconds < formula.high
    assert formula.basis == "transferred"


def test_bytes_are_those_of_the_traffic(h800: Network, stack: Stack) -> None:
    for regime in ("alone", "overlapped"):
        for nodes in NODES:
            cost = all_to_all_cost(message("combine", nodes), h800, stack, regime, 20)
            traffic = exchange_traffic(message("combine", nodes))
            assert (cost.bytes_nic, cost.bytes_scale_up) == (traffic.nic_bytes, traffic.scale_up_bytes)


REGIMES = st.sampled_from(["alone", "overlapped"])
OPS = st.sampled_from(["dispatch", "combine"])


@given(op=OPS, regime=REGIMES, nodes=st.sampled_from([2, 4, 8]), low=st.floats(1.0, 4.0), more=st.floats(0.0, 4.0))
def test_more_nodes_per_token_is_never_faster(
    h800: Network, stack: Stack, op: str, regime: str, nodes: int, low: float, more: float
) -> None:
    few = replace(message(op, nodes), nodes_per_token=low)
    many = replace(few, nodes_per_token=low + more)
    costs = [all_to_all_cost(it, h800, stack, regime, 20) for it in (few, many)]
    assert costs[0].seconds <= costs[1].seconds


@given(op=OPS, regime=REGIMES, nodes=st.sampled_from([1, 2, 8]), nic=st.floats(1.0, 4.0), nvlink=st.floats(1.0, 4.0))
def test_a_faster_link_or_more_sms_is_never_slower(
    h800: Network, stack: Stack, op: str, regime: str, nodes: int, nic: float, nvlink: float
) -> None:
    faster = replace(h800, nic_bytes_per_s=50e9 * nic, scale_up_bytes_per_s=200e9 * nvlink)
    it = message(op, nodes)
    base = all_to_all_cost(it, h800, stack, regime, 20)
    for better in (all_to_all_cost(it, faster, stack, regime, 20), all_to_all_cost(it, h800, stack, regime, 32)):
        assert better.seconds <= base.seconds and better.low <= base.low


def test_links_that_bind_scale_the_time(h800: Network, stack: Stack) -> None:
    """Half the NIC rate nearly doubles 8 nodes (the fixed latency does not grow) and leaves one node alone."""
    slower = replace(h800, nic_bytes_per_s=25e9)
    for nodes, least, most in ((8, 1.9, 2.0), (1, 1.0, 1.0)):
        a = all_to_all_cost(message("dispatch", nodes), h800, stack, "alone", 24)
        b = all_to_all_cost(message("dispatch", nodes), slower, stack, "alone", 24)
        assert least <= b.seconds / a.seconds <= most
    few_sms = all_to_all_cost(message("combine"), h800, stack, "alone", 4)
    assert few_sms.bound_by == "sms"


def test_tokens_scale_the_bandwidth_term(h800: Network, stack: Stack) -> None:
    whole = all_to_all_cost(message("dispatch"), h800, stack, "overlapped", 20)
    half = all_to_all_cost(message("dispatch", tokens=2048), h800, stack, "overlapped", 20)
    assert 0.5 < half.seconds / whole.seconds < 0.55
    assert half.basis == "interpolated" and half.high / half.seconds > whole.high / whole.seconds


def test_an_oversubscribed_spine_slows_groups_that_leave_the_leaf(h800: Network, stack: Stack) -> None:
    over = replace(h800, topology="fat_tree", wiring=replace(h800.wiring, num_planes=1, oversubscription=3.0))
    base = all_to_all_cost(message("dispatch"), h800, stack, "alone", 24)
    crossing = over.crossing_frac(8)
    slow = all_to_all_cost(message("dispatch"), over, stack, "alone", 24)
    assert crossing * 3.0 > 1.0
    assert slow.seconds / base.seconds == pytest.approx(crossing * 3.0, rel=0.05)


def test_one_rank_or_no_tokens_cost_nothing_and_no_sms_are_refused(h800: Network, stack: Stack) -> None:
    alone = replace(message("dispatch", 1), ranks=1, ranks_per_token=1.0)
    for it in (alone, message("dispatch", tokens=0)):
        assert all_to_all_cost(it, h800, stack, "overlapped", 20).seconds == 0.0
        assert notify_floor(it, stack, "overlapped").seconds == 0.0
    with pytest.raises(ValueError, match="at least one SM"):
        all_to_all_cost(message("dispatch"), h800, stack, "alone", 0)


def test_only_a_new_layout_is_computed_before_a_dispatch(stack: Stack) -> None:
    """Beside compute the trace's kernels stand without their notify; its floor is added, and a new layout's kernel."""
    floor = notify_floor(message("combine"), stack, "overlapped")
    assert floor.basis == "assumed" and floor.low < floor.seconds < floor.high
    cached = notify_floor(message("dispatch", direction="B", cached=True), stack, "overlapped")
    assert cached.seconds == floor.seconds
    assert notify_floor(message("dispatch"), stack, "overlapped").seconds == pytest.approx(56e-6 + 102.5e-6)


def test_rows_timed_around_the_call_hold_the_notify_already(stack: Stack, notrace: Stack) -> None:
    """Never counted twice: DeepEP's printed rates time the call, notify included and layout not."""
    for it, regime in ((stack, "alone"), (notrace, "alone"), (notrace, "overlapped")):
        assert notify_floor(message("combine"), it, regime).seconds == 0.0
        layout = notify_floor(message("dispatch"), it, regime).seconds
        assert layout == pytest.approx(102.5e-6 if it is stack else 30e-6)


def test_load_acts_on_the_node_where_nics_bind_and_on_the_rank_where_links_do(h800: Network, stack: Stack) -> None:
    """Eight nodes: NICs. One node: links, or the SMs that copy. Two nodes: links, so that a rank's tokens count in full."""
    wide = loaded_links(message("dispatch", 8), h800, stack, 20)
    assert wide.node == 1.0 and 0.3 < wide.rank < 0.7
    for op in ("dispatch", "combine"):
        for sms in (1, 20):
            one = loaded_links(message(op, 1), h800, stack, sms)
            assert (one.node, one.rank) == (0.0, 1.0)
    two = loaded_links(message("dispatch", 2), h800, stack, 100)
    traffic = exchange_traffic(message("dispatch", 2))
    nic, link = (stack.parameters[f"link.{name}.all_to_all"].value for name in ("nic", "nvlink"))
    assert two.rank == 1.0
    assert two.node == pytest.approx(traffic.nic_bytes / (nic * 50e9) / (traffic.scale_up_bytes / (link * 200e9)))
    few = loaded_links(message("dispatch", 2), h800, stack, 1)
    assert few.node == 1.0 > few.rank, "copies of SMs serve a whole node"


@pytest.mark.parametrize("nodes", [1, 8])
def test_what_no_load_changes_is_the_latency(h800: Network, notrace: Stack, nodes: int) -> None:
    """Hardly any of a large message, nearly all of a message of one token."""
    bare = replace(notrace, collectives=CollectiveTable())
    small, large = (message("dispatch", nodes, tokens) for tokens in (1, 65_536))
    shares = [loaded_links(each, h800, bare, 20).fixed for each in (small, large)]
    assert shares[0] > 0.95 and shares[1] < 0.01
    for each, share in zip((small, large), shares, strict=True):
        t0_s = share * all_to_all_cost(each, h800, bare, "alone", 20).seconds
        known = bare.parameters["all_to_all.t0_one_node_s" if nodes == 1 else "all_to_all.t0_s"].value
        assert t0_s == pytest.approx(known, rel=1e-9)
