"""Packed documents: their law against integrals and drawn sequences, what a core counts and takes, who waits for whom."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from statistics import NormalDist

import numpy as np
import pytest

from hwprofiles.kernels.shape import Document
from simulator.workload.counting import AttentionCore, attention
from simulator.workload.document_load import DocumentLoad, bank_of, slope, tilted
from simulator.workload.documents import Documents, groups, mean_pairs
from simulator.workload.layers.context_parallel import chunks_seen, hops_seen
from simulator.workload.layers.packed import blocks_of, whole_block
from simulator.workload.pairs import query_key_pairs, rank_pairs

LAWS = [
    Documents(4096, 1500, 1.5), Documents(4096, 1000, 0.0), Documents(4096, 4096, 0.0), Documents(32768, 700, 3.0),
    Documents(4096, 9000, 2.0),
]  # fmt: skip
CORE = AttentionCore(16, 4, 128, 128)


@pytest.mark.parametrize(("law", "window"), list(product(LAWS, (None, 512))))
def test_groups_keep_the_tokens_and_the_pairs_of_the_law(law: Documents, window: int | None) -> None:
    """The pairs are the integral of (seq - u) R(u), R taken from the lengths themselves."""
    assert sum(each.number * each.queries for each in groups(law, window)) == pytest.approx(law.seq)
    normal = np.array([NormalDist().inv_cdf((i + 0.5) / 20_000) for i in range(20_000)])
    lengths = law.mean * np.exp(law.sigma * normal - law.sigma**2 / 2)
    top = min(window or law.seq, law.seq)
    steps = (np.arange(100) + 0.5) * top / 100
    unbroken = np.array([np.maximum(0.0, lengths - u).mean() for u in steps]) / law.mean
    assert mean_pairs(law, window) == pytest.approx(((law.seq - steps) * unbroken).mean() * top, rel=0.02)


@pytest.mark.parametrize("law", LAWS)
def test_drawn_sequences_have_the_law_s_mean_and_their_own_tokens(law: Documents) -> None:
    bank = bank_of(law, (None, 512), 1, "documents", seed=3)
    assert bank.mean(axis=(1, 2)) == pytest.approx([1.0, 1.0])
    assert (bank <= law.seq**2 / 2 / mean_pairs(law) * 1.1).all()
    assert bank[0].std() > 1.5 * bank[1].std() > 0


def test_pairs_of_drawn_sequences_before_they_are_scaled() -> None:
    """Means of two thousand sequences, within three standard errors of the law's."""
    from simulator.workload import document_load

    for law, window in product(LAWS[:3], (None, 512)):
        bounds = document_load._bounds(law, seed=1)
        assert (np.diff(bounds) >= 0).all() and (bounds[:, -1] == law.seq).all()
        pairs = document_load._rank_pairs(bounds, window, 1, "documents")[:, 0]
        assert pairs.mean() == pytest.approx(mean_pairs(law, window), abs=3 * pairs.std() / len(pairs) ** 0.5)
        one = tuple(np.diff(bounds[7]))
        for cp, split in ((1, "documents"), (4, "zigzag")):
            found = document_load._rank_pairs(bounds[7:8], window, cp, split)[0]
            assert found == pytest.approx(rank_pairs(law.seq, window=window, documents=one, cp=cp, split=split))


def test_longer_and_more_unequal_documents_attend_to_more() -> None:
    by_mean = [mean_pairs(Documents(8192, mean, 1.0)) for mean in (100, 400, 1600, 6400, 25_600)]
    by_spread = [mean_pairs(Documents(8192, 1000, cv)) for cv in (0.0, 0.2, 1.0, 3.0, 10.0)]
    for found in (by_mean, by_spread):
        assert all(one < two for one, two in pairwise(found))
        assert found[-1] < 8192**2 / 2


def test_given_documents_are_counted_exactly() -> None:
    packed = Documents(4096, lengths=(1024, 2048, 512, 512))
    block = whole_block(None, 4096, packed)
    op = attention("core", "F", 2, 4096, CORE, block=block)
    squares = 1024**2 + 2048**2 + 2 * 512**2
    assert op.flop == op.model_flop == 2 * squares / 2 * CORE.flop_per_pair
    back = attention("core", "I", 2, 4096, CORE, block=block)
    assert back.flop == 2 * squares / 2 * CORE.backward_flop_per_pair
    assert (op.bytes_read, op.bytes_written) == (
        attention("core", "F", 2, 4096, CORE).bytes_read, attention("core", "F", 2, 4096, CORE).bytes_written,
    )  # fmt: skip
    assert {each.queries: each.number for each in op.shape.documents} == {512: 4, 1024: 2, 2048: 2}
    windowed = AttentionCore(16, 4, 128, 128, window=600)
    inside = attention("core", "F", 1, 4096, windowed, block=whole_block(600, 4096, packed))
    pairs = sum(query_key_pairs(length, True, 600) for length in packed.lengths)
    assert inside.flop == pytest.approx(pairs * CORE.flop_per_pair)


