"""Closed forms of the bubble: the time that a rank waits inside the pipeline, with equal stages.

Source: DeepSeek-V3 technical report (arXiv:2412.19437) table 2, whose ZB1P is ZB-H1, and the DualPipe README (DualPipeV); the
GPipe row is the bubble of Huang et al. 2019 (arXiv:1811.06965), section 2.3, in the same terms; interleaved 1F1B: Narayanan
et al. 2021 (arXiv:2104.04473), section 2.2, with F and B of the v stages of a rank together; ZB-H1: Qi et al. 2023
(arXiv:2401.10241), table 2; ZB-V: Qi et al. 2024 (arXiv:2405.15362), section 4. P is the number of pipeline ranks.

Exact for GPipe and 1F1B, interleaved too; for ZB-H1 where I is no shorter than W and no shorter than F; for DualPipe and
DualPipeV where W = F = B/2 and F&B = F + B, else an approximation. The micro-batches fill the pipeline: P of them, 2P-1 with
ZB-V.
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

    formula: as printed. bubble_s(P, chunk): in seconds, chunk being one stage (with interleaving one of the v of a rank, in a V
    one of its two). parameter_copies: ranks that hold a stage. activations(P, m): micro-batches whose activations a rank
    holds at most, in stages (with interleaving: of v = 2).
    """

    formula: str
    bubble_s: Callable[[int, ChunkSeconds], float]
    parameter_copies: int
    activations: Callable[[int, int], int]


def _full_pipeline(num_ranks: int, chunk: ChunkSeconds) -> float:
    return (num_ranks - 1) * (chunk.forward_s + chunk.backward_s)


def _weights_put_off(num_ranks: int, chunk: ChunkSeconds) -> float:
    return (num_ranks - 1) * (chunk.forward_s + chunk.backward_s - 2 * chunk.weight_s)


def _zero_bubble(num_ranks: int, chunk: ChunkSeconds) -> float:
    if not chunk.forward_s == chunk.weight_s == chunk.backward_s - chunk.weight_s:
        raise InputError("no closed form for schedule 'zb_v' but where F = I = W")
    return 0.0


def _dualpipe(num_ranks: int, chunk: ChunkSeconds) -> float:
    return (num_ranks // 2 - 1) * _pair_gap(chunk)


def _dualpipe_v(num_ranks: int, chunk: ChunkSeconds) -> float:
    return (num_ranks - 1) * _pair_gap(chunk)


def _pair_gap(chunk: ChunkSeconds) -> float:
    return chunk.pair_s + chunk.backward_s - 3 * chunk.weight_s


PUBLISHED_BUBBLES: Mapping[str, PublishedBubble] = {
    "gpipe": PublishedBubble("(P-1)(F+B)", _full_pipeline, 1, lambda _, m: m),
    "1f1b": PublishedBubble("(P-1)(F+B)", _full_pipeline, 1, lambda p, m: min(p, m)),
    "zb_h1": PublishedBubble("(P-1)(F+B-2W)", _weights_put_off, 1, lambda p, m: min(p, m)),
    "zb_v": PublishedBubble("0 where F=I=W", _zero_bubble, 1, lambda p, m: min(2 * p, 2 * m)),
    "interleaved_1f1b": PublishedBubble("(P-1)(F+B)/v", _full_pipeline, 1, lambda p, m: min(3 * p - 1, 2 * m)),
    "dualpipe": PublishedBubble("(P/2-1)(F&B+B-3W)", _dualpipe, 2, lambda p, _: p + 1),
    "dualpipe_v": PublishedBubble("(P-1)(F&B+B-3W)/2", _dualpipe_v, 1, lambda p, _: 2 * p + 1),
}


def bubble_seconds(name: str, num_ranks: int, chunk: ChunkSeconds) -> float:
    """The published bubble of a schedule in seconds. Raises InputError where no closed form is published."""
    if name not in PUBLISHED_BUBBLES:
        raise InputError(f"no closed form for schedule {name!r}; there is one for {', '.join(PUBLISHED_BUBBLES)}")
    return PUBLISHED_BUBBLES[name].bubble_s(num_ranks, chunk)
