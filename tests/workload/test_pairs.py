"""Pairs of queries and keys: counted one by one, and what the ranks of a sequence share."""

from __future__ import annotations

import pytest

from simulator.workload.pairs import block_pairs, query_key_pairs, rank_pairs


def counted(documents: tuple[int, ...], window: int | None, positions: set[int]) -> float:
    """Pairs of the queries at these positions one by one, half of the newest key (the query's own) not counted."""
    found, start = 0.0, 0
    for length in documents:
        for q in (x for x in range(start, start + length) if x in positions):
            behind = q - start
            found += behind + 0.5 if window is None or behind < window else window
        start += length
    return found


def zigzag(rank: int, seq: int, cp: int) -> set[int]:
    size = seq // (2 * cp)
    return {i * size + j for i in (rank, 2 * cp - 1 - rank) for j in range(size)}


@pytest.mark.parametrize("window", [None, 5, 16])
@pytest.mark.parametrize("documents", [(48,), (10, 30, 8), (48 - 17, 17)])
def test_a_rank_has_the_pairs_of_its_own_queries_and_all_ranks_have_all(
    documents: tuple[int, ...], window: int | None
) -> None:
    cp, seq = 4, 48
    found = rank_pairs(seq, window=window, documents=documents, cp=cp)
    assert found == pytest.approx([counted(documents, window, zigzag(r, seq, cp)) for r in range(cp)])
    in_order = rank_pairs(seq, window=window, documents=documents, cp=cp, split="contiguous")
    assert in_order == pytest.approx([counted(documents, window, set(range(12 * r, 12 * r + 12))) for r in range(cp)])
    alone = sum(query_key_pairs(length, True, window) for length in documents)
    for split in ("zigzag", "documents", "contiguous"):
        assert sum(rank_pairs(seq, window=window, documents=documents, cp=cp, split=split)) == pytest.approx(alone)
    assert rank_pairs(seq, window=window, documents=documents) == pytest.approx([alone])


def test_zigzag_balances_a_causal_sequence_but_not_packed_documents() -> None:
    assert rank_pairs(4096, cp=8) == pytest.approx([4096**2 / 16] * 8)
    packed = (3000, 500, 500, 96)
    whole = rank_pairs(4096, documents=packed, cp=8)
    assert max(whole) > 1.1 * sum(whole) / 8
    alone = sum(length**2 / 2 for length in packed)
    assert rank_pairs(4096, documents=packed, cp=8, split="documents") == pytest.approx([alone / 8] * 8)


def test_a_window_leaves_far_blocks_without_pairs() -> None:
    assert block_pairs((512, 1024), (0, 256), window=128) == 0.0
    assert block_pairs((512, 1024), (0, 256)) == 512 * 256
