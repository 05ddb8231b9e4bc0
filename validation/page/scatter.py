"""Predicted against measured step times with their intervals, as an SVG whose bytes are the same for the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from simulator.report import numbers
from validation.page.blocks import counted

WIDTH: Final = 900.0
LEFT: Final = 70.0
"""Of a panel, as of the picture's left margin."""
RIGHT: Final = 880.0
COLOURS: Final[Mapping[str, str]] = {"dense": "#1f6fb4", "MoE": "#d9691e"}
BAND: Final = 0.25
"""Half of the grey band, as a share."""
STEPS: Final = (1, 2, 5)
"""Ticks within a decade of seconds."""
RATIOS: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Ticks of predicted over measured."""
LEAST: Final = 1e-3
"""Of a speed, the least that an interval's low end stands for: what is inverse to 0 is no time."""
SIZE: Final = 3.0
STYLE: Final = (
    "text{font:13px sans-serif;fill:#222}.small{font-size:11px;fill:#555}.grid{stroke:#e4e4e4;stroke-width:1}"
    ".axis{stroke:#888;stroke-width:1;fill:none}.band{fill:#000;fill-opacity:.08}.even{stroke:#555;stroke-dasharray:5 3}"
    ".bar{stroke-width:1;stroke-opacity:.35}circle{stroke-width:1.2}"
)


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis. low, high: values at its ends; first, last: pixels there."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value: float) -> float:
        """Pixel of a value; of one beyond the ends, the end."""
        return self.beyond(min(max(value, self.low), self.high))

    def beyond(self, value: float) -> float:
        """Pixel of a value, outside the axis too."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.first + share * (self.last - self.first)

    def seconds(self) -> list[float]:
        """Round values between the ends."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        found = [step * 10.0**decade for decade in range(first, last + 1) for step in STEPS]
        return [value for value in found if self.low <= value <= self.high]


def scatter(cases: Sequence[Mapping[str, Any]]) -> str:
    """The picture of the rows of a document that count: above predicted over measured seconds, below their ratio.

    A row: its step_s predicted and measured, its interval, its kind (COLOURS); hollow where the measurement lies outside.
    """
    rows = sorted(counted(cases), key=lambda case: str(case["case_id"]))
    seconds = [case[key] for case in rows for key in ("predicted_step_s", "measured_step_s")] or [1.0]
    low, high = min(seconds) / 1.3, max(seconds) * 1.3
    across = Axis(low, high, LEFT, RIGHT)
    above, below = Axis(low, high, 600.0, 40.0), Axis(0.25, 2.5, 900.0, 660.0)
    parts = [*_frame(across, above, "predicted step, s", above.seconds()), *_even(across, above, "step")]
    parts += [*_frame(across, below, "predicted / measured", RATIOS), *_even(across, below, "ratio")]
    for case in rows:
        parts += _marks(case, across, above, below)
    parts += _legend(rows)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} 950" width="{WIDTH:.0f}" height="950">',
            f"<style>{STYLE}</style>",
            "<title>Predicted against measured step times of published runs</title>",
            f'<rect width="{WIDTH:.0f}" height="950" fill="#fff"/>',
            *parts,
            "</svg>\n",
        )
    )


def _frame(across: Axis, up: Axis, name: str, ticks: Sequence[float]) -> list[str]:
    """Grid, ticks with their values, the frame and the axes' names."""
    parts = []
    for value in across.seconds():
        x = across.at(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {up.first:.1f}V{up.last:.1f}"/>')
        parts.append(f'<text class="small" text-anchor="middle" x="{x:.1f}" y="{up.first + 15:.1f}">{value:g}</text>')
    for value in ticks:
        y = up.at(value)
        parts.append(f'<path class="grid" d="M{across.first:.1f} {y:.1f}H{across.last:.1f}"/>')
        parts.append(
            f'<text class="small" text-anchor="end" x="{across.first - 5:.1f}" y="{y + 4:.1f}">{value:g}</text>'
        )
    middle, center = (up.first + up.last) / 2.0, (across.first + across.last) / 2.0
    box = f"M{across.first:.1f} {up.first:.1f}H{across.last:.1f}V{up.last:.1f}H{across.first:.1f}Z"
    return [
        *parts,
        f'<path class="axis" d="{box}"/>',
        f'<text text-anchor="middle" x="{center:.1f}" y="{up.first + 34:.1f}">measured step, s</text>',
        f'<text text-anchor="middle" transform="translate(18 {middle:.1f}) rotate(-90)">{name}</text>',
    ]


def _even(across: Axis, up: Axis, kind: str) -> list[str]:
    """The line where both are equal, and the band around it."""

    def at(end: float, factor: float) -> str:
        value = end * factor if kind == "step" else factor
        return f"{across.at(end):.1f} {up.beyond(value):.1f}"

    ends, sides = (across.low, across.high), (1.0 + BAND, 1.0 - BAND)
    corners = [at(ends[0], sides[0]), at(ends[1], sides[0]), at(ends[1], sides[1]), at(ends[0], sides[1])]
    frame = (
        f'x="{across.first:g}" y="{up.last:g}" width="{across.last - across.first:g}" height="{up.first - up.last:g}"'
    )
    return [
        f'<clipPath id="{kind}"><rect {frame}/></clipPath>',
        f'<path class="band" clip-path="url(#{kind})" d="M{"L".join(corners)}Z"/>',
        f'<path class="even" d="M{at(ends[0], 1.0)}L{at(ends[1], 1.0)}"/>',
    ]


def _marks(case: Mapping[str, Any], across: Axis, above: Axis, below: Axis) -> list[str]:
    """The row in both panels, with its interval."""
    measured, predicted = case["measured_step_s"], case["predicted_step_s"]
    ratio = predicted / measured
    ends = [case[key] / case["predicted"] for key in ("low", "high")]
    low, high = ends if case["quantity"] == "step_time_s" else (1.0 / ends[1], 1.0 / max(ends[0], LEAST))
    is_inside = ratio * low <= 1.0 <= ratio * high
    colour = COLOURS.get(case["labels"].get("kind", ""), "#555")
    x, fill = across.at(measured), colour if is_inside else "#fff"
    said = f"{case['case_id']}: measured {numbers.seconds_to_compare(measured)}, "
    said += f"predicted {numbers.seconds_to_compare(predicted)}"
    parts = [f'<g stroke="{colour}"><title>{escape(said)}</title>']
    for up, value in ((above, predicted), (below, ratio)):
        parts.append(f'<path class="bar" d="M{x:.1f} {up.at(value * low):.1f}V{up.at(value * high):.1f}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{up.at(value):.1f}" r="{SIZE:g}" fill="{fill}" fill-opacity=".8"/>')
    return [*parts, "</g>"]


def _legend(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Colours with the number of rows, and what hollow marks, bars and the band are."""
    parts, y = [], 60.0
    for kind, colour in COLOURS.items():
        count = sum(case["labels"].get("kind") == kind for case in rows)
        parts.append(f'<circle cx="{LEFT + 18:.1f}" cy="{y - 4:.1f}" r="5" fill="{colour}" stroke="{colour}"/>')
        parts.append(f'<text x="{LEFT + 30:.1f}" y="{y:.1f}">{kind}, {count} runs</text>')
        y += 20.0
    for text in (
        "bar: 90 % interval",
        "hollow: measured outside it",
        f"grey: {numbers.rough_percent(BAND)} either way",
    ):
        parts.append(f'<text class="small" x="{LEFT + 30:.1f}" y="{y:.1f}">{text}</text>')
        y += 16.0
    return parts
