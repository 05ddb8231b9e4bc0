"""The picture of memory shows every byte of the document, its limits, and says so in words."""

from __future__ import annotations

import math
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest

from hwprofiles.units import GIGA
from simulator.report.figures.memory import MAX_NAMES, alt, memory_figure
from simulator.report.frames.memory import tensors_of
from simulator.report.memory_words import KIND_WORDS, tensor_words
from simulator.report.theme import PAGES, Mode
from simulator.results.run_result import from_json
from simulator.results.step_memory import Memory

MEMORY = from_json((Path(__file__).parents[1] / "results" / "data" / "made_up_run.json").read_text()).memory


def without_names(memory: Memory) -> Memory:
    """As an older release wrote it."""
    return memory.model_copy(
        update={"by_stage": tuple(stage.model_copy(update={"tensors": None}) for stage in memory.by_stage)}
    )


def bars(figure: go.Figure) -> list[go.Bar]:
    return [trace for trace in figure.data if isinstance(trace, go.Bar)]


@pytest.mark.parametrize("memory", [MEMORY, without_names(MEMORY)], ids=["by name", "by kind"])
def test_the_bars_of_a_rank_are_its_peak(memory: Memory) -> None:
    drawn = bars(memory_figure(memory))
    for place, stage in enumerate(memory.by_stage):
        assert math.isclose(math.fsum(bar.y[place] for bar in drawn), stage.peak_bytes / GIGA, rel_tol=1e-12)
        assert all(bar.x[place] == str(stage.pp_rank) for bar in drawn)
    colours = [bar.marker.color for bar in drawn]
    assert len(set(colours)) == len(colours)
    assert len(drawn) <= MAX_NAMES + len(KIND_WORDS)


def test_what_has_no_colour_of_its_own_is_told_on_hover() -> None:
    buffers = next(bar for bar in bars(memory_figure(MEMORY)) if bar.name == "other buffers and libraries")
    assert "CUDA context and kernels 1.20 GB" in buffers.customdata[0]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_lines_stand_at_capacity_and_at_what_is_usable(mode: Mode) -> None:
    figure = memory_figure(MEMORY, mode)
    lines = {round(shape.y0, 6) for shape in figure.layout.shapes if shape.type == "line"}
    assert lines == {round(MEMORY.capacity_bytes / GIGA, 6), round(MEMORY.usable_bytes / GIGA, 6)}
    (need,) = (trace for trace in figure.data if isinstance(trace, go.Scatter))
    worst = MEMORY.worst_stage
    assert need.x == (str(worst.pp_rank),)
    ends = (need.y[0] - need.error_y.arrayminus[0], need.y[0] + need.error_y.array[0])
    wanted = [worst.peak_bytes * (1 + end) / GIGA for end in (MEMORY.margin.low, MEMORY.margin.high)]
    assert ends == pytest.approx(wanted)
    assert figure.layout.yaxis.range[1] > max(wanted[1], MEMORY.capacity_bytes / GIGA)
    assert figure.layout.font.color == PAGES[mode].text


def test_the_text_alternative_says_what_the_picture_shows() -> None:
    text = alt(MEMORY)
    for part in (
        "4 pipeline ranks",
        "39.5 GB to 66.5 GB on rank 2",
        "79.0 GB",
        "84.9 GB",
        "fits",
        "routed experts' input",
    ):
        assert part in text
    assert "activations 30.5 GB" in alt(without_names(MEMORY))


@pytest.mark.parametrize("memory", [MEMORY, without_names(MEMORY)])
def test_the_tensors_hold_every_byte(memory: Memory) -> None:
    for stage in memory.by_stage:
        sizes = [tensor.bytes for tensor in tensors_of(stage)]
        assert sum(sizes) == stage.peak_bytes
        assert sizes == sorted(sizes, reverse=True)


def test_names_become_words() -> None:
    assert tensor_words("expert.input") == "routed experts' input"
    assert tensor_words("activations.small") == "other activations"
    assert tensor_words("weights") == "weights"
    assert tensor_words("made_up.new_thing") == "made_up: new thing"


def test_every_kept_tensor_of_the_layers_that_matters_has_words() -> None:
    source = "\n".join(
        path.read_text() for path in (Path(__file__).parents[2] / "simulator" / "workload").rglob("*.py")
    )
    kept = set(re.findall(r'(?:keep|operand|Tensor|bf16)\(\s*"([a-z_]+\.[a-z_0-9]+)"', source))
    assert len(kept) > 40
    assert [name for name in sorted(kept) if ": " in tensor_words(name)] == []
