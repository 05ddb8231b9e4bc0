"""The network of a job drawn layer by layer, folded by symmetry, its links coloured by how much a step uses them."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Final

import plotly.graph_objects as go

from simulator.network.picture import LinkKind, NodeKind
from simulator.report import numbers
from simulator.report.figures.literal import literal
from simulator.report.figures.look import mixed, themed
from simulator.report.network_words import SHORT_TRAFFIC, TRAFFIC_WORDS, hottest_sentence, link_words, place_sentence
from simulator.report.theme import PAGES, Mode
from simulator.results.network_view import TRAFFICS, DrawnNode, LinkLoad, NetworkView, Traffic

Point = tuple[float, float]

HEIGHTS: Final[Mapping[NodeKind, float]] = {"scale_up": 0.0, "gpu": 1.0, "leaf": 2.5, "spine": 3.7, "core": 4.7}
"""Where the layers stand, in units of the vertical axis."""
MIDDLES: Final[Mapping[LinkKind, float]] = {"scale_up": 0.5, "nic": 1.75, "leaf_spine": 3.1, "spine_core": 4.2}
LAYER_HEIGHT: Final = 96
"""Pixels of a unit of the vertical axis."""
PADDING: Final = 0.03
"""Free part of a domain's width on each side."""
TEXT_X: Final = 1.03
"""Where the words stand beside the picture, whose width is 1."""
TEXT_WIDTH: Final = 0.52
WIDTHS: Final = (1.2, 5.0)
"""Pixels of a link that carries nothing, and of the hottest."""
SCALES: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Ends of the colour scale: the first that holds the hottest link."""
SYMBOLS: Final[Mapping[NodeKind, str]] = {
    "gpu": "square", "leaf": "hexagon2", "spine": "diamond", "core": "diamond-tall", "scale_up": "square",
}  # fmt: skip
SIZES: Final[Mapping[NodeKind, int]] = {"gpu": 13, "leaf": 15, "spine": 17, "core": 17, "scale_up": 1}


def network_figure(view: NetworkView, mode: Mode = "light", traffic: Traffic | None = None) -> go.Figure:
    """The folded network. traffic: the kind of traffic that the colours tell of; None: all together."""
    places = _places(view)
    figure = go.Figure()
    top = max(HEIGHTS[node.kind] for node in view.nodes)
    end = _scale_end(view, traffic)
    for link in view.links:
        _draw_links(figure, view, link, places, traffic, end, mode)
    _draw_nodes(figure, view, places, mode)
    _add_scale(figure, end, mode)
    themed(figure, mode, height=round(LAYER_HEIGHT * (top + 1.45)))
    _draw_domains(figure, view, mode)
    _write_beside(figure, view, traffic, mode)
    figure.update_layout(showlegend=False, margin={"t": 8, "b": 8, "l": 8, "r": 8})
    hidden = {"visible": False, "fixedrange": True}
    figure.update_xaxes(range=[-0.01, TEXT_X + TEXT_WIDTH], **hidden)
    figure.update_yaxes(range=[-0.95, top + 0.5], **hidden)
    return figure


def alt(view: NetworkView, traffic: Traffic | None = None) -> str:
    """The figure in words."""
    what = "all traffic" if traffic is None else TRAFFIC_WORDS[traffic]
    shares = ", ".join(
        f"{link_words(view, link.kind)} {numbers.percent(view.share(link, traffic))}" for link in view.links
    )
    return f"{place_sentence(view)} Use of the links by {what}: {shares}. {hottest_sentence(view, traffic)}"


def _places(view: NetworkView) -> dict[str, Point]:
    """Where each node stands: GPUs in their domains, switches above what they join, evenly spread."""
    domains = sorted({node.of for node in view.nodes if node.kind == "gpu"})
    width = 1.0 / len(domains)
    found: dict[str, Point] = {}
    for place, domain in enumerate(domains):
        gpus = [node for node in view.nodes if node.kind == "gpu" and node.of == domain]
        step = width * (1 - 2 * PADDING) / len(gpus)
        for i, gpu in enumerate(gpus):
            found[gpu.key] = (place * width + width * PADDING + (i + 0.5) * step, HEIGHTS["gpu"])
        for node in view.nodes:
            if node.kind == "scale_up" and node.of == domain:
                found[node.key] = ((place + 0.5) * width, HEIGHTS["scale_up"])
    for kind in ("leaf", "spine", "core"):
        nodes = [node for node in view.nodes if node.kind == kind]
        below = {node.key: [found[link.lower][0] for link in view.drawn if link.upper == node.key] for node in nodes}
        ordered = sorted(nodes, key=lambda node: (sum(below[node.key]) / len(below[node.key]), view.nodes.index(node)))
        for i, node in enumerate(ordered):
            found[node.key] = ((i + 0.5) / len(ordered), HEIGHTS[node.kind])
    return found


def _scale_end(view: NetworkView, traffic: Traffic | None) -> float:
    most = max((view.share(link, traffic) for link in view.links), default=0.0)
    return next((end for end in SCALES if most <= end), ceil(most * 10) / 10)


def _colour(share: float, mode: Mode) -> str:
    """From quiet to hot: share of the scale, 0 to 1."""
    page = PAGES[mode]
    cold, middle, hot = mixed(page.muted, page.background, 0.45), "#E69F00", "#D55E00" if mode == "light" else "#FF7A1A"
    return mixed(cold, middle, share * 2) if share < 0.5 else mixed(middle, hot, share * 2 - 1)


def _draw_links(
    figure: go.Figure, view: NetworkView, link: LinkLoad, places: Mapping[str, Point], traffic: Traffic | None, end: float,
    mode: Mode,
) -> None:  # fmt: skip
    """Lines of one kind of link, and at each middle an invisible mark that tells its figures."""
    drawn = [each for each in view.drawn if each.kind == link.kind]
    level = min(1.0, view.share(link, traffic) / end)
    xs: list[float | None] = []
    ys: list[float | None] = []
    for each in drawn:
        lower, upper = _ends(view, each.lower, each.upper, places)
        xs += [lower[0], upper[0], None]
        ys += [lower[1], upper[1], None]
    width = WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * level
    colour = _colour(level, mode)
    figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line={"color": colour, "width": width}, hoverinfo="skip"))
    ends = [_ends(view, each.lower, each.upper, places) for each in drawn]
    figure.add_trace(
        go.Scatter(
            x=[(lower[0] + upper[0]) / 2 for lower, upper in ends],
            y=[(lower[1] + upper[1]) / 2 for lower, upper in ends],
            mode="markers",
            marker={"size": 14, "opacity": 0},
            text=[_hover(view, link)] * len(drawn),
            hovertemplate="%{text}<extra></extra>",
        )
    )


def _ends(view: NetworkView, lower: str, upper: str, places: Mapping[str, Point]) -> tuple[Point, Point]:
    """A GPU's link into its domain goes straight down to the domain's bar."""
    if lower.startswith("scale_up "):
        lower, upper = upper, lower
    if upper.startswith("scale_up "):
        return (places[lower][0], HEIGHTS["scale_up"]), places[lower]
    return places[lower], places[upper]


def _hover(view: NetworkView, link: LinkLoad) -> str:
    lines = [
        f"<b>{literal(link_words(view, link.kind))}</b>",
        f"{link.count:,} × {numbers.bytes_rate(link.bytes_per_s)}",
    ]
    for traffic in TRAFFICS:
        if link.load(traffic):
            share = numbers.percent(view.share(link, traffic))
            lines.append(f"{TRAFFIC_WORDS[traffic]}: {numbers.amount_of_bytes(link.load(traffic))}, {share}")
    lines.append(f"together {numbers.amount_of_bytes(link.load())} a step, {numbers.percent(view.share(link))}")
    return "<br>".join(lines)


def _draw_nodes(figure: go.Figure, view: NetworkView, places: Mapping[str, Point], mode: Mode) -> None:
    page = PAGES[mode]
    for kind, symbol in SYMBOLS.items():
        nodes = [node for node in view.nodes if node.kind == kind and kind != "scale_up"]
        if nodes:
            figure.add_trace(
                go.Scatter(
                    x=[places[node.key][0] for node in nodes],
                    y=[places[node.key][1] for node in nodes],
                    mode="markers+text",
                    text=[f"  × {node.times:,}" if node.times > 1 else "" for node in nodes],
                    textposition="middle right",
                    textfont={"color": page.muted, "size": 11},
                    marker={
                        "symbol": symbol, "size": SIZES[kind], "color": page.surface,
                        "line": {"color": page.text, "width": 1.4},
                    },
                    customdata=[_node_words(view, node) for node in nodes],
                    hovertemplate="%{customdata}<extra></extra>",
                )
            )  # fmt: skip


def _node_words(view: NetworkView, node: DrawnNode) -> str:
    plane = f", plane {node.of}" if view.trees > 1 and node.kind != "gpu" else ""
    if node.kind == "gpu":
        return f"{node.key.upper()} in domain {node.of}"
    number = node.key.rpartition(" ")[2]
    return f"leaf switch {number}{plane}" if node.kind == "leaf" else f"{node.times:,} {node.kind} switches{plane}"


def _draw_domains(figure: go.Figure, view: NetworkView, mode: Mode) -> None:
    """A frame and the scale-up network of each drawn domain, and how many are left out."""
    page = PAGES[mode]
    domains = sorted({node.of for node in view.nodes if node.kind == "gpu"})
    width = 1.0 / len(domains)
    for place, domain in enumerate(domains):
        left, right = place * width + width * PADDING / 2, (place + 1) * width - width * PADDING / 2
        figure.add_shape(
            type="rect", x0=left, x1=right, y0=-0.3, y1=1.3, line={"color": page.line, "width": 1}, fillcolor=page.surface,
            layer="below",
        )  # fmt: skip
        inner = width * PADDING
        figure.add_shape(
            type="rect", x0=place * width + inner, x1=(place + 1) * width - inner, y0=-0.13, y1=0.13,
            line={"color": page.text, "width": 1.2, "dash": "dot" if view.is_mesh else "solid"}, fillcolor=page.background,
        )  # fmt: skip
        name = view.scale_up if view.gpus_per_domain > 1 else "one GPU"
        _text(figure, (place + 0.5) * width, 0.0, literal(name, 24), page.muted, 11)
        gpus = sum(node.kind == "gpu" and node.of == domain for node in view.nodes)
        held = min(view.gpus_per_domain, view.num_gpus - domain * view.gpus_per_domain)
        part = "" if gpus == held else f"<br>{gpus} of {held} GPUs drawn"
        _text(
            figure, (place + 0.5) * width, -0.5, f"domain {domain + 1:,} of {view.num_domains:,}{part}", page.muted, 12
        )
    if view.num_domains > len(domains):
        _text(figure, (len(domains) - 1) * width, -0.55, "…", page.text, 16)


def _text(figure: go.Figure, x: float, y: float, words: str, colour: str, size: int, anchor: str = "center") -> None:
    figure.add_annotation(
        x=x, y=y, text=words, showarrow=False, font={"color": colour, "size": size}, xanchor=anchor, align=anchor
    )


def _write_beside(figure: go.Figure, view: NetworkView, traffic: Traffic | None, mode: Mode) -> None:
    """Beside each layer what stands there, and beside each kind of link what it carries; the hottest in bold."""
    page, hottest = PAGES[mode], view.hottest(traffic)
    for link in view.links:
        is_hottest = link is hottest
        words = literal(link_words(view, link.kind))
        load = f"{numbers.amount_of_bytes(link.load(traffic))} a step, {numbers.percent(view.share(link, traffic))}"
        kind = "" if traffic is None else f" {SHORT_TRAFFIC[traffic]}:"
        title = f"<b>{words} (hottest)</b>" if is_hottest else words
        text = f"{title}<br>{link.count:,} × {numbers.bytes_rate(link.bytes_per_s)};{kind} {load}"
        _text(figure, TEXT_X, MIDDLES[link.kind], text, page.text, 12, "left")
    for kind, words in _layer_words(view).items():
        _text(figure, TEXT_X, HEIGHTS[kind], words, page.muted, 12, "left")


def _layer_words(view: NetworkView) -> dict[NodeKind, str]:
    mesh = "links from GPU to GPU" if view.is_mesh else "switch"
    found: dict[NodeKind, str] = {
        "gpu": f"{view.num_gpus:,} GPUs: {view.gpus_per_domain} × {view.num_domains:,} domains"
    }
    if view.gpus_per_domain > 1:
        found["scale_up"] = f"{literal(view.scale_up)} {mesh} × {view.num_domains:,}"
    if view.fabric is not None:
        trees = f" in {view.trees} planes" if view.trees > 1 else ""
        found["leaf"] = f"{view.leaves:,} leaf switches{trees}"
        if view.spines:
            found["spine"] = f"{view.spines:,} spine switches"
        if view.cores:
            found["core"] = f"{view.cores:,} core switches"
    return found


def _add_scale(figure: go.Figure, end: float, mode: Mode) -> None:
    """The colours' legend: what of a link's capacity a step uses."""
    page = PAGES[mode]
    figure.add_trace(
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            hoverinfo="skip",
            marker={
                "color": [0.0],
                "cmin": 0.0,
                "cmax": end,
                "colorscale": [[level, _colour(level, mode)] for level in (0.0, 0.25, 0.5, 0.75, 1.0)],
                "showscale": True,
                "colorbar": {
                    "orientation": "h", "thickness": 8, "len": 0.3,
                    "x": 0.985, "xanchor": "right", "y": 0.0, "yanchor": "bottom",
                    "tickformat": ".0%", "nticks": 4, "outlinewidth": 0, "tickfont": {"color": page.muted, "size": 11},
                    "title": {
                        "text": "of what a link could carry in the step", "side": "top",
                        "font": {"color": page.muted, "size": 11},
                    },
                },
            },
        )
    )  # fmt: skip
