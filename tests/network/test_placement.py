"""Groups are consecutive ranks in the order tp-cp-ep-dp-pp; their shapes are those of a count rank by rank."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.network.placement import GroupShape, Hop, Lie, Mesh, place

DEEPSEEK_V3 = Mesh(num_gpus=2048, pp=16, ep=64)


def test_deepseek_v3_on_2048_gpus() -> None:
    """128 ranks a stage on 16 nodes; an expert group on 8; two holders of an expert 8 nodes apart, four with the
    mirror."""
    shapes = place(DEEPSEEK_V3, gpus_per_node=8)
    assert shapes.expert_groups == (Lie(32, (8,) * 8),)
    assert shapes.dense_dp == GroupShape(128, 16, 8)
    assert shapes.expert_dp == GroupShape(2, 2, 1, node_stride=8)
    # Two blocks of neighbours: the one wide gap between them does not part the others.
    assert shapes.dense_dp_mirror == GroupShape(256, 32, 8, node_stride=1)
    assert shapes.expert_dp_mirror.ranks == 4
    assert shapes.expert_dp_mirror.ranks_per_node == 1
    assert set(shapes.pp_hops[:-1]) == {Hop(same_node=False, node_stride=16, senders=8)}
    assert shapes.pp_hops[-1] == Hop(same_node=False, node_stride=240, senders=8)


def test_small_groups_stay_in_a_node() -> None:
    shapes = place(Mesh(num_gpus=64, tp=4, pp=2, ep=4, etp=2), gpus_per_node=8)
    assert shapes.tp == GroupShape(4, 1, 4)
    assert {lie.members for lie in shapes.expert_groups} == {(4,)}
    assert shapes.etp == GroupShape(2, 1, 2)
    assert shapes.dense_dp == GroupShape(8, 4, 2)
    assert set(place(Mesh(num_gpus=8, pp=8), gpus_per_node=8).pp_hops) == {Hop(True, 0, 0)}
    assert place(Mesh(num_gpus=8), gpus_per_node=8).pp_hops == (Hop(True, 0, 0),)


def test_a_rack_scale_domain_is_one_node() -> None:
    assert max(len(lie.members) for lie in place(Mesh(num_gpus=576, ep=64), gpus_per_node=72).expert_groups) == 2
    assert place(Mesh(num_gpus=64, ep=64), gpus_per_node=72).expert_groups == (Lie(1, (64,)),)


@st.composite
def meshes(draw: st.DrawFn) -> tuple[Mesh, int]:
    degree = st.sampled_from([1, 2, 3, 4])
    tp, cp, dp, pp = (draw(degree) for _ in range(4))
    stage = tp * cp * dp
    etp = draw(st.sampled_from([n for n in (1, 2, 4) if stage % n == 0]))
    ep = draw(st.sampled_from([n for n in range(1, stage // etp + 1) if stage % (etp * n) == 0]))
    return Mesh(stage * pp, tp, cp, pp, ep, etp), draw(st.sampled_from([1, 2, 3, 4, 6, 8]))


def shape_by_count(group: list[int], gpus_per_node: int) -> GroupShape:
    """Members of each node counted, and the gap that most of its nodes leave: the median."""
    members = Counter(rank // gpus_per_node for rank in group)
    nodes = sorted(members)
    gaps = [after - before for before, after in pairwise(nodes)]
    return GroupShape(len(group), len(nodes), min(members.values()), int(median(gaps)) if gaps else 1)


@given(meshes())
@settings(max_examples=60, deadline=None)
def test_shapes_equal_a_count_by_coordinates(case: tuple[Mesh, int]) -> None:
    mesh, gpus_per_node = case
    groups: dict[str, dict[tuple[int, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    experts: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for rank in range(mesh.num_gpus):
        pp, inside = divmod(rank, mesh.stage_ranks)
        tp, cp, dp = inside % mesh.tp, inside // mesh.tp % mesh.cp, inside // (mesh.tp * mesh.cp)
        etp, ep, edp = inside % mesh.etp, inside // mesh.etp % mesh.ep, inside // (mesh.etp * mesh.ep)
        groups["tp"][pp, dp, cp].append(rank)
        groups["cp"][pp, dp, tp].append(rank)
        groups["dense_dp"][pp, tp].append(rank)
        experts[pp, edp, etp].append(rank)
        groups["etp"][pp, edp, ep].append(rank)
        groups["expert_dp"][pp, ep, etp].append(rank)
    shapes = place(mesh, gpus_per_node)
    for name, members in groups.items():
        counted = [shape_by_count(group, gpus_per_node) for group in members.values()]
        # The slowest group: on several nodes with the fewest NICs in one, then on most, then with its nodes farthest apart.
        slowest = max(counted, key=lambda s: (s.nodes > 1, -s.ranks_per_node, s.nodes, s.node_stride))
        assert getattr(shapes, name) == slowest, name
    ways = Counter(
        tuple(sorted(Counter(rank // gpus_per_node for rank in group).values(), reverse=True))
        for group in experts.values()
    )
    assert {lie.members: lie.groups for lie in shapes.expert_groups} == ways
    node = [rank // gpus_per_node for rank in range(mesh.num_gpus)]
    assert len(shapes.pp_hops) == mesh.pp
    for position, hop in enumerate(shapes.pp_hops):
        following = (position + 1) % mesh.pp
        ends = [(mesh.stage_ranks * position + i, mesh.stage_ranks * following + i) for i in range(mesh.stage_ranks)]
        steps = [abs(node[after] - node[before]) for before, after in ends]
        assert hop.same_node == (not any(steps))
        assert hop.node_stride == max(steps)


def test_each_hop_lies_where_its_pairs_do() -> None:
    """Four ranks a stage on nodes of eight: every other hop stays inside, the way back from the last crosses all."""
    hops = place(Mesh(num_gpus=32, pp=8), gpus_per_node=8).pp_hops
    assert [hop.same_node for hop in hops] == [True, False] * 4
    assert [hop.node_stride for hop in hops] == [0, 1, 0, 1, 0, 1, 0, 3]
    assert [hop.senders for hop in hops] == [0, 4, 0, 4, 0, 4, 0, 4]


def test_of_a_hop_half_inside_a_node_the_pairs_that_cross_count() -> None:
    """Six ranks a stage on nodes of eight: two of six pairs of the first hop share a node."""
    first = place(Mesh(num_gpus=24, pp=4), gpus_per_node=8).pp_hops[0]
    assert first == Hop(same_node=False, node_stride=1, senders=6)


@pytest.mark.parametrize("axes", [{"tp": 3}, {"pp": 5}, {"ep": 7}, {"ep": 16, "etp": 8}, {"pp": 0}])
def test_degrees_that_do_not_divide_are_refused(axes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"divi|at least"):
        Mesh(num_gpus=64, **axes)


@pytest.mark.parametrize(
    ("mesh", "domain", "host", "senders"),
    [
        (DEEPSEEK_V3, 8, 8, 8),
        (Mesh(num_gpus=16, pp=16), 8, 8, 1),
        (Mesh(num_gpus=32, pp=8), 8, 8, 4),
        (Mesh(num_gpus=8, pp=8), 8, 8, 0),
        (Mesh(num_gpus=144, pp=2), 72, 4, 4),
        (Mesh(num_gpus=144, pp=144), 72, 4, 1),
    ],
)
def test_gpus_that_send_over_the_nics_of_a_host_together(mesh: Mesh, domain: int, host: int, senders: int) -> None:
    """Of a pipeline inside its hosts only the last GPU of each sends to another: alone."""
    assert max(hop.senders for hop in place(mesh, domain, host).pp_hops[:-1]) == senders


def test_groups_of_eight_on_racks_of_seventy_two_lie_in_five_ways() -> None:
    """576 GPUs in groups of 64: two inside a rack, others in parts that shift by eight."""
    lies = place(Mesh(num_gpus=576, ep=64), gpus_per_node=72).expert_groups
    assert set(lies) == {
        Lie(2, (64,)), Lie(2, (56, 8)), Lie(2, (48, 16)), Lie(2, (40, 24)), Lie(1, (32, 32)),
    }  # fmt: skip
    assert {lie.members: lie.is_even for lie in lies}[32, 32] and not Lie(1, (56, 8)).is_even
    assert place(DEEPSEEK_V3, gpus_per_node=8).expert_groups == (Lie(32, (8,) * 8),)
