"""What would move a run's GPU-hours, as a tornado: a bar from one end of each range to the other, the widest on top."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go

from simulator.report import numbers
from simulator.report.figures.literal import literal
from simulator.report.figures.look import mixed, themed
from simulator.report.frames import cost as frames
from simulator.report.theme import PAGES, SERIES, Mode
from simulator.results.run_result import RunResult

NUM_BARS: Final = 10
MAX_WORDS: Final = 100
"""Letters of what a source is; the bars bear its key."""
BAR_HEIGHT: Final = 30
FRAME_HEIGHT: Final = 84
TOGETHER: Final = "all at once, 90 %"
"""Name of the bar of the joint interval, which is none of the sources."""
ENDS: Final = (("at_low_frac", "at the low end", SERIES[2]), ("at_high_frac", "at the high end", SERIES[1]))
"""Column of the frame, its name, its colour."""


def tornado(result: RunResult, mode: Mode = "light") -> go.Figure:
    """The joint 90 % interval on top, below it the sources that move the hours most, at both ends of their ranges."""
    frame, joint = frames.ranges(result).head(NUM_BARS), frames.joint_interval(result)
    labels = [literal(key) for key in frame["what"]]
    figure = go.Figure()
    figure.add_bar(
        y=[TOGETHER], x=[joint[1] - joint[0]], base=[joint[0]], orientation="h", name=TOGETHER,
        marker={"color": PAGES[mode].line},
        text=[numbers.signed_percent_range(*joint)], textposition="inside",
        insidetextanchor="middle", hovertemplate="%{y}: %{text}<extra></extra>",
    )  # fmt: skip
    for column, name, colour in ENDS:
        figure.add_bar(
            y=labels, x=list(frame[column]), orientation="h", name=name,
            marker={"color": colour if mode == "light" else mixed(colour, PAGES[mode].text, 0.15)},
            text=[numbers.signed_percent(end) if end else "" for end in frame[column]], textposition="outside",
            cliponaxis=False, customdata=[literal(words, MAX_WORDS) for words in frame["words"]],
            hovertemplate="%{customdata}<br>" + name + ": %{text}<extra></extra>",
        )  # fmt: skip
    return _laid_out(figure, mode, max(map(abs, (*frame["at_low_frac"], *frame["at_high_frac"], *joint, 0.001))))


def tornado_alt(result: RunResult) -> str:
    """The same in words."""
    joint = frames.joint_interval(result)
    found = [
        f"{literal(words, MAX_WORDS)} {numbers.signed_percent(low)} at its low end and {numbers.signed_percent(high)} at its "
        "high end"
        for words, low, high in frames.ranges(result).head(NUM_BARS)[["words", "at_low_frac", "at_high_frac"]].values
    ]
    together = numbers.signed_percent_range(*joint)
    return f"Change of the GPU-hours: {together} with all at once, in 90 % of the draws. Alone: {'; '.join(found)}."


def _laid_out(figure: go.Figure, mode: Mode, most: float) -> go.Figure:
    rows = len(dict.fromkeys(name for bar in figure.data for name in bar.y))
    themed(figure, mode, height=BAR_HEIGHT * rows + FRAME_HEIGHT)
    figure.update_layout(
        barmode="overlay",
        bargap=0.3,
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    figure.update_xaxes(title="change of the run's GPU-hours", tickformat="+.0%" if most > 0.02 else "+.1%",
                        range=[-most * 1.3, most * 1.3])  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
