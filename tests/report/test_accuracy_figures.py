"""Pictures of the accuracy: every run at its speeds, above equality where it is predicted too fast."""

from __future__ import annotations

import pytest

from simulator.report.accuracy import read_accuracy, speeds, units_of
from simulator.report.figures import basis
from simulator.report.figures.accuracy import errors_alt, errors_figure, gpu_colours, hover, scatter_alt, scatter_figure
from simulator.report.figures.basis import basis_figure
from simulator.report.theme import Mode
from simulator.results.step_result import Basis
from tests.report.test_accuracy import row

ROWS = (row("fast", predicted=200.0), row("slow", "step.step_s", 4.0, 2.0, gpu="b200", model="<b>x</b>"))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_scatter_holds_each_run_at_its_speed(mode: Mode) -> None:
    figure = scatter_figure(ROWS, mode)
    points = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert (points["h100"].x[0], points["h100"].y[0]) == (100.0, 200.0)
    assert (points["b200"].x[0], points["b200"].y[0]) == (0.5, 0.25)
    assert points["b200"].error_y.array[0] == pytest.approx(1 / 3.6 - 0.25)
    assert points["b200"].error_y.arrayminus[0] == pytest.approx(0.25 - 1 / 4.4)
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    equal = next(trace for trace in figure.data if trace.name == "equal")
    assert list(equal.x) == list(equal.y)
    band = next(trace for trace in figure.data if trace.name == "within 10 %")
    assert [y / x for x, y in zip(band.x, band.y, strict=True)] == pytest.approx([0.9, 0.9, 1.1, 1.1])


def test_the_axis_names_the_unit_or_the_symbols_of_several() -> None:
    assert scatter_figure(ROWS[:1]).layout.xaxis.title.text == "measured, tokens/s/GPU"
    assert scatter_figure(ROWS).layout.xaxis.title.text.endswith("its own unit:<br>◆ steps/s, ● tokens/s/GPU")
    assert scatter_figure(()).layout.xaxis.title.text == "measured"


def test_a_hover_holds_no_markup_of_the_file() -> None:
    assert "&lt;b&gt;x&lt;/b&gt;" in hover(ROWS[1])
    assert "error of the speed -50.0 %" in hover(ROWS[1])


def test_errors_stand_in_a_lane_a_gpu() -> None:
    figure = errors_figure(ROWS)
    lanes = {trace.name: (list(trace.x), set(trace.y)) for trace in figure.data}
    assert lanes == {"b200": ([pytest.approx(-50.0)], {"b200 (1)"}), "h100": ([pytest.approx(100.0)], {"h100 (1)"})}


def test_pictures_are_told_in_words() -> None:
    assert "2 runs on b200, h100: 0 lie within 10 % of equality, the others mostly above it (too fast)" in scatter_alt(
        ROWS
    )
    assert scatter_alt(()) == "No measured run is chosen."
    assert "b200: 1 runs, median -50.0 %, from -50.0 % to -50.0 %" in errors_alt(ROWS)


def test_a_gpu_has_one_colour_and_all_are_unlike() -> None:
    rows = speeds(read_accuracy())
    for mode in ("light", "dark"):
        colours = gpu_colours(rows, mode)  # type: ignore[arg-type]
        assert len(set(colours.values())) == len(colours) == len({each.gpu for each in rows})
        assert gpu_colours([each for each in rows if each.gpu == "h100"], mode) == {"h100": colours["h100"]}  # type: ignore[arg-type]


def test_units_are_counted() -> None:
    assert units_of([*ROWS, row()]) == {"tokens/s/GPU": 2, "steps/s": 1}
    assert sum(units_of(speeds(read_accuracy())).values()) == len(speeds(read_accuracy()))


def test_the_basis_is_a_bar_of_its_shares() -> None:
    """What rounds to nothing is left out."""
    shares = Basis(measured=0.7, interpolated=0.2997, extrapolated=0.0003, transferred=0.0, assumed=0.0)
    figure = basis_figure(shares)
    assert {trace.name: trace.x[0] for trace in figure.data} == {
        "measured 70.0 %": pytest.approx(70.0), "interpolated 30.0 %": pytest.approx(29.97),
    }  # fmt: skip
    assert basis.words(shares) == "measured: this shape, on this GPU · interpolated: between measured shapes"
    assert basis.alt(shares).endswith(
        "70.0 % measured (this shape, on this GPU), 30.0 % interpolated (between measured shapes)."
    )
