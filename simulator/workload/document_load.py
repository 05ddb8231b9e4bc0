"""How unequal the sequences of a step are where they are packed from documents: what an attention core takes over its mean.

A step's sequences are picked from a bank of them, which is drawn once: their pairs of queries and keys over the bank's mean. A
micro-batch has those of its sequences, the same in all layers. Of ranks that share a sequence and are cut through it, the one
with the most pairs holds the others. A core's seconds follow the pairs by a slope (`slope` says why it is below 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum, log

import numpy as np
from numpy.typing import NDArray

from hwprofiles.kernels.shape import Document
from simulator import portable
from simulator.draws import generator
from simulator.workload.documents import Documents
from simulator.workload.pairs import Split, pieces_of

PURPOSE_BANK, PURPOSE_SEQUENCES = 4, 5
MOST_SEQUENCES, LEAST_SEQUENCES, MOST_PIECES = 2_048, 256, 2**18
"""Sequences of a bank, and documents in it: sequences of many documents are more alike."""
TILT = 0.01
"""By how much `slope` moves tokens from short documents to long ones."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DocumentLoad:
    """What is drawn of the documents. windows: of the model's cores, of each of which the bank has the pairs of a rank over the
    mean, (windows, sequences, ranks that differ). slopes: of each window. batch: sequences of a micro-batch. replicas: data-
    parallel ranks; replica_ranks: consecutive ranks of one. share: of the cores in a pipeline's kernel time.
    """

    windows: tuple[int | None, ...]
    bank: Floats
    slopes: tuple[float, ...]
    batch: int
    replicas: int
    replica_ranks: int
    share: float = 0.0

    def draw(self, micro_batches: int, seed: int, draw: int) -> Floats:
        """(windows, replicas, micro-batches) time of the attention cores of a replica over the mean."""
        size = (self.replicas, micro_batches, self.batch)
        picked = generator(seed, draw, PURPOSE_SEQUENCES).integers(0, self.bank.shape[1], size)
        pairs = self.bank[:, picked].mean(axis=3).max(axis=3)
        slopes = np.array(self.slopes)[:, None, None]
        return np.asarray(1.0 + slopes * (pairs - 1.0))


@lru_cache(maxsize=16)
def bank_of(documents: Documents, windows: tuple[int | None, ...], cp: int, split: Split, seed: int) -> Floats:
    """(windows, sequences, ranks that differ) pairs of a rank of a context-parallel group over its mean; not to be written
    to.
    """
    bounds = _bounds(documents, seed)
    ranks = cp if split != "documents" else 1
    bank = np.stack([_rank_pairs(bounds, window, ranks, split) for window in windows])
    bank /= bank.mean(axis=(1, 2), keepdims=True)
    bank.setflags(write=False)
    return bank


def _bounds(documents: Documents, seed: int) -> Floats:
    """(sequences, pieces + 1) where the documents of each sequence begin, and its end, which fills up the rows."""
    if not documents.is_drawn:
        return np.concatenate(([0.0], np.cumsum(documents.lengths, dtype=np.float64)))[None]
    pieces = documents.seq / documents.mean
    count = int(min(MOST_SEQUENCES, max(LEAST_SEQUENCES, MOST_PIECES / (pieces + 1.0))))
    rng, sigma = generator(seed, 0, PURPOSE_BANK), documents.sigma
    centre = log(documents.mean) - sigma**2 / 2
    # A point of the stream lies in a document with a chance in proportion to its length, anywhere in it.
    longer = portable.exp(centre + sigma**2 + sigma * rng.standard_normal((count, 1)))
    ends = longer * rng.random((count, 1))
    columns = int(pieces) + 8
    while ends[:, -1].min() < documents.seq:
        lengths = portable.exp(centre + sigma * rng.standard_normal((count, columns)))
        ends = np.concatenate((ends, ends[:, -1:] + np.cumsum(lengths, axis=1)), axis=1)
    return np.concatenate((np.zeros((count, 1)), np.minimum(ends, documents.seq)), axis=1)


def _rank_pairs(bounds: Floats, window: int | None, cp: int, split: Split) -> Floats:
    """(sequences, cp) pairs of each rank: `pairs.rank_pairs` of many sequences at once."""
    until = np.concatenate((np.zeros((len(bounds), 1)), np.cumsum(_reach(np.diff(bounds), window), axis=1)), axis=1)
    found = np.zeros((len(bounds), cp))
    for rank in range(cp):
        for begin, end in pieces_of(rank, float(bounds[0, -1]), cp, split):
            found[:, rank] += _pairs_until(bounds, until, end, window) - _pairs_until(bounds, until, begin, window)
    return found


def _pairs_until(bounds: Floats, until: Floats, place: float, window: int | None) -> Floats:
    """(sequences,) pairs of the queries before a place. until: of those before each bound."""
    inside = (bounds <= place).sum(axis=1, keepdims=True) - 1
    start = np.take_along_axis(bounds, inside, axis=1)
    return (np.take_along_axis(until, inside, axis=1) + _reach(place - start, window))[:, 0]


def _reach(lengths: Floats, window: int | None) -> Floats:
    keys = lengths if window is None else np.minimum(lengths, window)
    return np.asarray((lengths - keys / 2) * keys)


def tilted(documents: Sequence[Document]) -> tuple[Document, ...]:
    """The same tokens, some of them in longer documents; as they are where all attend to as much."""
    tokens = fsum(each.number * each.queries for each in documents)
    mean = fsum(each.number * each.queries * each.attended for each in documents) / tokens
    widest = max(abs(each.attended - mean) for each in documents)
    if widest <= TILT * mean:
        return tuple(documents)
    return tuple(each._replace(number=each.number * (1 + TILT * (each.attended - mean) / widest)) for each in documents)


def slope(seconds: tuple[float, float], pairs: tuple[float, float]) -> float:
    """By how much a core's time grows where its pairs do, both relative, for the same tokens: from before and after a tilt.

    Below 1: what a block costs besides its pairs (edges of a mask, launch) stays. At most 1, since that cannot shrink.
    """
    if pairs[1] <= pairs[0]:
        return 1.0
    return min(1.0, (seconds[1] / seconds[0] - 1.0) / (pairs[1] / pairs[0] - 1.0))
