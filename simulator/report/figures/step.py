"""Where the time of a step goes: by category end to end, by part on each pipeline rank, and what binds it."""

from __future__ import annotations

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from simulator.report import facts, numbers
from simulator.report.figures.literal import literal
from simulator.report.figures.look import mixed, themed
from simulator.report.frames import step as frames
from simulator.report.theme import CATEGORY, PAGES, SERIES, Mode
from simulator.report.timeline_words import category_words
from simulator.results.step_result import StepTimes

PART_COLOURS: Final = {
    "forward_s": CATEGORY["gemm"],
    "backward_s": CATEGORY["expert_gemm"],
    "weight_s": CATEGORY["attention"],
    "overlapped_f_b_s": SERIES[6],
    "bubble_s": CATEGORY["bubble"],
    "optimizer_s": CATEGORY["optimizer"],
}
NUM_BINDINGS: Final = 8
BAR_HEIGHT: Final = 34
FRAME_HEIGHT: Final = 76
SHARE_TOLD: Final = 0.0005
"""Categories below this share of the step have no bar."""


def waterfall(step: StepTimes, mode: Mode = "light") -> go.Figure:
    """The categories of the step end to end, the longest first, and the whole step below them."""
    frame = _told(step)
    page = PAGES[mode]
    labels = [*map(_words, frame["category"]), "step"]
    seconds = [*frame["seconds"], step.step_s]
    unit, texts = numbers.column_of_seconds(seconds, step.step_s)
    shares = [*map(numbers.percent, frame["share"]), numbers.percent(1.0)]
    bars = go.Bar(
        y=labels,
        x=seconds,
        base=[*frame["begin_s"], 0.0],
        orientation="h",
        marker={
            "color": [*(_shade(name, mode) for name in frame["category"]), mixed(page.muted, page.background, 0.3)]
        },
        customdata=[[f"{text} {unit}", share] for text, share in zip(texts, shares, strict=True)],
        text=[f"{text} {unit}, {share}" for text, share in zip(texts, shares, strict=True)],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{customdata[0]}, %{customdata[1]} of the step<extra></extra>",
    )
    figure = themed(go.Figure(bars), mode, height=BAR_HEIGHT * len(labels) + FRAME_HEIGHT)
    figure.update_layout(showlegend=False, bargap=0.25)
    figure.update_xaxes(title="seconds of a step, mean pipeline rank", range=[0, step.step_s * 1.3], zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    return figure


def waterfall_alt(step: StepTimes) -> str:
    """The same in words."""
    frame = _told(step)
    pairs = zip(frame["category"], frame["seconds"], frame["share"], strict=True)
    found = [f"{_words(name)} {numbers.seconds(seconds)} ({numbers.percent(share)})" for name, seconds, share in pairs]
    return f"A step of {numbers.seconds(step.step_s)} by category, mean pipeline rank: {', '.join(found)}."


def parts_by_rank(step: StepTimes, mode: Mode = "light") -> go.Figure:
    """A stacked bar for each pipeline rank: forward, backward, weight gradients, pairs, bubble, optimizer."""
    frame = frames.parts(step)
    figure = go.Figure()
    for name in dict.fromkeys(frame["part"]):
        rows = frame[frame["part"] == name]
        figure.add_bar(
            x=list(rows["pp_rank"]),
            y=list(rows["seconds"]),
            name=facts.PART_WORDS[name],
            marker={"color": _part_shade(name, mode)},
            customdata=[numbers.seconds(seconds) for seconds in rows["seconds"]],
            hovertemplate="rank %{x}, " + facts.PART_WORDS[name] + ": %{customdata}<extra></extra>",
        )
    themed(figure, mode, height=380)
    figure.update_layout(
        barmode="stack", bargap=0.2, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    )
    figure.update_xaxes(title="pipeline rank", dtick=max(1, len(step.by_rank) // 16), showgrid=False, zeroline=False)
    figure.update_yaxes(title="seconds of a step", rangemode="tozero")
    return figure


def parts_alt(step: StepTimes) -> str:
    """Parts of the first, the middle and the mean rank in words."""
    frame = frames.parts(step)
    names = list(dict.fromkeys(frame["part"]))
    mean = ", ".join(f"{facts.PART_WORDS[name]} {numbers.seconds(getattr(step.parts.mean, name))}" for name in names)
    bubbles = [rank.bubble_s for rank in step.by_rank]
    text = f"Parts of the step on {len(step.by_rank)} pipeline ranks. Mean: {mean}."
    text += f" Bubble {numbers.seconds(min(bubbles))} to {numbers.seconds(max(bubbles))}."
    return f"{text} {facts.fullest_rank(step)}".strip()


def binding(step: StepTimes, mode: Mode = "light") -> go.Figure:
    """What the step would gain if one thing alone were free: bars, the strongest first."""
    frame = frames.bindings(step).head(NUM_BINDINGS)
    texts = [numbers.seconds(seconds) for seconds in frame["seconds"]]
    bars = go.Bar(
        y=[_words(what) for what in frame["what"]],
        x=list(frame["seconds"]),
        orientation="h",
        marker={"color": PAGES[mode].accent},
        text=texts,
        textposition="outside",
        cliponaxis=False,
        customdata=[[text, literal(why, 120)] for text, why in zip(texts, frame["why"], strict=True)],
        hovertemplate="%{y}: %{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )
    figure = themed(go.Figure(bars), mode, height=BAR_HEIGHT * len(frame) + FRAME_HEIGHT)
    longest = float(frame["seconds"].max()) if len(frame) else 1.0
    figure.update_layout(showlegend=False, bargap=0.3)
    figure.update_xaxes(title="seconds that a step would gain", range=[0, (longest or 1.0) * 1.15], zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    return figure


def binding_alt(step: StepTimes) -> str:
    """The same in words."""
    frame = frames.bindings(step).head(NUM_BINDINGS)
    pairs = zip(frame["what"], frame["seconds"], strict=True)
    found = ", ".join(f"{_words(what)} {numbers.seconds(seconds)}" for what, seconds in pairs)
    return f"What a step would gain if one thing alone were free: {found}."


def _told(step: StepTimes) -> pd.DataFrame:
    """The categories with a share that shows, the longest first, end to end."""
    frame = frames.categories(step)
    frame = frame[frame["share"] >= SHARE_TOLD].sort_values("seconds", ascending=False, kind="stable")
    return frame.assign(begin_s=frame["seconds"].cumsum() - frame["seconds"])


def _words(name: str) -> str:
    return literal(category_words(name))


def _shade(category: str, mode: Mode) -> str:
    return _on_page(CATEGORY.get(category, CATEGORY["other"]), mode)


def _part_shade(name: str, mode: Mode) -> str:
    return _on_page(PART_COLOURS[name], mode)


def _on_page(colour: str, mode: Mode) -> str:
    """Very light and very dark colours meet the page a little, so that a bar stands out from it."""
    if colour == CATEGORY["bubble"]:
        return mixed(colour, PAGES[mode].muted, 0.35)
    if colour == CATEGORY["optimizer"] and mode == "dark":
        return mixed(colour, PAGES[mode].text, 0.4)
    return colour
