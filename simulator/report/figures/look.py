"""The look that all figures share: page colours, the reader's own fonts, no background, no clutter."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go

from simulator.report.theme import FONT, PAGES, Mode

HEIGHT: Final = 420
"""Pixels of a figure that says nothing else."""
TEXT_SIZE: Final = 13
BLACK: Final = "#000000"
WHITE: Final = "#FFFFFF"


def themed(figure: go.Figure, mode: Mode, *, height: int = HEIGHT) -> go.Figure:
    """The figure in the colours of the page that it stands on; returns it."""
    page = PAGES[mode]
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": TEXT_SIZE, "color": page.text},
        height=height,
        margin={"l": 8, "r": 8, "t": 16, "b": 8},
        hoverlabel={"bgcolor": page.surface, "bordercolor": page.line, "font": {"family": FONT, "color": page.text}},
        legend={"font": {"color": page.text}},
        hovermode="closest",
    )
    axis = {"gridcolor": page.line, "linecolor": page.line, "zerolinecolor": page.line, "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def mixed(colour: str, other: str, share: float) -> str:
    """A colour (#rrggbb) with `share` (0 to 1) of another in it."""
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def ink(colour: str) -> str:
    """Black or white, whichever stands out more from a colour (#rrggbb), by the contrast ratio of WCAG 2."""
    black, white = (_contrast(each, colour) for each in (BLACK, WHITE))
    return BLACK if black >= white else WHITE


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance of sRGB, 0 to 1."""
    shares = [channel / 255 for channel in _channels(colour)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
