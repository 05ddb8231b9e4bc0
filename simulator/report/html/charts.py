"""Figures inside the page: one set of data, and what is different on a dark page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import plotly.graph_objects as go
from markupsafe import Markup

from simulator.report.html.blocks import Chart
from simulator.report.theme import Mode

UNSAFE: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
Path = list[str | int]


def chart(key: str, caption: str, alt: str, draw: Callable[[Mode], go.Figure]) -> Chart:
    """A block of `draw("light")`, with what `draw("dark")` has otherwise."""
    light, dark = (json.loads(draw(mode).to_json(engine="json")) for mode in _MODES)
    height = int(light["layout"].get("height") or 420)
    content = {"data": light["data"], "layout": light["layout"], "dark": list(_differences(light, dark, []))}
    return Chart(key, caption, alt, height, as_script_data(content))


_MODES: Final[tuple[Mode, Mode]] = ("light", "dark")


def figure_of(drawn: Chart, mode: Mode) -> go.Figure:
    """The figure of a block again, as it is on a light or a dark page."""
    content = json.loads(drawn.data)
    if mode == "dark":
        for path, value in content["dark"]:
            place: Any = content
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
    return go.Figure({"data": content["data"], "layout": content["layout"]})


def as_script_data(value: Any) -> Markup:
    """JSON that stands inside a script element as data: no letter in it can end the element or begin another one."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(UNSAFE))  # noqa: S704


def _differences(light: Any, dark: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """(path, value on a dark page) wherever the two differ."""
    if isinstance(light, dict) and isinstance(dark, dict) and light.keys() == dark.keys():
        for key in light:
            yield from _differences(light[key], dark[key], [*path, key])
    elif isinstance(light, list) and isinstance(dark, list) and len(light) == len(dark):
        for place, (one, other) in enumerate(zip(light, dark, strict=True)):
            yield from _differences(one, other, [*path, place])
    elif light != dark:
        yield path, dark
