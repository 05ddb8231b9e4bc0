"""Messages beside the kernels of another micro-batch: what they wait for the end of a kernel."""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest

from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.shape import KernelShape
from simulator.assembly.chunks import BlockCost, Message, Piece, Segment, UnitCost
from simulator.assembly.meeting import of_pair, rest_s, with_shares
from simulator.costs.cost import CollectiveCost
from simulator.workload.op import Op
from tests.assembly.made_up import unit


def kernels(*seconds: float, groups: int = 1, library: str = "") -> Segment:
    """A block of GEMMs of these lengths; groups, library: of each."""
    shape = KernelShape("grouped_gemm" if groups > 1 else "gemm", "bf16", m=8, n=8, k=8, groups=groups, library=library)
    op = Op("a GEMM", "F", shape, 0, 0)
    pieces = tuple(Piece(op, KernelCost(each, each, each, "measured", "made up")) for each in seconds)
    return Segment(fsum(seconds), 0.0, 1.0, {"gemm": fsum(seconds)}, {"measured": fsum(seconds)}, pieces=pieces)


def message(seconds: float, bytes_nic: float) -> Segment:
    cost = CollectiveCost(seconds, seconds, seconds, "measured", "made up", bytes_nic=bytes_nic)
    what = Message("dispatch", cost, "all_to_all")
    return Segment(
        seconds, seconds, seconds, {"all_to_all": seconds}, {"measured": seconds}, pieces=(Piece(what, cost),)
    )


def layer(bytes_nic: float, block: Segment) -> UnitCost:
    """Its blocks are all alike, and its messages take 1 s each."""
    plain = unit("layer")
    blocks = {key: BlockCost((("", "none", block),)) for key in plain.blocks}
    return replace(plain, blocks=blocks, all_to_all={key: message(1.0, bytes_nic) for key in plain.all_to_all})


def test_the_rest_of_a_kernel_that_is_met_at_random_is_half_of_it_and_long_ones_are_met_more_often() -> None:
    assert rest_s([kernels(4.0)]) == pytest.approx(2.0)
    assert rest_s([kernels(1.0, 1.0), kernels(1.0)]) == pytest.approx(0.5)
    assert rest_s([kernels(1.0, 3.0)]) == pytest.approx((1.0 + 9.0) / 8.0)
    assert rest_s([]) == 0.0


def test_a_loop_over_experts_is_as_many_kernels_and_a_grouped_one_is_one() -> None:
    assert rest_s([kernels(8.0, groups=4, library="loop")]) == pytest.approx(1.0)
    assert rest_s([kernels(8.0, groups=4, library="grouped")]) == pytest.approx(4.0)


def test_messages_over_nics_wait_and_those_inside_a_node_do_not() -> None:
    """Blocks of 2 s beside messages of 1 s: a kernel is always there, and each waits for half of it."""
    far, near = (layer(bytes_nic, kernels(2.0)) for bytes_nic in (1e9, 0.0))
    for each, expected in ((far, 2.0), (near, 1.0)):
        shares = of_pair([each], [each])
        assert shares.start_s == pytest.approx(1.0)
        (priced,) = with_shares([each], shares)
        sent = priced.all_to_all["dispatch_f", "overlapped"]
        assert sent.seconds == pytest.approx(expected)
        assert sent.low == pytest.approx(1.0)
        assert sent.high == pytest.approx(1.0 + 2.0 * (expected - 1.0))
        assert fsum(sent.by_category.values()) == pytest.approx(sent.seconds)
        assert fsum(sent.by_basis.values()) == pytest.approx(sent.seconds)
        assert priced.all_to_all["dispatch_f", "alone"].seconds == 1.0


def test_where_kernels_are_short_of_messages_few_messages_meet_one() -> None:
    """Eight blocks of 0.1 s (forward and backward) beside four messages of 1 s: a kernel is there a fifth of the time."""
    each = layer(1e9, kernels(0.1))
    shares = of_pair([each], [each])
    assert shares.messages == pytest.approx(0.2)
    assert shares.start_s == pytest.approx(0.2 * 0.05)
    assert of_pair([each], [each], waits=False).start_s == 0.0
