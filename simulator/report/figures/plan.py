"""Cluster sizes by days and cost: those that no other beats in both are joined by a line."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go

from simulator.report import numbers
from simulator.report.figures.literal import literal
from simulator.report.figures.look import themed
from simulator.report.theme import PAGES, SERIES, Mode
from simulator.results.plan_table import PlanResult, PlanRow

MARK: Final = 11
TAKEN: Final = 18
"""Pixels of a size's mark, and of the one that is taken."""


def has_front(result: PlanResult) -> bool:
    """Whether there is anything to draw: sizes with days and cost."""
    return any(_is_drawn(row) for row in result.rows)


def front_figure(result: PlanResult, mode: Mode = "light") -> go.Figure:
    """A mark a size at its days and its USD; customdata: the place of its row."""
    figure = go.Figure()
    drawn = [idx for idx, row in enumerate(result.rows) if _is_drawn(row)]
    front = [idx for idx in result.front if idx in drawn]
    for name, places, line in (
        ("no other is faster and cheaper", front, "lines+markers"),
        ("another is faster and cheaper", [idx for idx in drawn if idx not in front], "markers"),
    ):
        rows = [result.rows[idx] for idx in places]
        if not rows:
            continue
        figure.add_scatter(
            x=[row.days for row in rows],
            y=[row.cost_usd for row in rows],
            name=name,
            mode=f"{line}+text",
            text=[f"{row.num_gpus:,}" for row in rows],
            textposition="top center",
            line={"color": PAGES[mode].accent},
            marker={
                "size": [TAKEN if idx == result.chosen else MARK for idx in places],
                "color": PAGES[mode].accent if line != "markers" else SERIES[1],
            },
            customdata=[[_words(row)] for row in rows],
            hovertemplate="%{customdata[0]}<extra></extra>",
        )
    themed(figure, mode, height=360)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    days = sorted({row.days or 0.0 for row in result.rows if _is_drawn(row)})
    figure.update_xaxes(title="days", type="log", tickvals=days, ticktext=[numbers.plain(each) for each in days])
    figure.update_yaxes(title="USD", rangemode="tozero", zeroline=False)
    return figure


def front_alt(result: PlanResult) -> str:
    """The same in words."""
    points = [_words(result.rows[idx]) for idx in result.front if _is_drawn(result.rows[idx])]
    return f"Cluster sizes that no other beats in both days and cost: {'; '.join(points)}."


def _is_drawn(row: PlanRow) -> bool:
    return row.days is not None and row.cost_usd is not None


def _words(row: PlanRow) -> str:
    days, cost = numbers.plain(row.days or 0.0), numbers.usd(row.cost_usd or 0.0)
    return f"{row.num_gpus:,} GPUs: {days} days, {cost}, {literal(row.layout or '')}"
