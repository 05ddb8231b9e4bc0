"""Which rank holds which stages: one each, both ends of the pipeline, chunks that go round, chunks that fold back."""

from __future__ import annotations

from typing import Literal

Placement = Literal["straight", "mirrored", "round", "folded"]
"""Of P ranks. straight: stage r on rank r. mirrored: stages r and P-1-r of P on rank r, each on two ranks. round: stage s on
rank s mod P. folded: 2P stages in a V, stages r and 2P-1-r on rank r; the turn, stages P-1 and P, on the last rank.
"""

Held = tuple[tuple[int, ...], ...]
"""Stages of every rank, ascending."""


def straight(num_ranks: int) -> Held:
    """One stage a rank."""
    return tuple((rank,) for rank in range(num_ranks))


def mirrored(num_ranks: int) -> Held:
    """Two of as many stages as ranks."""
    return tuple(tuple(sorted((rank, num_ranks - 1 - rank))) for rank in range(num_ranks))


def going_round(num_ranks: int, num_chunks: int) -> Held:
    """num_chunks stages a rank, P apart."""
    return tuple(tuple(range(rank, num_ranks * num_chunks, num_ranks)) for rank in range(num_ranks))


def folded(num_ranks: int) -> Held:
    """Two of twice as many stages as ranks, down the V and up again."""
    return tuple((rank, 2 * num_ranks - 1 - rank) for rank in range(num_ranks))
