"""Ring collectives and sends: bandwidth bounds exactly, (n-1)/n of the bytes, as many NICs as the node has members."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.kernels.parameters import MissingKernelError
from hwprofiles.stack_records import Stack
from simulator.costs.collectives.p2p import p2p_cost
from simulator.costs.collectives.ring import RingOp, ring_cost
from simulator.network.hashing import even_share
from simulator.network.placement import GroupShape
from simulator.network.topology import Network

HUGE = 1e15
"""Bytes beside which latency and pipeline fill vanish."""
NODE = GroupShape(8, 1, 8)
DENSE = GroupShape(256, 32, 8)
EXPERT = GroupShape(4, 4, 1, node_stride=8)
OPS: tuple[RingOp, ...] = ("reduce_scatter", "all_gather", "all_reduce")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("group", "bus_bytes_per_s", "bound_by"),
    [
        (NODE, 0.80 * 200e9, "scale_up"),
        (DENSE, 0.80 * 200e9, "scale_up"),
        (GroupShape(8, 4, 2), 2 * 0.85 * 50e9, "nic"),
        (GroupShape(12, 4, 3), 3 * 0.85 * 50e9, "nic"),
        (EXPERT, 0.85 * 50e9, "nic"),
    ],
)
def test_bandwidth_bounds(
    h800: Network, stack: Stack, op: RingOp, group: GroupShape, bus_bytes_per_s: float, bound_by: str
) -> None:
    """(n-1)/n of the bytes over the lower of g NICs and NVLink; an all-reduce moves them twice."""
    cost = ring_cost(op, HUGE, group, h800, stack)
    rounds = 2 if op == "all_reduce" else 1
    wire = rounds * HUGE * (group.ranks - 1) / group.ranks
    assert cost.seconds == pytest.approx(wire / bus_bytes_per_s, rel=1e-3)
    assert cost.seconds >= wire / bus_bytes_per_s
    assert cost.bound_by == bound_by
    assert cost.bytes_nic + cost.bytes_scale_up == pytest.approx(wire)
    assert cost.bytes_nic == pytest.approx(wire * (0 if group.nodes == 1 else group.nodes / group.ranks))


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather(h800: Network, stack: Stack) -> None:
    halves = [ring_cost(op, HUGE, DENSE, h800, stack).seconds for op in ("reduce_scatter", "all_gather")]
    assert ring_cost("all_reduce", HUGE, DENSE, h800, stack).seconds == pytest.approx(sum(halves), rel=1e-3)


def test_small_messages_cost_latency(h800: Network, stack: Stack) -> None:
    """Steps of the ring with flags: base + 7 hops in a node; over nodes each member's node once over the NIC and the fabric."""
    assert ring_cost("all_gather", 8, NODE, h800, stack).seconds == pytest.approx(6.6e-6 + 7 * 0.6e-6, rel=1e-2)
    two = ring_cost("reduce_scatter", 8, GroupShape(2, 2, 1), h800, stack)
    assert two.seconds == pytest.approx(6.6e-6 + 1e-6 + 2.8e-6, rel=1e-2)
    assert two.bound_by == "latency"


@given(size=st.floats(1.0, 1e11), more=st.floats(1.0, 10.0), rate=st.floats(1.0, 8.0), index=st.integers(0, 2))
def test_more_bytes_are_never_faster_and_faster_links_never_slower(
    h800: Network, stack: Stack, size: float, more: float, rate: float, index: int
) -> None:
    faster = replace(h800, nic_bytes_per_s=50e9 * rate, scale_up_bytes_per_s=200e9 * rate)
    for group in (NODE, DENSE, EXPERT):
        cost = ring_cost(OPS[index], size, group, h800, stack)
        assert cost.low <= cost.seconds <= cost.high
        assert cost.seconds <= ring_cost(OPS[index], size * more, group, h800, stack).seconds
        assert ring_cost(OPS[index], size, group, faster, stack).seconds <= cost.seconds


