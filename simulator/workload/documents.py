"""Sequences that are packed from documents which attend to themselves alone: how long the pieces are, what they attend to.

Documents stand one behind the other, and every seq tokens end a sequence: one that does not fit is cut, and its rest begins
the next sequence. Where such a stream is cut is as likely anywhere, so of documents with density f, survival S, mean m
    pieces of length s in a sequence   ((seq - s) f(s) + 2 S(s)) / m, and whole sequences of one document R(seq),
    R(u) = 1/m x the integral of S from u on: no document ends in u tokens;
    pairs of a sequence   the integral of (seq - u) R(u), u up to the window (E[sum of s²] / 2 without one)
(renewal theory: Cox, Renewal Theory, 1962, chapter 5). Lengths are log-normal, all equal with cv 0; or given one by one for
every sequence alike. R(u) grows with the mean and with the spread of the lengths, so do the pairs. Knows no hardware, no
seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import erfc, exp, fsum, log, log1p, sqrt
from typing import Literal

from hwprofiles.kernels.shape import Document
from simulator.workload.pairs import query_key_pairs

Cut = Literal["documents", "sequence"]
"""What the ranks of a context-parallel group cut: each document for itself, or the sequence through them."""
HALVINGS = 2
"""Groups of lengths for each halving of the sequence."""
SHORTEST = 16.0
"""Tokens below which lengths are one group: a fraction of a kernel's block."""


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a sequence. seq: tokens of a sequence that belong to documents. mean, cv: of a document's tokens,
    coefficient of variation; lengths: of every sequence's documents instead, in order, which sum to seq; (): they are drawn.
    """

    seq: int
    mean: float = 0.0
    cv: float = 0.0
    lengths: tuple[int, ...] = ()
    cut: Cut = "documents"

    @property
    def is_drawn(self) -> bool:
        """Whether sequences differ."""
        return not self.lengths

    @property
    def sigma(self) -> float:
        """Standard deviation of the lengths' logarithm."""
        return sqrt(log1p(self.cv**2))

    def moment(self, order: int, below: float) -> float:
        """Mean of length^order over the documents of less than so many tokens, times their share."""
        if below <= 0.0:
            return 0.0
        if self.cv == 0.0:
            return self.mean**order if self.mean < below else 0.0
        sigma = self.sigma
        centre = log(self.mean) - sigma**2 / 2
        share = 0.5 * erfc(-((log(below) - centre) / sigma - order * sigma) / sqrt(2.0))
        return share * exp(order * centre + (order * sigma) ** 2 / 2)

    def longer(self, tokens: float) -> float:
        """S: the share of documents with at least so many tokens."""
        return 1.0 - self.moment(0, tokens)

    def unbroken(self, tokens: float) -> float:
        """R: the chance that no document ends in so many tokens of the stream."""
        rest = self.mean - self.moment(1, tokens) - tokens * self.longer(tokens)
        return max(0.0, rest / self.mean)


def mean_pairs(documents: Documents, window: int | None = None) -> float:
    """Expected pairs of a query and a key of one sequence and head."""
    return fsum(each.number * each.queries * each.attended for each in groups(documents, window))


@lru_cache(maxsize=64)
def groups(documents: Documents, window: int | None = None) -> tuple[Document, ...]:
    """The documents of a sequence by length: counts and lengths that keep the tokens and the sum of their squares, the keys
    of a query on the mean. Longest last.
    """
    if documents.lengths:
        sizes = sorted(set(documents.lengths))
        return tuple(_document(size, documents.lengths.count(size), window) for size in sizes)
    return tuple(_drawn_groups(documents, window))


def _document(length: float, count: float, window: int | None) -> Document:
    attended = query_key_pairs(length, causal=True, window=window) / length
    return Document(float(length), float(length), float(count), attended)


def _drawn_groups(documents: Documents, window: int | None) -> Iterator[Document]:
    for below, above in pairwise(_edges(documents.seq, window)):
        pieces, tokens, squares = (_pieces(documents, order, below, above) for order in (0, 1, 2))
        if tokens <= 0.0 or squares <= 0.0:
            continue
        length, attended = squares / tokens, squares / tokens / 2
        if window is not None and below >= window:
            attended = window - window**2 / 2 * pieces / tokens
        yield Document(length, length, tokens**2 / squares, attended)
    whole = documents.unbroken(documents.seq)
    if whole > 0.0:
        yield _document(documents.seq, whole, window)


def _edges(seq: int, window: int | None) -> list[float]:
    """Ascending lengths between groups, from 0 to seq; a window is one."""
    edges, ratio = [float(seq)], 0.5 ** (1.0 / HALVINGS)
    while edges[-1] * ratio > SHORTEST:
        edges.append(edges[-1] * ratio)
    if window is not None and 0 < window < seq:
        edges.append(float(window))
    return sorted({0.0, *edges})


def _pieces(documents: Documents, order: int, below: float, above: float) -> float:
    """Sum of length^order over the pieces of a sequence from `below` to less than `above` tokens, whole sequences apart."""
    moments = [documents.moment(order + i, above) - documents.moment(order + i, below) for i in (0, 1)]
    power = order + 1
    ends = above**power * documents.longer(above) - below**power * documents.longer(below)
    survival = (ends + moments[1]) / power  # the integral of s^order S(s), by parts
    return max(0.0, (documents.seq * moments[0] - moments[1] + 2 * survival) / documents.mean)
