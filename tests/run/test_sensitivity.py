"""What moves a run: its rows are what the run does, phases share their sources, the command says the same as the document."""

from __future__ import annotations

import json
from functools import cache
from io import StringIO
from math import hypot
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hwprofiles.stack_records import Assumption
from simulator import load_scenario, simulate_run
from simulator.cli.app import app
from simulator.report.narrowing import things
from simulator.report.tornado import print_tornado
from simulator.results.joint import Joint, Source, added, positions
from simulator.results.run_result import RunResult
from simulator.results.sensitivity import Sensitivity, sensitivity_of
from simulator.run.joint_run import phase_joint
from simulator.run.sensitivity import sensitivity
from tests.laws.runs import changed
from tests.laws.test_assumptions import SMALL

TWO = changed(SMALL, moe={"balance": "forced"}, device={"speed_cv": 0.0}) | {
    "phases": [{"name": "short", "steps": 1000}, {"name": "long", "steps": 100, "seq_len": 1024}],
}


@cache
def found(scene: str = "two") -> Sensitivity:
    return sensitivity(load_scenario(TWO if scene == "two" else SMALL))


@cache
def ran() -> RunResult:
    return simulate_run(load_scenario(TWO))


def test_an_effect_is_what_the_run_does_at_that_end() -> None:
    """Of two phases: the change of the sum of their hours."""
    row = next(row for row in found().rows if row.key == "lone_chunk_full_sms")
    at_low = simulate_run(load_scenario(TWO | {"assumptions": {"lone_chunk_full_sms": row.low}}))
    assert row.effect_low == pytest.approx(at_low.totals.gpu_hours.value - found().total.value, rel=1e-6)
    assert (row.low, row.value, row.high, row.effect_high) == (0.0, 1.0, 1.0, 0.0)


def test_the_total_is_that_of_the_run_and_is_as_wide_as_its_phases_together() -> None:
    result = ran()
    hours = result.totals.gpu_hours
    assert found().total == hours
    assert hours.low < hours.value < hours.high
    ends = [[getattr(phase.wall_interval, end) for phase in result.phases] for end in ("low", "high")]
    wall = result.totals.wall_s
    assert wall.high - wall.low == pytest.approx(sum(ends[1]) - sum(ends[0]), rel=0.02), "they share nearly all"
    parts = {part.what for part in result.totals.ranges or ()}
    assert parts == {row.key for row in found().rows} and result.step.ranges is not None


def test_phases_of_the_same_steps_have_the_step_s_ends() -> None:
    result = simulate_run(load_scenario(SMALL | {"phases": [{"name": "a", "steps": 10}, {"name": "b", "steps": 30}]}))
    hours, step = result.totals.gpu_hours, result.step
    assert (hours.low / hours.value, hours.high / hours.value) == pytest.approx(
        (step.interval.low / step.step_s, step.interval.high / step.step_s), rel=1e-12
    )
    assert result.totals.ranges is None


def test_hours_beside_the_steps_do_not_follow_them() -> None:
    """A phase of 30 hours of steps and 10 others that an assumption doubles or takes away."""
    step = joint_of_sources(Source("a", -0.1, 0.2, 0.0, 1.0, 2.0))
    entry = Assumption(
        key="others", value=1.0, low=0.0, high=2.0, unit="coefficient of variation", source="a test", reason="it"
    )
    found = phase_joint(step, {"others": entry}, lambda values, factor: 30.0 * factor + 10.0 * values["others"])
    assert (found["a"].low, found["a"].high) == pytest.approx((-0.075, 0.15))
    assert (found["others"].low, found["others"].high) == pytest.approx((-0.25, 0.25))
    at = np.clip(positions(0, "others"), -1.0, 1.0)
    assert found.relative == pytest.approx((30.0 * step.relative + 10.0 * (1.0 + at)) / 40.0)


def joint_of_sources(*sources: Source) -> Joint:
    return Joint(sources, added(sources, 0), 0)


def test_rows_are_in_order_and_shares_sum_to_the_whole() -> None:
    """The shares and what no source has alone are one; what moves nothing is told apart."""
    document = found()
    widths = [
        max(0.0, row.effect_low, row.effect_high) - min(0.0, row.effect_low, row.effect_high) for row in document.rows
    ]
    assert widths == sorted(widths, reverse=True)
    assert sum(row.first_order for row in document.rows) + document.interactions == pytest.approx(1.0)
    assert all(row.low <= row.value <= row.high for row in document.rows)
    assert [row.key for row in document.rows[:3]] == ["software.unknown", "kernel_gaps", "run.unrecorded"]
    assert "memory_context_bytes" in document.still
    assert {row.key for row in document.rows}.isdisjoint(document.still)
    assert document.draws >= 500
    assert all(each.sign == "longer" for each in document.not_modelled)


def test_two_sources_of_a_sum_have_the_shares_of_their_squares() -> None:
    joint = joint_of_sources(Source("a", -0.03, 0.03, 1.0, 2.0, 3.0), Source("b", 0.04, -0.04, 0.0, 1.0, 9.0))
    document = sensitivity_of(found().total, joint, ())
    assert [row.key for row in document.rows] == ["b", "a"]
    assert [row.first_order for row in document.rows] == pytest.approx([16 / 25, 9 / 25])
    assert [row.effect_low / document.total.value for row in document.rows] == pytest.approx([0.04, -0.03])
    assert joint.ends[1] - 1.0 == pytest.approx(hypot(0.03, 0.04), rel=2e-3)


def test_the_terminal_and_the_document_say_the_same(tmp_path: Any) -> None:
    file = tmp_path / "two.json"
    file.write_text(json.dumps(TWO))
    told = json.loads(CliRunner().invoke(app, ["sensitivity", str(file), "--json"]).stdout)
    assert told == found().model_dump(mode="json", exclude_none=True)
    wide = CliRunner().invoke(app, ["sensitivity", str(file)]).stdout
    first = found().rows[0]
    assert f"{100 * first.effect_low / found().total.value:.1f} %" in wide and "█" in wide
    unknown = CliRunner().invoke(app, ["sensitivity", str(file), "--set", "assumptions.host_sped=1"])
    assert unknown.exit_code != 0


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_tornado_stays_in_its_columns(width: int) -> None:
    out = StringIO()
    print_tornado(found(), out, width)
    lines = out.getvalue().splitlines()
    assert len(lines) > 10 and all(len(line) <= width for line in lines)


def test_a_run_ends_with_what_would_change_it_most() -> None:
    """The three widest sources of all phases together, each with which way and what to do."""
    said = things(ran())
    assert len(said) == 3
    for words, row in zip(said, found().rows, strict=False):
        low, high = (100 * effect / found().total.value for effect in (row.effect_low, row.effect_high))
        assert f"{low:+.1f} % at its low end" in words or abs(low) < 0.05
        assert f"{high:+.1f} % at its high end" in words or abs(high) < 0.05
        assert words.endswith(".") and "; " in words
    assert "software.unknown" in said[0] and "run.unrecorded" in said[2]
    older = ran().model_copy(
        update={
            "totals": ran().totals.model_copy(update={"ranges": None}),
            "step": ran().step.model_copy(update={"ranges": None}),
        }
    )
    assert things(older) == ()
