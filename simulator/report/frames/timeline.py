"""A step's timeline in tables: parts by rank, and what fills a window."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import pandas as pd

from simulator.report import numbers
from simulator.report.facts import PART_WORDS
from simulator.report.timeline_words import category_words
from simulator.results.step_result import PART_NAMES
from simulator.results.timeline import COMPUTE, StepTimeline

COLUMN_WORDS: Final[Mapping[str, str]] = {
    "pp_rank": "rank",
    **PART_WORDS,
    "exposed_comm_s": "exposed",
    "in_flight": "in flight",
    "what": "category",
    "rank_s": "this rank",
    "mean_s": "mean rank",
    "difference_s": "difference",
}


def ranks_frame(timeline: StepTimeline) -> pd.DataFrame:
    """One row a pipeline rank: pp_rank, the parts of the step (they sum to it), exposed_comm_s inside them, in_flight."""
    rows = [
        (rank.pp_rank, *(getattr(rank, name) for name in PART_NAMES), timeline.exposed_comm_s(rank.pp_rank), in_flight)
        for rank, in_flight in zip(timeline.by_rank, timeline.in_flight, strict=True)
    ]
    return pd.DataFrame(rows, columns=["pp_rank", *PART_NAMES, "exposed_comm_s", "in_flight"])


def window_frame(timeline: StepTimeline, rank: int, start_s: float = 0.0, end_s: float | None = None) -> pd.DataFrame:
    """What fills a rank's compute stream in a window, one row a category, the longest first.

    what (the category in words), rank_s, mean_s (over all ranks), difference_s; rank_s and mean_s sum to what of the window
    lies inside the step.
    """
    own = timeline.by_category(rank, COMPUTE, start_s, end_s)
    every = [timeline.by_category(each, COMPUTE, start_s, end_s) for each in range(timeline.num_ranks)]
    names = sorted({name for found in every for name in found}, key=lambda name: (-own.get(name, 0.0), name))
    rows = []
    for name in names:
        mean = timeline.mean_over_ranks(found.get(name, 0.0) for found in every)
        rows.append((category_words(name), own.get(name, 0.0), mean, own.get(name, 0.0) - mean))
    return pd.DataFrame(rows, columns=["what", "rank_s", "mean_s", "difference_s"])


def in_words(frame: pd.DataFrame, step_s: float) -> Any:
    """The frame as a table shows it: seconds (columns that end in _s) as text, as precise as parts of a step of `step_s` are
    told, without columns of parts that no rank has.

    Returns a pandas Styler, so that sorting goes by the numbers.
    """
    seconds = [name for name in map(str, frame.columns) if name.endswith("_s")]
    empty = [name for name in seconds if name in PART_NAMES and (frame[name] == 0).all()]
    shown = frame.drop(columns=empty)
    return shown.style.format({name: partial(_text, step_s) for name in seconds if name not in empty})


def _text(step_s: float, value: float) -> str:
    text = numbers.column_of_seconds([value], step_s)[1][0]
    return text.removeprefix("-") if not text.strip("-0.") else text


def unit_of(step_s: float) -> str:
    """The unit of the seconds in `in_words`."""
    return numbers.column_of_seconds([], step_s)[0]
