"""Which share of a step rests on measured, interpolated, extrapolated, transferred and assumed durations."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go

from simulator.report import numbers
from simulator.report.facts import BASIS_WORDS
from simulator.report.figures.look import ink, themed
from simulator.report.theme import BASIS, PAGES, Mode
from simulator.results.step_result import BASIS_NAMES, Basis

HEIGHT: Final = 118
LEAST: Final = 5e-4
"""Share below which there is nothing to see: it rounds to 0.0 %."""
LEAST_SHOWN: Final = 0.06
"""Share from which on a part of the bar holds its percentage."""


def basis_figure(basis: Basis, mode: Mode = "light") -> go.Figure:
    """One bar whose parts are the shares, the best founded first."""
    figure = go.Figure()
    for name in BASIS_NAMES:
        share = getattr(basis, name)
        if share >= LEAST:
            figure.add_trace(
                go.Bar(
                    x=[100 * share], y=[""], orientation="h", name=f"{name} {numbers.percent(share)}",
                    marker={"color": BASIS[name], "line": {"color": PAGES[mode].background, "width": 1}},
                    text=[numbers.percent(share) if share >= LEAST_SHOWN else ""], textposition="inside",
                    insidetextanchor="middle", textangle=0, textfont={"color": ink(BASIS[name])},
                    hovertemplate=f"<b>{name}</b>, {BASIS_WORDS[name]}<br>{numbers.percent(share)}<extra></extra>",
                )
            )  # fmt: skip
    themed(figure, mode, height=HEIGHT)
    figure.update_layout(
        barmode="stack", margin={"l": 0, "r": 0, "t": 34, "b": 0},
        legend={"orientation": "h", "y": 1.05, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[0, 100])
    figure.update_yaxes(visible=False)
    return figure


def words(basis: Basis) -> str:
    """What the shares mean: 'measured: this shape, on this GPU · …'."""
    return " · ".join(f"{name}: {BASIS_WORDS[name]}" for name in BASIS_NAMES if getattr(basis, name) >= LEAST)


def alt(basis: Basis) -> str:
    """The bar in words."""
    shares = [(name, getattr(basis, name)) for name in BASIS_NAMES]
    parts = [f"{numbers.percent(share)} {name} ({BASIS_WORDS[name]})" for name, share in shares if share >= LEAST]
    return f"Kernel and message time by where it comes from: {', '.join(parts)}."
