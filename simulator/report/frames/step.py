"""Tables of one step: seconds by category, by part and rank, and what each thing that binds costs."""

from __future__ import annotations

import pandas as pd

from simulator.results.step_result import PART_NAMES, StepTimes


def categories(step: StepTimes) -> pd.DataFrame:
    """category, seconds, share (of the step, no unit), begin_s (where its bar starts when all stand end to end).

    In the order of the result; the shares sum to 1.
    """
    frame = pd.DataFrame(
        {
            "category": [each.category for each in step.by_category],
            "seconds": [each.seconds for each in step.by_category],
            "share": [each.share for each in step.by_category],
        }
    )
    frame["begin_s"] = frame["seconds"].cumsum() - frame["seconds"]
    return frame


def parts(step: StepTimes) -> pd.DataFrame:
    """pp_rank, part (a key of PartTimes), seconds: a row a rank and part, ascending; parts that no rank has are left out."""
    there = [name for name in PART_NAMES if any(getattr(rank, name) > 0 for rank in step.by_rank)]
    rows = [(rank.pp_rank, name, getattr(rank, name)) for rank in step.by_rank for name in there]
    return pd.DataFrame(rows, columns=["pp_rank", "part", "seconds"])


def bindings(step: StepTimes) -> pd.DataFrame:
    """what, seconds (that the step would gain if it alone were free), why: the strongest first."""
    rows = sorted(step.binding, key=lambda each: -each.seconds)
    return pd.DataFrame([(each.what, each.seconds, each.why) for each in rows], columns=["what", "seconds", "why"])
