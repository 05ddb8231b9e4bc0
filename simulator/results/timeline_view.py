"""A timeline at the detail that a picture bears: slices thinner than a column are merged, stream by stream.

A column is a piece of the window; slices that are as wide as one stay single. Of the thinner ones, those that begin in one
column become one bar for what computes or sends and one for each reason to idle. These stand on one another over the time from
the first one's start to the last one's end, each as high as its share of it. So no bars of a stream overlap, the area of a
bar is its seconds, and a stream's seconds are those of its slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.results.timeline import BUBBLE, END_WAIT, EXPOSED, HOST_WAIT, NUM_STREAMS, StepTimeline, streams_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_BARS = 5000
STACKED = (EXPOSED, HOST_WAIT, END_WAIT, BUBBLE)
"""The reasons to idle, as they stand on what a stream does."""
GROUPS = 1 + len(STACKED)
"""Bars that a column of a stream may become."""
TRIES = 6
"""Numbers of columns that are tried to come near the most bars."""


@dataclass(frozen=True, eq=False)
class TimelineView:
    """n bars of a window, by rank, stream and start.

    rank, stream (n,); bar_start_s, bar_end_s (n,), inside the window. busy_s (n,): seconds of the slices behind a bar inside
    the window. low, high (n,): between which shares (0 to 1) of its lane it stands, high - low being the share of its length
    that is busy_s. count (n,): slices behind it. slice_of (n,): the slice where it is one alone, else -1. seconds (n,
    categories): busy_s by category.
    """

    timeline: StepTimeline
    start_s: float
    end_s: float
    ranks: tuple[int, ...]
    streams: tuple[int, ...]
    rank: Ints
    stream: Ints
    bar_start_s: Floats
    bar_end_s: Floats
    low: Floats
    high: Floats
    busy_s: Floats
    count: Ints
    slice_of: Ints
    seconds: Floats

    @property
    def category(self) -> Ints:
        """(n,): the column of `timeline.categories` with the largest share of each bar."""
        largest: Ints = self.seconds.argmax(axis=1)
        return largest

    @property
    def is_single(self) -> bool:
        """Whether every bar is one operator or one stretch of idle time."""
        return bool((self.slice_of >= 0).all())


def timeline_view(
    timeline: StepTimeline, start_s: float = 0.0, end_s: float | None = None, max_bars: int = MAX_BARS, *,
    ranks: Sequence[int] | None = None, streams: Sequence[int] | None = None,
) -> TimelineView:  # fmt: skip
    """At most `max_bars` bars of a window (default: the whole step) of some ranks and streams (default: all).

    Raises ValueError for an empty window, unknown ranks or streams, or fewer bars than the streams need at least.
    """
    end_s = timeline.step_s if end_s is None else end_s
    ranks = tuple(range(timeline.num_ranks)) if ranks is None else tuple(ranks)
    if not start_s < end_s:
        raise ValueError(f"the window from {start_s} to {end_s} s is empty")
    if not set(ranks) <= set(range(timeline.num_ranks)) or not set(streams or ()) <= set(range(NUM_STREAMS)):
        raise ValueError(
            f"ranks {ranks}, streams {streams}; there are {timeline.num_ranks} ranks, {NUM_STREAMS} streams"
        )
    streams = streams_of(timeline, ranks) if streams is None else tuple(streams)
    fewest = GROUPS * len(ranks) * len(streams)
    if max_bars < fewest:
        raise ValueError(f"{max_bars} bars for {len(ranks)} ranks and {len(streams)} streams; at least {fewest}")
    inside = _Inside.of(timeline, start_s, end_s, ranks, streams)
    return inside.bars(timeline, (start_s, end_s), ranks, streams, inside.detail(end_s - start_s, max_bars))


@dataclass(frozen=True, eq=False)
class _Detail:
    """bucket (n,): the column that each slice is in, numbered on over the streams. is_bar (buckets * GROUPS,)."""

    bucket: Ints
    is_bar: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return int(self.is_bar.sum())


@dataclass(frozen=True, eq=False)
class _Inside:
    """The slices inside a window, cut to it, by stream and start. group (n,): 0, or 1 + which of STACKED."""

    index: Ints
    start_s: Floats
    end_s: Floats
    stream_of: NDArray[np.int32]
    group: NDArray[np.int8]
    begin_s: float

    @classmethod
    def of(
        cls, timeline: StepTimeline, start_s: float, end_s: float, ranks: Sequence[int], streams: Sequence[int]
    ) -> _Inside:
        found = [timeline.slices(rank, stream, start_s, end_s) for rank in ranks for stream in streams]
        index = np.concatenate([np.arange(each.start, each.stop, dtype=np.int64) for each in found])
        start = np.maximum(timeline.start_s[index], start_s)
        end = np.minimum(timeline.end_s[index], end_s)
        there = end > start
        index, start, end = index[there], start[there], end[there]
        groups = np.array([_group(each.category) for each in timeline.classes], dtype=np.int8)
        return cls(index, start, end, timeline.stream_of[index], groups[timeline.op_class[index]], start_s)

    def detail(self, span_s: float, max_bars: int) -> _Detail:
        """As many columns as `max_bars` bars allow, as far as a few tries find out."""
        if len(self.index) <= max_bars:
            ones = np.zeros(len(self.index) * GROUPS, dtype=bool)
            bucket = np.arange(len(self.index), dtype=np.int64)
            ones[bucket * GROUPS + self.group] = True
            return _Detail(bucket, ones)
        best = self._in_columns(span_s, 1)
        low, high = 1, 4 * max_bars
        columns = max(1, max_bars // max(1, best.count))
        for _ in range(TRIES):
            found = self._in_columns(span_s, columns)
            if found.count <= max_bars:
                best, low = found, columns
            else:
                high = columns
            if high - low <= 1 or max_bars * 0.97 <= best.count:
                break
            guess = int(columns * max_bars / found.count)
            columns = guess if low < guess < high else (low + high) // 2
        return best

    def _in_columns(self, span_s: float, columns: int) -> _Detail:
        width = span_s / columns
        is_thin = self.end_s - self.start_s < width
        column = ((self.start_s - self.begin_s) / width).astype(np.int32)
        begins = np.ones(len(self.index), dtype=bool)
        begins[1:] = (
            (self.stream_of[1:] != self.stream_of[:-1]) | (column[1:] != column[:-1]) | ~is_thin[1:] | ~is_thin[:-1]
        )
        bucket = np.cumsum(begins) - 1
        is_bar = np.zeros((int(bucket[-1]) + 1) * GROUPS, dtype=bool)
        is_bar[bucket * GROUPS + self.group] = True
        return _Detail(bucket, is_bar)

    def bars(
        self, timeline: StepTimeline, window_s: tuple[float, float], ranks: tuple[int, ...], streams: tuple[int, ...],
        detail: _Detail,
    ) -> TimelineView:  # fmt: skip
        number: Ints = np.cumsum(detail.is_bar) - 1
        bar = number[detail.bucket * GROUPS + self.group]
        first: Ints = np.empty(detail.count, dtype=np.int64)
        first[bar[::-1]] = np.arange(len(bar))[::-1]
        length = self.end_s - self.start_s
        busy = _sums(bar, length, detail.count)
        count: Ints = np.bincount(bar, minlength=detail.count)
        op_class = timeline.op_class[self.index]
        seconds = np.stack([_sums(bar, length * share[op_class], detail.count) for share in timeline.shares.T], axis=1)
        rank, stream = np.divmod(self.stream_of[first].astype(np.int64), NUM_STREAMS)
        return TimelineView(
            timeline, *window_s, ranks, streams, rank, stream, *self._places(detail.bucket, detail.bucket[first], busy),
            busy, count, np.where(count == 1, self.index[first], -1), seconds,
        )  # fmt: skip

    def _places(self, bucket: Ints, bucket_of: Ints, busy: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Start, end, low and high of the bars. bucket_of (bars,), ascending: where they are; busy (bars,)."""
        if not len(bucket):
            return (np.empty(0),) * 4
        is_first = np.concatenate(([True], bucket[1:] != bucket[:-1]))
        start = self.start_s[is_first][bucket_of]
        end = self.end_s[np.concatenate((is_first[1:], [True]))][bucket_of]
        opens = np.concatenate(([True], bucket_of[1:] != bucket_of[:-1]))
        share = busy / (end - start)
        low = np.zeros(len(busy))
        for _ in range(GROUPS - 1):
            low[1:] = np.where(opens[1:], 0.0, low[:-1] + share[:-1])
        low = np.minimum(low, 1.0)
        return start, end, low, np.minimum(low + share, 1.0)


def _sums(bar: Ints, seconds: Floats, count: int) -> Floats:
    return np.bincount(bar, seconds, count).astype(np.float64, copy=False)


def _group(category: str) -> int:
    return STACKED.index(category) + 1 if category in STACKED else 0
