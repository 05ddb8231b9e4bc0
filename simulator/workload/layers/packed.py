"""What one call of an attention core computes of a sequence, or of the documents that it is packed from.

A way of sharing a sequence over ranks says which parts of it a rank attends to, step by step; of packed documents each is
shared so, and a step's call has the parts of all. Where instead the whole sequence is cut through its documents
(`Documents.cut`), a chunk's kernel has the pieces in it, with the keys before them in their document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import fsum
from typing import NamedTuple

from hwprofiles.kernels.shape import Document
from simulator.workload.counting import Block
from simulator.workload.documents import Documents, groups, mean_pairs
from simulator.workload.pairs import block_pairs, query_key_pairs


class Part(NamedTuple):
    """Part of a sequence or document that one call computes; causal and even_share as of Block."""

    queries: float
    keys: float
    pairs: float
    causal: bool
    even_share: float = 1.0

    def as_document(self, number: float) -> Document:
        """So many documents' parts."""
        return Document(self.queries, self.keys, number, self.pairs / self.queries)


Steps = Callable[[int | None, int, float, float], tuple[Part, ...]]
"""What a rank attends to, call by call: of a window, the ranks, the tokens that they share and the pairs of these."""


def whole_block(window: int | None, seq: int, documents: Documents | None) -> Block | None:
    """All of a packed sequence; None where it is one document."""
    if documents is None:
        return None
    return Block(seq, seq, mean_pairs(documents, window), True, groups(documents, window))


def blocks_of(window: int | None, seq: int, cp: int, documents: Documents | None, steps: Steps) -> tuple[Block, ...]:
    """The calls of a rank that shares each sequence with cp - 1 others."""
    if documents is None:
        parts = steps(window, cp, seq, query_key_pairs(seq, causal=True, window=window))
        return tuple(
            Block(round(each.queries), round(each.keys), each.pairs, each.causal, (), each.even_share) for each in parts
        )
    if documents.cut == "sequence":
        return tuple(_together(list(found), True) for found in _cut_through(window, cp, documents))
    whole = groups(documents, window)
    of_each = [steps(window, cp, each.queries, each.queries * each.attended) for each in whole]
    return tuple(
        _of_step([(each.number, part) for each, part in zip(whole, of_step, strict=True)])
        for of_step in zip(*of_each, strict=True)
    )


def _of_step(parts: Sequence[tuple[float, Part]]) -> Block:
    """(how many documents, what is computed of each) together."""
    block = _together([part.as_document(number) for number, part in parts], parts[0][1].causal)
    even = fsum(number * part.pairs * part.even_share for number, part in parts)
    return replace(block, even_share=min(1.0, even / block.pairs))


def _together(documents: Sequence[Document], causal: bool) -> Block:
    queries, keys = (fsum(each.number * each.sides[i] for each in documents) for i in (0, 1))
    pairs = fsum(each.number * each.queries * each.attended for each in documents)
    return Block(round(queries), round(keys), pairs, causal, tuple(documents))


def _cut_through(window: int | None, cp: int, documents: Documents) -> Iterator[Iterator[Document]]:
    """The pieces in a rank's first and second chunk, means over the ranks."""
    if documents.is_drawn:
        # A chunk is a stretch of the stream too; what its first document has before it makes up the pairs.
        chunk = Documents(round(documents.seq / (2 * cp)), documents.mean, documents.cv)
        scale = mean_pairs(documents, window) / (2 * cp) / mean_pairs(chunk, window)
        for _ in range(2):
            yield (_with_keys_before(each, scale, window) for each in groups(chunk, window))
        return
    size, ends = documents.seq / (2 * cp), [0.0]
    for length in documents.lengths:
        ends.append(ends[-1] + length)
    for chunks in (range(cp), range(cp, 2 * cp)):
        yield (
            _piece(max(i * size, start), min((i + 1) * size, end), start, window).as_document(1.0 / cp)
            for i in chunks
            for start, end in pairwise(ends)
            if start < (i + 1) * size and i * size < end
        )


def _with_keys_before(piece: Document, scale: float, window: int | None) -> Document:
    attended = piece.attended * scale
    keys = attended + piece.queries / 2.0
    if window is not None:
        keys = min(piece.queries + window, max(piece.queries, keys))
    return piece._replace(attended=attended, keys=keys)


def _piece(begin: float, end: float, start: float, window: int | None) -> Part:
    """Queries from begin to end of a document that starts at `start`."""
    keys = end - start if window is None else min(end - start, end - begin + window)
    return Part(end - begin, keys, block_pairs((begin - start, end - start), (0.0, end - start), window), True)
