"""Rings, sends and trees by hand at sizes at which latency and the fill of the pipeline count."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest

from hwprofiles.kernels.parameters import Range
from hwprofiles.provenance import Basis
from hwprofiles.stack_records import Stack
from simulator.costs.collectives.p2p import p2p_cost
from simulator.costs.collectives.ring import ring_cost
from simulator.costs.collectives.tree import scalar_all_reduce_cost
from simulator.costs.cost import CollectiveCost, weakest
from simulator.network.hashing import even_share
from simulator.network.placement import GroupShape
from simulator.network.topology import Network

ENDS = {"seconds": ("value", "value"), "low": ("low", "high"), "high": ("high", "low")}
"""End of a cost → ends of the times and of the rates that give it."""


def known(stack: Stack, key: str, end: str) -> float:
    entry = stack.parameters[key] if key in stack.parameters else stack.assumptions[key]
    return float(getattr(entry, end) if getattr(entry, end) is not None else entry.value)


def by_flags(stack: Stack, wire: float, end: str, hops: int, fabric_s: float | None = None) -> float:
    """Seconds of a ring that sends a flag with every word: no chunks to fill, a share of the rate."""
    time, rate = ENDS[end]
    hop = known(stack, "ring.ll.hop_nvlink_s" if fabric_s is None else "ring.ll.hop_nic_s", time) + (fabric_s or 0.0)
    return known(stack, "ring.ll.base_s", time) + hops * hop + wire / known(stack, "ring.ll.share", rate)


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("size", [1e3, 1e5, 1e7, 1e9])
def test_a_ring_is_latency_wire_and_fill_or_the_faster_one_with_flags(
    h800: Network, stack: Stack, size: float, end: str
) -> None:
    """(n - 1) steps, each over a link and a switch; the square root is the pipeline of chunks filling."""
    time, rate = ENDS[end]
    base, fill = known(stack, "ring.base_s", time), known(stack, "ring.fill_s", time)
    hop, hop_nic = known(stack, "ring.hop_nvlink_s", time), known(stack, "ring.hop_nic_s", time)
    inside = size * 7 / 8 / (200e9 * known(stack, "link.nvlink.ring", rate))
    expected = min(base + 7 * hop + inside + sqrt(fill * inside), by_flags(stack, inside, end, 7))
    assert getattr(ring_cost("all_gather", size, GroupShape(8, 1, 8), h800, stack), end) == pytest.approx(expected)
    over = size * 3 / 4 / (50e9 * known(stack, "link.nic.ring", rate))
    whole = base + 3 * (hop_nic + 3.7e-6) + over + sqrt(fill * over)
    expected = min(whole, by_flags(stack, over, end, 3, 3.7e-6))
    far = GroupShape(4, 4, 1, node_stride=64)
    assert getattr(ring_cost("reduce_scatter", size, far, h800, stack), end) == pytest.approx(expected)


def test_the_node_with_the_fewest_members_binds_a_ring(h800: Network, stack: Stack) -> None:
    """4 and 2 members: two NICs carry the ring, not three."""
    cost = ring_cost("all_gather", 1e15, GroupShape(6, 2, 2), h800, stack)
    assert cost.seconds == pytest.approx(1e15 * 5 / 6 / (2 * 0.85 * 50e9), rel=1e-3)


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize(("stride", "fabric_s"), [(1, 2.8e-6), (64, 3.7e-6)])
def test_a_small_send_pays_launch_hop_and_switches(
    h800: Network, stack: Stack, stride: int, fabric_s: float, end: str
) -> None:
    time, rate = ENDS[end]
    fixed = known(stack, "ring.base_s", time) + known(stack, "ring.hop_nic_s", time) + fabric_s
    wire = 1000 / (50e9 * known(stack, "link.nic.p2p", rate))
    cost = p2p_cost(1000, h800, stack, same_node=False, node_stride=stride)
    assert getattr(cost, end) == pytest.approx(fixed + wire, rel=1e-9)


@pytest.mark.parametrize(("ranks", "steps"), [(2, 2), (3, 4), (8, 6), (2048, 22)])
def test_a_scalar_goes_up_a_tree_and_down(h800: Network, stack: Stack, ranks: int, steps: int) -> None:
    cost = scalar_all_reduce_cost(ranks, h800, stack)
    for end, (time, _) in ENDS.items():
        hop = known(stack, "ring.hop_nic_s", time) + 3.7e-6
        assert getattr(cost, end) == pytest.approx(known(stack, "ring.base_s", time) + steps * hop)
    assert cost.bound_by == "latency"
    assert scalar_all_reduce_cost(1, h800, stack).seconds == 0.0


ORDER: tuple[Basis, ...] = ("measured", "interpolated", "extrapolated", "transferred", "assumed")


def test_a_sum_is_as_certain_as_its_least_certain_part() -> None:
    for index, basis in enumerate(ORDER):
        assert weakest(*ORDER[: index + 1]) == weakest(basis, ORDER[0]) == basis


def test_an_assumed_factor_makes_a_measured_time_assumed() -> None:
    slower = CollectiveCost(2.0, 1.0, 3.0, "measured", "rows").times(Range(1.5, 1.0, 2.0, "assumed", "a guess"))
    assert (slower.seconds, slower.low, slower.high, slower.basis) == (3.0, 1.0, 6.0, "assumed")
    assert "a guess" in slower.source


def test_hashed_routing_is_as_certain_as_its_share_where_flows_leave_the_leaf(h800: Network, stack: Stack) -> None:
    ecmp = stack.parameters["link.nic.flows"].model_copy(update={"basis": "assumed"})
    guessed = replace(stack, parameters={**stack.parameters, "link.nic.flows": ecmp})
    hashed = replace(h800, routing="ecmp")
    near, far = GroupShape(2, 2, 1), GroupShape(2, 2, 1, node_stride=64)
    assert ring_cost("all_gather", 1e12, far, hashed, guessed).basis == "assumed"
    assert p2p_cost(1e9, hashed, guessed, same_node=False, node_stride=64).basis == "assumed"
    assert p2p_cost(1e9, hashed, guessed, same_node=False).basis == p2p_cost(1e9, h800, stack, same_node=False).basis
    assert (
        ring_cost("all_gather", 1e12, near, hashed, guessed).basis
        == ring_cost("all_gather", 1e12, near, h800, stack).basis
    )


def with_basis(stack: Stack, key: str, basis: Basis) -> Stack:
    entry = stack.parameters[key].model_copy(update={"basis": basis})
    return replace(stack, parameters={**stack.parameters, key: entry})


@pytest.mark.parametrize("key", ["ring.base_s", "ring.fill_s", "ring.hop_nvlink_s", "link.nvlink.ring"])
def test_a_ring_is_as_certain_as_its_least_certain_constant(h800: Network, stack: Stack, key: str) -> None:
    group = GroupShape(8, 1, 8)
    assert ring_cost("all_gather", 1e9, group, h800, stack).basis != "assumed"
    assert ring_cost("all_gather", 1e9, group, h800, with_basis(stack, key, "assumed")).basis == "assumed"


@pytest.mark.parametrize(("key", "used"), [("ring.hop_nic_s", True), ("ring.hop_nvlink_s", False)])
def test_hops_that_a_ring_does_not_make_do_not_blur_it(h800: Network, stack: Stack, key: str, used: bool) -> None:
    """One rank a node: all hops are over the NIC."""
    cost = ring_cost("all_gather", 1e9, GroupShape(4, 4, 1), h800, with_basis(stack, key, "assumed"))
    assert (cost.basis == "assumed") == used


def test_an_all_reduce_passes_its_hops_twice(h800: Network, stack: Stack) -> None:
    """8 ranks of a node: 7 hops to reduce, 7 to spread; eight bytes take no time on the wire."""
    cost = ring_cost("all_reduce", 8, GroupShape(8, 1, 8), h800, stack)
    assert cost.seconds == pytest.approx(6.6e-6 + 14 * 0.6e-6, rel=1e-2)


def test_one_rank_a_node_never_waits_for_nvlink(h800: Network, stack: Stack) -> None:
    """However slow it is: the ring has no link inside a node."""
    slow = replace(h800, scale_up_bytes_per_s=5e9)
    cost = ring_cost("all_gather", 1e15, GroupShape(4, 4, 1), slow, stack)
    assert cost.seconds == pytest.approx(1e15 * 3 / 4 / (50e9 * known(stack, "link.nic.ring", "value")), rel=1e-3)
    assert cost.bound_by == "nic"


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("end", list(ENDS))
def test_shared_uplinks_have_the_ends_of_their_shares(h800: Network, stack: Stack, end: str, adaptive: bool) -> None:
    """Half of the rate on the uplinks, of hashed flows a share of that with a range of its own."""
    _, rate = ENDS[end]
    over = replace(h800, routing="adaptive" if adaptive else "ecmp", wiring=replace(h800.wiring, oversubscription=2.0))
    share = (
        known(stack, "link.nic.ring", rate)
        * (1.0 if adaptive else even_share(2.0 * known(stack, "link.nic.flows", rate), 22))
        / 2
    )
    cost = ring_cost("all_gather", 1e15, GroupShape(2, 2, 1, node_stride=64), over, stack)
    assert getattr(cost, end) == pytest.approx(1e15 / 2 / (50e9 * share), rel=1e-3)


@pytest.mark.parametrize(("factor", "bound_by"), [(0.99, "latency"), (1.01, "scale_up")])
def test_a_ring_is_bound_by_latency_below_the_size_at_which_hops_equal_the_wire(
    h800: Network, stack: Stack, factor: float, bound_by: str
) -> None:
    """At the stated values: seven hops, and seven eighths of the bytes at the achieved rate with flags."""
    hops, rate = 7 * known(stack, "ring.ll.hop_nvlink_s", "value"), 200e9 * known(stack, "link.nvlink.ring", "value")
    rate *= known(stack, "ring.ll.share", "value")
    size = factor * hops * rate * 8 / 7
    assert ring_cost("all_gather", size, GroupShape(8, 1, 8), h800, stack).bound_by == bound_by
