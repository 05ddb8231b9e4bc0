"""Closed forms of the bubble: the time that a rank waits inside the pipeline, makespan − busy, with equal stages.

Source: DeepSeek-V3 technical report (arXiv:2412.19437) table 2 and the DualPipe README; the GPipe row is the bubble of
Huang et al. 2019 (arXiv:1811.06965), section 2.3, in the same terms; interleaved 1F1B: Narayanan et al. 2021
(arXiv:2104.04473), section 2.2, with F and B of the v stages of a rank together. P is the number of pipeline ranks.
Exact for GPipe and 1F1B, interleaved too; for DualPipe where W = F = B/2 and F&B = F + B, else an approximation. ZB1P has no
order here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simulator.errors import InputError


@dataclass(frozen=True, slots=True)
class ChunkSeconds:
    """Seconds of one stage of one micro-batch: forward, full backward, its weight part, an overlapped pair F&B."""

    forward_s: float
    backward_s: float
    weight_s: float
    pair_s: float


@dataclass(frozen=True, slots=True)
class PublishedBubble:
    """A row of the published table.

    formula: as printed. bubble_s(P, chunk): in seconds, chunk being one stage (with interleaving one of the v of a rank).
    parameter_copies: ranks that hold a stage. activations(P, m): micro-batches whose activations a rank holds at most, in
    stages (with interleaving: of v = 2).
    """

    formula: str
    bubble_s: Callable[[int, ChunkSeconds], float]
    parameter_copies: int
    activations: Callable[[int, int], int]


def _full_pipeline(num_ranks: int, chunk: ChunkSeconds) -> float:
    return (num_ranks - 1) * (chunk.forward_s + chunk.backward_s)


def _zero_bubble(num_ranks: int, chunk: ChunkSeconds) -> float:
    return (num_ranks - 1) * (chunk.forward_s + chunk.backward_s - 2 * chunk.weight_s)


def _dualpipe(num_ranks: int, chunk: ChunkSeconds) -> float:
    return (num_ranks // 2 - 1) * (chunk.pair_s + chunk.backward_s - 3 * chunk.weight_s)


PUBLISHED_BUBBLES: Mapping[str, PublishedBubble] = {
    "gpipe": PublishedBubble("(P-1)(F+B)", _full_pipeline, 1, lambda _, m: m),
    "1f1b": PublishedBubble("(P-1)(F+B)", _full_pipeline, 1, lambda p, m: min(p, m)),
    "zb1p": PublishedBubble("(P-1)(F+B-2W)", _zero_bubble, 1, lambda p, m: min(p, m)),
    "interleaved_1f1b": PublishedBubble("(P-1)(F+B)/v", _full_pipeline, 1, lambda p, m: min(3 * p - 1, 2 * m)),
    "dualpipe": PublishedBubble("(P/2-1)(F&B+B-3W)", _dualpipe, 2, lambda p, _: p + 1),
}


def bubble_seconds(name: str, num_ranks: int, chunk: ChunkSeconds) -> float:
    """The published bubble of a schedule in seconds. Raises InputError where no closed form is published."""
    if name not in PUBLISHED_BUBBLES:
        raise InputError(f"no closed form for schedule {name!r}; there is one for {', '.join(PUBLISHED_BUBBLES)}")
    return PUBLISHED_BUBBLES[name].bubble_s(num_ranks, chunk)
