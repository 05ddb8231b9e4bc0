"""Dense layers anywhere: a period that repeats behind the leading ones, in layouts, parameters and refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.layer_pattern import parse_period, repeated
from simulator.scenario.layout import parse_layout, stage_layout
from simulator.scenario.model_catalog import load_model
from simulator.workload.layers.part import PARTS, WHOLE
from simulator.workload.model_counts import count_parameters

BASE = load_model("deepseek-v2-lite")
PLAN = ["model=deepseek-v2-lite", "parallel={pp: 2, ep: 8, schedule: 1f1b}", "cluster.num_gpus=16"]


@pytest.mark.parametrize(
    ("text", "period"), [("d m", "dm"), ("dm", "dm"), ("d*2 m", "ddm"), (" m * 3 d ", "mmmd"), ("m d*2 m", "mddm")]
)
def test_a_period_is_written_with_or_without_counts(text: str, period: str) -> None:
    assert parse_period(text, "dm") == period


@pytest.mark.parametrize("text", ["x", "d*0 m", "d*99999 m", "d * m", "E d", "d|m", "3"])
def test_what_is_no_pattern_says_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no pattern of d and m, such as 'd m' or 'd\*3 m'"):
        parse_period(text, "dm")


@given(st.text("dm", min_size=1, max_size=9), st.integers(0, 40))
def test_a_period_repeats_over_all_layers(period: str, count: int) -> None:
    layers = repeated(period, count)
    assert len(layers) == count
    assert all(code == period[idx % len(period)] for idx, code in enumerate(layers))


def test_layers_follow_the_leading_ones() -> None:
    """Every second of six MoE; two dense ones in front; what there was without a pattern."""
    six = BASE.model_copy(update={"num_layers": 6, "num_dense_layers": 0, "layer_pattern": "d m"})
    assert six.layers == "dmdmdm"
    assert six.model_copy(update={"num_dense_layers": 1}).layers == "ddmdmd"
    assert six.model_copy(update={"num_dense_layers": 2, "layer_pattern": None}).layers == "ddmmmm"
    assert BASE.layers == "d" + "m" * 26


def test_layouts_and_parameters_follow_the_pattern() -> None:
    """Stages by counts, and the same as text; a layer's parameters are those of its kind."""
    model = BASE.model_copy(update={"num_layers": 6, "num_dense_layers": 0, "layer_pattern": "d m"})
    assert (
        stage_layout(model, 2, None) == parse_layout("E d m d | m d m L") == stage_layout(model, 2, "E d m d | m d m L")
    )
    assert stage_layout(model, 3, [1, 3, 2]) == parse_layout("E d | m d m | d m L")
    parts = [PARTS[code].params(model, WHOLE) for code in ("E", "d", "m", "d", "m", "d", "m", "L")]
    assert count_parameters(model).num_parameters == sum(part.dense + part.expert for part in parts)


def problems(*options: str) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario("mixtral-8x22b", [*PLAN, *options])
    return str(caught.value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ('model.layer_pattern="d d"', "needs both d and m; leave it out"),
        ('model.layer_pattern="d e"', "is no pattern of d and m"),
        (
            'model.layer_pattern="d*30 m"',
            "a period of 31 layers, of which there are 26 behind num_dense_layers 1; shorten",
        ),
        ('model={layer_pattern: "d m", dense_ffn: null}', "dense_ffn: is missing; layer_pattern has d"),
        ('model={layer_pattern: "d m", moe: null}', "is given, but moe is null; give moe, or leave the pattern out"),
        (
            'model={layer_pattern: "d m", num_dense_layers: 27}',
            "layer_pattern: has a period of 2 layers, of which there are 0",
        ),
    ],
)
def test_what_no_pattern_can_be_is_refused_with_a_way_out(option: str, words: str) -> None:
    assert words in problems(option)
