"""A layout holds every unit of the model once and in order; the default rule splits as evenly as the head allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.scenario.layout import (
    LayoutError,
    default_layer_counts,
    parse_layout,
    stage_layout,
)
from simulator.scenario.model_catalog import load_model

V3 = "E d*3 m | (m*4)*14 | m mtp L"


def test_default_of_deepseek_v3_on_16_stages() -> None:
    assert stage_layout(load_model("deepseek-v3"), 16, None) == parse_layout(V3)


def test_layers_that_divide_are_split_evenly() -> None:
    assert default_layer_counts(80, 8, 0) == (10,) * 8
    assert default_layer_counts(56, 14, 1) == (4,) * 14


@pytest.mark.parametrize(
    ("layers", "stages", "mtp", "counts"),
    [
        (61, 16, 1, (*(4,) * 15, 1)),
        (94, 8, 0, (*(12,) * 7, 10)),
        (61, 8, 1, (8, 8, 8, 8, 8, 8, 8, 5)),
        (81, 8, 0, (10, 11, 11, 10, 10, 10, 10, 9)),
        (62, 4, 1, (16, 17, 16, 13)),
        (62, 4, 2, (17, 17, 17, 11)),
        (7, 2, 0, (4, 3)),
        (3, 2, 1, (2, 1)),
        (5, 1, 1, (5,)),
    ],
)
def test_default_counts(layers: int, stages: int, mtp: int, counts: tuple[int, ...]) -> None:
    assert default_layer_counts(layers, stages, mtp) == counts


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 3))
def test_default_counts_are_whole_and_level(layers: int, stages: int, mtp: int) -> None:
    if stages > layers:
        with pytest.raises(LayoutError, match="at most one stage a layer"):
            default_layer_counts(layers, stages, mtp)
        return
    counts = default_layer_counts(layers, stages, mtp)
    assert (len(counts), sum(counts)) == (stages, layers)
    assert min(counts) >= 1
    others = counts[:-1] or counts
    assert max(others) - min(others) <= 1
    assert counts[-1] <= max(counts)


def test_text_is_parsed() -> None:
    layout = parse_layout(V3)
    assert len(layout) == 16
    assert layout[0] == ("E", "d", "d", "d", "m")
    assert layout[-1] == ("m", "mtp", "L")
    assert parse_layout("E d d d m|" + "m m m m|" * 14 + "m mtp L") == layout


def test_brackets_inside_a_stage_are_refused_as_such() -> None:
    for text in ("E (d m)*6 | (d m)*6 L", "E | m (m)*2 | L"):
        with pytest.raises(LayoutError, match="inside a stage; brackets repeat whole stages and stand alone"):
            parse_layout(text)


def test_group_of_several_stages() -> None:
    assert parse_layout("E m | (m | m*2)*2 | L m") == (
        ("E", "m"), ("m",), ("m", "m"), ("m",), ("m", "m"), ("L", "m"),
    )  # fmt: skip


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_counts_and_their_text_are_the_same_layout(counts: list[int]) -> None:
    model = load_model("mixtral-8x22b").model_copy(update={"num_layers": sum(counts)})
    layout = stage_layout(model, len(counts), counts)
    text = " | ".join(" ".join(stage) for stage in layout)
    assert stage_layout(model, len(counts), text) == layout
    assert [stage.count("m") for stage in layout] == counts


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "without a unit"),
        ("E m | | m L", "without a unit"),
        ("E m*0 | L", "or none"),
        ("E m* | L", "without a number"),
        ("E m*x", "unknown text"),
        ("(E m", "without its"),
        ("E m)", "without its"),
        ("E (m)*2", "inside a stage"),
        ("m*99999999999999999999", "more than"),
        ("((((m*9999)*999)*999)*999)*999", "more than"),
    ],
)  # fmt: skip
def test_bad_text_is_refused(text: str, problem: str) -> None:
    with pytest.raises(LayoutError, match=problem):
        parse_layout(text)


@pytest.mark.parametrize(
    "layout",
    [
        "d*3 m | (m*4)*14 | m mtp L",  # no embedding
        "E d*3 m | (m*4)*14 | m L",  # no MTP module
        "E m d*3 | (m*4)*14 | m mtp L",  # another order
        "E d*3 m*2 | (m*4)*14 | m mtp L",  # one layer too many
        "E d*3 m | (m*4)*13 | m*5 mtp L",  # 15 stages
        "E d*3 m | (m*4)*14 m | mtp L",  # text, and a stage without a layer
        (4,) * 16,
        (61,),
        (*(4,) * 14, 0, 5),
    ],
)  # fmt: skip
def test_layout_of_another_model_is_refused(layout: str | tuple[int, ...]) -> None:
    with pytest.raises(LayoutError):
        stage_layout(load_model("deepseek-v3"), 16, layout)
