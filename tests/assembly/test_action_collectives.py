"""Gathers and reductions inside an action: order, what waits for what, and what they take from kernels, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.assembly.chunks import COMPUTE, DP, BlockCost, LocalOp, Message, Segment, StageCost, UnitCost
from simulator.assembly.collectives import ActionCollectives, Bucket, PassCollectives, side_by_side
from simulator.assembly.pair import build_template
from simulator.assembly.pairing import Pairing
from simulator.assembly.template import Template
from simulator.costs.cost import NO_COST, CollectiveCost
from tests.assembly.made_up import FIXED, REGIMES, segment, stage, unit


def near_cost(seconds: float) -> CollectiveCost:
    """All of it inside a node."""
    return replace(NO_COST, seconds=seconds, low=seconds, high=seconds, bound_by="scale_up", inside_s=seconds)


def bucket(unit_idx: int, name: str, seconds: float = 1.0, *, near: bool = False) -> Bucket:
    length = segment(seconds)
    return Bucket(
        unit_idx,
        ((name, replace(length, messages=(Message(name, near_cost(seconds), "data_parallel"),) if near else ())),),
    )


def plain(count: int, seconds: float = 1.0, beside: float = 1.25) -> tuple[UnitCost, ...]:
    """Units whose six blocks take `seconds` each, and `beside` times as long beside a collective."""
    alone = {(name, regime): BlockCost((("", "none", segment(seconds)),)) for name in FIXED for regime in REGIMES}
    slow = {name: BlockCost((("", "none", segment(seconds * beside)),)) for name in FIXED}
    return tuple(UnitCost(f"u{idx}", alone, {}, is_moe=False, beside=slow) for idx in range(count))


def template(kind: str, **halves: PassCollectives) -> Template:
    made = stage(0, *(unit(f"u{idx}", is_moe=False) for idx in range(3)))
    plan = ActionCollectives(**halves)
    return build_template(kind, made, None, pairing=Pairing(beside=False), wait_at_boundary=True, collectives=plan)  # type: ignore[arg-type]


def named(t: Template, name: str) -> LocalOp:
    (found,) = (op for op in t.ops if op.label == name)
    return found


@pytest.mark.parametrize("ahead", [0, 1, None])
def test_a_gather_waits_for_the_unit_that_makes_room(ahead: int | None) -> None:
    """One ahead: g1 beside u0, g2 when u0 is done. None ahead: each when the unit before its own is done. None: at once."""
    gathers = tuple(bucket(idx, f"g{idx}") for idx in range(3))
    t = template("F", forward=PassCollectives(gathers, ahead=ahead))
    labels = [op.label for op in t.ops]
    last = [max(i for i, op in enumerate(t.ops) if op.label.startswith(f"u{idx}.")) for idx in range(3)]
    waits = [[pred for pred in named(t, f"g{idx}").preds if t.ops[pred].stream == COMPUTE] for idx in range(3)]
    assert waits == {0: [[], [last[0]], [last[1]]], 1: [[], [], [last[0]]], None: [[], [], []]}[ahead]
    for idx in range(3):
        assert labels.index(f"g{idx}") in named(t, f"u{idx}.attn_f").preds
    across = {0: (-1, 0), 1: (0, 1), None: (-1, -1)}[ahead]
    assert tuple(labels[i] if i >= 0 else "" for i in (t.early_gather, t.next_gather)) == tuple(
        f"g{idx}" if idx >= 0 else "" for idx in across
    )
    assert t.before_last == last[1]


@pytest.mark.parametrize("kind", ["B", "W"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_reduction_runs_behind_its_weight_gradient(kind: str, beside: bool) -> None:
    """The next unit waits for it only where nothing may run beside it."""
    plan = PassCollectives((), (bucket(2, "r2"), bucket(0, "r0")), reduces_beside=beside)
    t = template(kind, backward=plan)
    labels = [op.label for op in t.ops]
    assert named(t, "r2").preds == [labels.index("u2.attn_w")] and named(t, "r0").preds == [labels.index("u0.attn_w")]
    assert all(op.is_join for op in t.ops if op.stream == DP)
    following = named(t, "u1.mlp_b_local" if kind == "B" else "u1.mlp_w")
    assert (labels.index("r2") in following.preds) == (not beside)


def test_kernels_are_slowed_for_the_share_of_time_in_which_collectives_run() -> None:
    """Two units of two forward blocks of 1 s, 5 s with a gather always beside them. The second gather takes 1 s of these: a
    fifth of a quarter each, and with the collective's 1 s they lose 1 - 1 / 1.25 of it together.
    """
    gathers = (bucket(0, "g0", 9.0), bucket(1, "g1", 1.0))
    units, plan = side_by_side(plain(2), PassCollectives(gathers, ahead=1, stretch=2.0), is_forward=True)
    assert plan.gathers == gathers, "a collective over NICs takes no longer"
    ((_, _, slowed),) = units[0].blocks["attn_f", "alone"].segments
    assert (slowed.seconds, slowed.by_category["interference"]) == (pytest.approx(1.05), pytest.approx(0.05))
    assert sum(slowed.by_category.values()) == pytest.approx(sum(slowed.by_basis.values())) == pytest.approx(1.05)
    untouched = [("attn_b", "alone"), ("attn_f", "overlapped")]
    assert all(units[0].blocks[key] == plain(1)[0].blocks[key] for key in untouched)  # type: ignore[index]
    alone, same = side_by_side(plain(2), PassCollectives(gathers, ahead=0), is_forward=True)
    assert alone[0].blocks["attn_f", "alone"].segments[0][2].seconds == 1.0 and same.gathers == gathers


def test_what_nothing_runs_beside_slows_nothing_down() -> None:
    """Several buckets before the first unit or behind the last one (embedding and layer), as one."""
    for plan in (
        PassCollectives((bucket(0, "a"), bucket(0, "b")), ahead=1, stretch=2.0),
        PassCollectives((), (bucket(0, "c", near=True), bucket(0, "d", near=True)), stretch=2.0),
    ):
        units, same = side_by_side(plain(2), plan, is_forward=bool(plan.gathers))
        assert same == plan and plan.beside_s == 0.0
        assert units == plain(2)


@pytest.mark.parametrize(("length", "expected"), [(1.0, 2.0), (5.0, 10.0), (8.0, 13.0), (100.0, 105.0)])
def test_a_near_collective_is_stretched_while_kernels_run(length: float, expected: float) -> None:
    """10 s of kernels behind it, twice as long: in these 10 s it does 5 s of its work, the rest alone."""
    reduces = (bucket(2, "r2", length, near=True), bucket(0, "r0", 5.0, near=True))
    plan = PassCollectives((), reduces, stretch=2.0)
    grown = side_by_side(plain(3), plan, is_forward=False)[1]
    assert [each.seconds for each in grown.reduces] == [pytest.approx(expected), 5.0]
    told: Segment = grown.reduces[0].collectives[0][1]
    assert told.messages[0].cost == near_cost(length) and told.low / told.seconds == pytest.approx(0.5)


def test_a_collective_over_nics_is_stretched_by_its_way_inside_the_nodes() -> None:
    """8 s over NICs, and 6 inside with free ones, of which 1 is latency: the other 5 take 10 beside kernels."""
    cost = replace(near_cost(8.0), bound_by="nic", nic_s=8.0, inside_s=6.0, latency_s=1.0)
    far = replace(segment(8.0), messages=(Message("far", cost, "data_parallel"),))
    plan = PassCollectives((), (Bucket(3, (("r3", far),)), bucket(0, "r0")), stretch=2.0)
    assert side_by_side(plain(4), plan, is_forward=False)[1].reduces[0].seconds == pytest.approx(11.0)
    slower = replace(plan, stretch=1.2)
    assert side_by_side(plain(4), slower, is_forward=False)[1].reduces[0].seconds == pytest.approx(8.0)


@pytest.mark.parametrize(("behind", "share"), [(3, 3 / 4), (2, 2 / 4), (1, 1 / 4)])
def test_kernels_before_a_reduction_have_nothing_beside_them(behind: int, share: float) -> None:
    """However long it is: only the units that follow lose a fifth of their rate, told as the share of all of them."""
    plan = PassCollectives((), (bucket(behind, "r", 1000.0), bucket(0, "r0")))
    units, _ = side_by_side(plain(4), plan, is_forward=False)
    ((_, _, slowed),) = units[0].blocks["attn_b", "alone"].segments
    assert slowed.seconds == pytest.approx(1.0 + 0.25 * share)


def test_kernels_behind_the_last_gather_have_nothing_beside_them() -> None:
    """However long it is: of four units the first alone runs while the second's parameters arrive."""
    units, _ = side_by_side(
        plain(4), PassCollectives((bucket(0, "g0"), bucket(1, "g1", 1000.0)), ahead=1), is_forward=True
    )
    ((_, _, slowed),) = units[0].blocks["attn_f", "alone"].segments
    assert slowed.seconds == pytest.approx(1.0 + 0.25 / 4)


def test_a_stage_without_kernels_has_nothing_beside_it() -> None:
    empty = StageCost(0, ())
    plan = PassCollectives((), (bucket(1, "r1"), bucket(0, "r0")))
    assert side_by_side(empty.units, plan, is_forward=False) == ((), plan)
