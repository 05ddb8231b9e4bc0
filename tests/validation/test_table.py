"""The table of a validation: every figure beside its stack and its quantity, at every width."""

import io

import pytest

from validation.case import load_case
from validation.compare import Row
from validation.table import _value, case_table, print_table

CASE = load_case("deepseek-v3")
FIGURES = {"step.step_s": (20.0, 19.0, 21.0), "step.mfu.bf16_dense_causal": (0.4, 0.41, 0.38)}
"""Quantity → published, predicted by one stack, by the other."""


def made_up() -> list[Row]:
    return [
        Row(CASE.case_id, stack, CASE.group, quantity, "edge", predicted, predicted, predicted, published, "x")
        for place, stack in enumerate(("one-stack", "the-other-stack"))
        for quantity, (published, *found) in FIGURES.items()
        for predicted in [found[place]]
    ]


def shown(columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = io.StringIO()
    print_table(CASE, made_up(), out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    return [" ".join(line.split()) for line in lines]


def test_wide_the_stacks_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(120, monkeypatch)
    assert "quantity published one-stack error the-other-stack error" in lines
    assert "step.step_s 20.000 s 19.000 s -5.0 % 21.000 s +5.0 %" in lines
    assert "step.mfu.bf16_dense_causal 40.0 % 41.0 % +2.5 % 38.0 % -5.0 %" in lines


def test_counts_are_written_out() -> None:
    """671 billion parameters with all their digits: a wrong one is seen."""
    assert _value(671_026_419_200.0, "model.num_parameters") == "671,026,419,200"
    assert _value(2_555_123.0, "steady_state.gpu_hours") == "2,555,123"
    assert _value(1510.4, "step.tokens_per_s_per_gpu") == "1,510"


def test_narrow_each_stack_has_a_line_under_the_quantity(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(60, monkeypatch)
    place = lines.index("step.step_s")
    assert lines[place - 1] == "published predicted error"
    assert lines[place + 1 : place + 3] == [
        "one-stack 20.000 s 19.000 s -5.0 %",
        "the-other-stack 20.000 s 21.000 s +5.0 %",
    ]


def test_the_same_table_in_one_piece() -> None:
    table = case_table(CASE, made_up())
    assert table.headers == ("quantity", "published", "one-stack", "error", "the-other-stack", "error")
    assert ("step.step_s", "20.000 s", "19.000 s", "-5.0 %", "21.000 s", "+5.0 %") in table.rows
