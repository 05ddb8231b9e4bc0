"""Groups whose nodes hold unequal numbers of ranks: copies counted one by one, laws, and the limit of even nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.network.placement import Lie
from simulator.network.traffic import exchange_traffic
from simulator.step.routing import slowest_lie
from simulator.workload.expert_load import LoadModel, draw_loads
from simulator.workload.op import AllToAll
from simulator.workload.routing_model import routing_statistics
from simulator.workload.routing_rule import RoutingRule
from simulator.workload.uneven_group import nic_copies

RULE = RoutingRule(num_experts=64, top_k=6, ep=16, nodes=2, sequences=16, seq_len=1024, balance="forced")
PARTS = [(8, 8), (12, 4), (15, 1), (6, 5, 5), (10, 4, 1, 1)]


@pytest.mark.parametrize("members", PARTS)
def test_copies_over_nics_equal_a_count(members: tuple[int, ...]) -> None:
    """Every token of every rank sent copy by copy, one a node, over the NICs that the node's members share evenly."""
    rng = np.random.default_rng(0)
    node_of = np.repeat(np.arange(len(members)), members)
    tokens, ranks = 500, sum(members)
    received, sent, reached = (np.zeros(len(members)) for _ in range(3))
    for source in range(ranks):
        for _ in range(tokens):
            nodes = set(node_of[rng.choice(64, 6, replace=False) // 4].tolist())
            for node in nodes:
                reached[node] += 1
                if node != node_of[source]:
                    received[node] += 1
                    sent[node_of[source]] += 1
    copies = nic_copies(members, (reached / (tokens * ranks)).tolist())
    per_nic = np.array(members) * tokens
    assert copies.arriving == pytest.approx((received / per_nic).tolist(), rel=0.02)
    assert copies.leaving == pytest.approx((sent / per_nic).tolist(), rel=0.02)
    rule = replace(RULE, nodes=len(members), members=members)
    found = routing_statistics(rule, 0)
    assert found.copies is not None and found.copies.members == members
    assert found.copies.busiest == pytest.approx(copies.busiest, rel=0.03)
    assert found.nodes_per_token == pytest.approx(reached.sum() / (tokens * ranks), rel=0.02)


@given(ranks=st.integers(2, 72), few=st.integers(1, 36))
def test_the_fewer_on_a_node_the_more_its_nics_carry(ranks: int, few: int) -> None:
    few = min(few, ranks // 2)
    reach = [1.0 - (1.0 - here / ranks) ** 8 for here in (ranks - few, few)]
    copies = nic_copies((ranks - few, few), reach)
    assert copies.busiest == max(copies.arriving[1], *copies.leaving)
    if few > 1:
        fewer = [1.0 - (1.0 - here / ranks) ** 8 for here in (ranks - few + 1, few - 1)]
        assert nic_copies((ranks - few + 1, few - 1), fewer).busiest >= copies.busiest * (1 - 1e-12)


def test_even_parts_written_out_are_the_even_group() -> None:
    even = routing_statistics(RULE, 0)
    written = routing_statistics(replace(RULE, members=(8, 8)), 0)
    assert (even.nodes_per_token, even.ranks_per_token) == (written.nodes_per_token, written.ranks_per_token)
    assert even.copies is None and written.copies is not None
    message = AllToAll("dispatch", "F", 4096, 4096, 2, 16, even.nodes_per_token, even.ranks_per_token)
    told = replace(message, remote_per_token=written.copies.busiest, fullest_node=8)
    assert exchange_traffic(told).nic_bytes == pytest.approx(exchange_traffic(message).nic_bytes, rel=0.01)
    assert exchange_traffic(told).scale_up_bytes == exchange_traffic(message).scale_up_bytes


def test_the_slowest_way_of_lying_is_the_one_with_a_lone_rank() -> None:
    lies = [Lie(9, (8,)), Lie(3, (4, 4)), Lie(1, (7, 1)), Lie(2, (6, 2))]
    assert slowest_lie(lies, 8) is lies[2]
    assert slowest_lie(lies[:1], 8) is lies[0]
    assert slowest_lie([Lie(1, (8,) * 8), Lie(1, (8,) * 4)], 8).members == (8,) * 8


def test_all_ranks_wait_for_the_busiest_nics() -> None:
    load = LoadModel(0.3, 0.1, ranks=16, nodes=16, members=(12, 4), nic_weights=(0.5, 1.0))
    drawn = draw_loads(load, 2, 3, 0, 0)
    rows = drawn[:, :, 0]
    by_hand = np.maximum(0.5 * rows[..., :12].mean(axis=-1), rows[..., 12:].mean(axis=-1))
    assert drawn[:, :, 1] == pytest.approx(np.repeat(by_hand[..., None], 16, axis=-1))
    assert np.array_equal(drawn[:, :, 1], drawn[:, :, 2])


@pytest.mark.parametrize("members", [(8, 7), (16,), (17, -1)])
def test_parts_that_are_not_the_group_are_refused(members: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="members"):
        replace(RULE, members=members)