@given(size=st.floats(1.0, 1e10), rate=st.floats(1.0, 8.0), index=st.integers(0, 2))
def test_beside_kernels_faster_nics_are_never_slower_either(
    h800: Network, stack: Stack, size: float, rate: float, index: int
) -> None:
    """Whatever binds then: NICs, or the links inside nodes, whose bytes alone take longer beside kernels."""
    for group in (NODE, DENSE, EXPERT):
        usual = ring_cost(OPS[index], size, group, h800, stack)
        faster = ring_cost(OPS[index], size, group, replace(h800, nic_bytes_per_s=50e9 * rate), stack)
        assert faster.beside_s(2.0) <= usual.beside_s(2.0) <= 2.0 * usual.seconds
        assert usual.beside_s(1.0) == usual.seconds and usual.latency_s <= usual.inside_s <= usual.seconds
    inside, far = (ring_cost("all_gather", HUGE, group, h800, stack) for group in (NODE, EXPERT))
    assert inside.beside_s(2.0) == pytest.approx(2.0 * inside.seconds, rel=1e-3)
    assert far.beside_s(2.0) == far.seconds


def test_one_rank_or_no_bytes_cost_nothing(h800: Network, stack: Stack) -> None:
    assert ring_cost("all_reduce", 1e9, GroupShape(1, 1, 1), h800, stack).seconds == 0.0
    assert ring_cost("all_reduce", 0, DENSE, h800, stack).seconds == 0.0
    assert p2p_cost(0, h800, stack, same_node=False).seconds == 0.0


def test_hashed_flows_and_oversubscription_slow_what_leaves_the_leaf(h800: Network, stack: Stack) -> None:
    far = GroupShape(2, 2, 1, node_stride=64)
    hashed = replace(h800, routing="ecmp")
    over = replace(h800, wiring=replace(h800.wiring, oversubscription=2.0))
    base = ring_cost("all_gather", HUGE, far, h800, stack).seconds
    assert ring_cost("all_gather", HUGE, far, hashed, stack).seconds == pytest.approx(
        base / even_share(32.0, 32), rel=1e-3
    )
    assert ring_cost("all_gather", HUGE, far, over, stack).seconds == pytest.approx(base * 2.0, rel=1e-3)
    near = GroupShape(2, 2, 1)
    assert ring_cost("all_gather", HUGE, near, over, stack).seconds == pytest.approx(base, rel=1e-3)


def test_a_pipeline_send_of_deepseek_v3(h800: Network, stack: Stack) -> None:
    """4096 tokens x 7168 x 2 bytes: 1.3 to 1.5 ms over a 400 Gb/s NIC, 0.37 ms over NVLink."""
    size = 4096 * 7168 * 2
    send = p2p_cost(size, h800, stack, same_node=False, node_stride=16)
    assert 1.25e-3 < send.low < send.seconds < send.high < 1.55e-3
    assert (send.bytes_nic, send.bytes_scale_up, send.bound_by) == (size, 0.0, "nic")
    inside = p2p_cost(size, h800, stack, same_node=True)
    assert inside.seconds == pytest.approx(size / 160e9 + 11.8e-6)
    assert send.nic_s == pytest.approx(size / (0.97 * 50e9), rel=1e-3) and send.scale_up_s == 0.0
    assert inside.scale_up_s == pytest.approx(size / 160e9) and inside.nic_s == 0.0


def test_a_mesh_has_a_link_for_each_peer(h800: Network, stack: Stack) -> None:
    mesh = replace(h800, scale_up_peer_bytes_per_s=50e9)
    assert p2p_cost(HUGE, mesh, stack, True).seconds == pytest.approx(HUGE / 40e9, rel=1e-3)


def test_a_missing_key_is_named(h800: Network, stack: Stack) -> None:
    bare = replace(stack, parameters={})
    with pytest.raises(MissingKernelError, match=r"link\.nvlink\.ring"):
        ring_cost("all_gather", 1e9, NODE, h800, bare)
