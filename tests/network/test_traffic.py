"""An all-to-all's bytes: what every GPU sends somebody receives, own-node copies are off the NIC, and the means are
exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.network.traffic import exchange_traffic
from simulator.workload.op import AllToAll

DISPATCH = AllToAll("dispatch", "F", 4096, 7392, 8, 64, nodes_per_token=3.63, ranks_per_token=7.34)


def test_published_remote_nodes_of_deepseek_v3() -> None:
    """8 of 256 experts in at most 4 of 8 groups: 3.63 nodes a token, 7/8 of them remote, 96 MB over the NIC."""
    traffic = exchange_traffic(DISPATCH)
    assert traffic.remote_nodes_per_token == pytest.approx(3.63 * 7 / 8)
    assert traffic.nic_bytes == pytest.approx(4096 * 7392 * 3.63 * 7 / 8)


def test_one_node_uses_no_nic_and_one_gpu_a_node_no_nvlink() -> None:
    inside = exchange_traffic(replace(DISPATCH, num_nodes=1, ranks=8, nodes_per_token=1.0, ranks_per_token=5.29))
    assert inside.nic_bytes == 0.0
    assert inside.scale_up_bytes == pytest.approx(4096 * 7392 * 5.29 * 7 / 8)
    outside = exchange_traffic(replace(DISPATCH, ranks=8, nodes_per_token=3.0, ranks_per_token=3.0))
    assert outside.scale_up_bytes == 0.0


@given(tokens=st.integers(0, 10**6), nodes=st.integers(1, 64), local=st.integers(1, 72))
def test_bytes_are_linear_in_tokens_and_never_negative(tokens: int, nodes: int, local: int) -> None:
    message = replace(DISPATCH, tokens=tokens, num_nodes=nodes, ranks=nodes * local, nodes_per_token=min(3.0, nodes))
    one, two = exchange_traffic(message), exchange_traffic(replace(message, tokens=2 * tokens))
    assert one.nic_bytes >= 0.0 and one.scale_up_bytes >= 0.0
    assert two.nic_bytes == 2 * one.nic_bytes and two.scale_up_bytes == 2 * one.scale_up_bytes


@pytest.mark.parametrize(("nodes", "local", "limit"), [(1, 8, 1), (2, 8, 2), (8, 8, 4), (4, 2, 4)])
def test_means_equal_a_count_of_every_copy(nodes: int, local: int, limit: int) -> None:
    """Tokens drawn one by one and sent copy by copy: to the same rail of each node, from there to each GPU that needs
    it."""
    rng = np.random.default_rng(0)
    ranks, tokens, experts_per_rank, top_k = nodes * local, 400, 4, 8
    sent_nic, sent_scale_up, received = (np.zeros(ranks) for _ in range(3))
    node_hits, rank_hits = [], []
    for source in range(ranks):
        for _ in range(tokens):
            used = rng.choice(nodes, limit, replace=False)
            candidates = np.concatenate([np.arange(n * local, (n + 1) * local) for n in used])
            experts = rng.choice(
                len(candidates) * experts_per_rank, min(top_k, len(candidates) * experts_per_rank), False
            )
            targets = {int(candidates[e // experts_per_rank]) for e in experts}
            reached = {target // local for target in targets}
            node_hits.append(len(reached))
            rank_hits.append(len(targets))
            for n in reached:
                relay = n * local + source % local
                sent_nic[source] += n != source // local
                for target in (t for t in targets if t // local == n):
                    received[target] += 1
                    sent_scale_up[relay] += target != relay
    message = AllToAll("dispatch", "F", tokens, 1, nodes, ranks, float(np.mean(node_hits)), float(np.mean(rank_hits)))
    traffic = exchange_traffic(message)
    assert received.sum() == sum(rank_hits)
    assert traffic.nic_bytes == pytest.approx(sent_nic.mean(), rel=0.02)
    assert traffic.scale_up_bytes == pytest.approx(sent_scale_up.mean(), rel=0.02)
