"""Pairs of a query and a key that attention computes: causal masks, windows, packed documents, the ranks that share a sequence.

Counted as areas: positions are a line, a query at x has min(x - start of its document, window) keys, so that a causal
sequence has seq²/2 pairs (the diagonal's half is not counted, as published counts do) and the ranks' pairs sum to the whole.
    reach(u)   = u²/2 up to the window, window u - window²/2 beyond     pairs of the first u queries of a document
    q in [a,b), k in [c,d):  reach(b-c) - reach(a-c) - reach(b-d) + reach(a-d)
How the ranks of a context-parallel group share a sequence:
    zigzag      2 cp equal pieces, rank r has pieces r and 2 cp - 1 - r (arXiv:2407.21783, 3.3.2: all-gather based; documents
                are cut wherever the pieces end, so that ranks differ in what they attend to)
    documents   every document is cut so for itself, padded to a multiple of 2 cp tokens (NVIDIA/TransformerEngine
                common/fused_attn/context_parallel.cu: thd_partition_indices): all ranks have the same
    contiguous  cp equal pieces in order
Knows no hardware and no seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import fsum
from typing import Literal

Split = Literal["zigzag", "documents", "contiguous"]


def query_key_pairs(seq: float, causal: bool, window: int | None = None) -> float:
    """Query-key pairs of one head and sequence: half of seq² under a causal mask (the diagonal's half not counted).

    window: a query has at most so many keys. Causal: all but the first queries have them, the triangle of those is cut
    (seq window - window²/2); else each has window keys.
    """
    keys = seq if window is None else min(window, seq)
    return (seq - keys / 2) * keys if causal else float(seq * keys)


def _reach(u: float, window: int | None) -> float:
    """Pairs of the first u queries of a document; none before its start."""
    return query_key_pairs(u, causal=True, window=window) if u > 0 else 0.0


def block_pairs(queries: tuple[float, float], keys: tuple[float, float], window: int | None = None) -> float:
    """Pairs of the queries in [a, b) with the keys in [c, d) of one document, under a causal mask and its window."""
    (a, b), (c, d) = queries, keys
    return (_reach(b - c, window) - _reach(a - c, window)) - (_reach(b - d, window) - _reach(a - d, window))


def pieces_of(rank: int, seq: float, cp: int, split: Split) -> tuple[tuple[float, float], ...]:
    """Where the tokens of a rank lie in a sequence (of `documents`: in each document) of seq tokens."""
    if cp == 1:
        return ((0.0, float(seq)),)
    if split == "contiguous":
        return ((rank * seq / cp, (rank + 1) * seq / cp),)
    size = seq / (2 * cp)
    return tuple((i * size, (i + 1) * size) for i in (rank, 2 * cp - 1 - rank))


def rank_pairs(
    seq: int, *, window: int | None = None, documents: Sequence[float] = (), cp: int = 1, split: Split = "zigzag"
) -> tuple[float, ...]:
    """Pairs that each rank of a context-parallel group computes of one sequence and query head, (cp,).

    documents: lengths in order, which sum to seq; (): one. Causal. Their sum is that of the documents' own pairs.
    """
    lengths = tuple(documents) or (float(seq),)
    if split == "documents" and len(lengths) > 1:
        found = [rank_pairs(1, window=window, documents=(length,), cp=cp) for length in lengths]
        return tuple(fsum(of_rank) for of_rank in zip(*found, strict=True))
    total = fsum(lengths)
    starts = [0.0]
    for length in lengths:
        starts.append(starts[-1] + length)
    return tuple(
        fsum(
            block_pairs((max(a, start), min(b, end)), (start, end), window)
            for a, b in pieces_of(rank, total, cp, split)
            for start, end in pairwise(starts)
            if a < end and start < b
        )
        for rank in range(cp)
    )