def test_the_longest_rank_holds_the_group_where_a_sequence_is_cut_through_its_documents() -> None:
    """Llama 3's cut; Transformer Engine's gives every rank the same of every document."""
    fixed = Documents(4096, lengths=(2048, 1024, 1024))
    share = rank_pairs(4096, documents=fixed.lengths, cp=4)
    bank = bank_of(fixed, (None,), 4, "zigzag", seed=0)
    assert bank[0, 0] == pytest.approx([each * 4 / sum(share) for each in share])
    load = DocumentLoad((None,), bank, (1.0,), batch=1, replicas=3, replica_ranks=4)
    assert load.draw(2, seed=0, draw=0) == pytest.approx(np.full((1, 3, 2), max(share) * 4 / sum(share)))
    even = bank_of(Documents(4096, 1500, 1.5), (None,), 4, "documents", seed=0)
    assert even.shape[2] == 1


def test_a_micro_batch_of_more_sequences_is_less_unequal() -> None:
    bank = bank_of(Documents(4096, 1500, 1.5), (None,), 1, "documents", seed=0)
    one, four = (DocumentLoad((None,), bank, (1.0,), batch, 500, 1).draw(8, seed=0, draw=0) for batch in (1, 4))
    assert one.mean() == pytest.approx(1.0, abs=0.03) and four.mean() == pytest.approx(1.0, abs=0.03)
    assert four.std() == pytest.approx(one.std() / 2, rel=0.1)


def test_slope_of_a_core_that_pays_for_tokens_and_pairs() -> None:
    found = groups(Documents(8192, 1500, 1.5))

    def seconds(documents: tuple[Document, ...]) -> float:
        return sum(each.number * each.queries * (3.0 * each.attended + 500.0) for each in documents)

    def pairs(documents: tuple[Document, ...]) -> float:
        return sum(each.number * each.queries * each.attended for each in documents)

    more = tilted(found)
    assert sum(each.number * each.queries for each in more) == pytest.approx(8192)
    tokens = 8192 * 500.0
    assert slope((seconds(found), seconds(more)), (pairs(found), pairs(more))) == pytest.approx(
        3.0 * pairs(found) / (3.0 * pairs(found) + tokens)
    )
    assert tilted(found[:1]) == found[:1] and slope((1.0, 1.0), (2.0, 2.0)) == 1.0
    assert slope((1.0, 2.0), (2.0, 2.5)) == 1.0, "time grows no faster than the pairs"


@pytest.mark.parametrize("window", [None, 600])
@pytest.mark.parametrize("law", [Documents(4096, 1500, 1.5), Documents(4096, lengths=(2048, 1024, 1024))])
def test_ranks_that_share_a_sequence_compute_its_pairs_between_them(law: Documents, window: int | None) -> None:
    for steps in (chunks_seen, hops_seen) if window is None else (chunks_seen,):
        blocks = blocks_of(window, 4096, 4, law, steps)
        assert 4 * sum(block.pairs * block.even_share for block in blocks) == pytest.approx(mean_pairs(law, window))
        assert {block.even_share < 1.0 for block in blocks} == {window is not None}, "the first queries have few keys"
        assert all(
            sum(each.number * each.queries for each in b.documents) == pytest.approx(b.queries, abs=1) for b in blocks
        )
    first, last = blocks_of(window, 4096, 4, replace(law, cut="sequence"), chunks_seen)
    assert 4 * (first.pairs + last.pairs) == pytest.approx(mean_pairs(law, window))
    assert first.queries == last.queries == 512
    pieces = [each for b in (first, last) for each in b.documents]
    most = 4096 if window is None else window
    assert all(each.attended <= each.keys and each.queries <= each.keys <= each.queries + most for each in pieces)


def test_one_document_is_shared_as_a_sequence_is() -> None:
    one = Documents(4096, lengths=(4096,))
    for window, steps in ((None, hops_seen), (None, chunks_seen), (300, chunks_seen)):
        whole, packed = blocks_of(window, 4096, 4, None, steps), blocks_of(window, 4096, 4, one, steps)
        assert [replace(block, documents=()) for block in packed] == [
            replace(block, pairs=pytest.approx(block.pairs)) for block in whole
        ]
