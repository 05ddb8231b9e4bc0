"""A run with phases of all kinds: one document that holds together, whose totals are the phases'."""

from __future__ import annotations

import math

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.consistency import consistency_problems
from simulator.results.document import to_json
from simulator.results.run_result import RunResult, from_json
from tests.scenario.test_phases import small

PHASES = (
    {"name": "sft", "kind": "sft", "samples": 1e5, "evaluation": {"tokens": 1e7}},
    {"name": "rl", "kind": "rl", "steps": 200},
    {"name": "bench", "kind": "evaluation", "tokens": 1e8},
)


@pytest.fixture(scope="module")
def result() -> RunResult:
    return simulate_run(load_scenario({**small(*PHASES), "draws": 1, "prices": {"usd_per_gpu_hour": 2}}))


def test_phases_are_their_parts_and_totals_are_their_sums(result: RunResult) -> None:
    assert [each.kind for each in result.phases] == ["pretrain", "sft", "rl", "evaluation"]
    for phase in result.phases[1:]:
        assert phase.parts is not None
        assert phase.gpu_hours == pytest.approx(math.fsum(part.gpu_hours.value for part in phase.parts))
        assert phase.wall_s == pytest.approx(phase.gpu_hours * 3600 / 64)
    assert result.phases[0].parts is None
    assert result.totals.gpu_hours.value == pytest.approx(math.fsum(each.gpu_hours for each in result.phases))
    assert not list(consistency_problems(result))
    assert from_json(to_json(result)) == result


def test_a_document_whose_parts_are_not_its_hours_is_no_result(result: RunResult) -> None:
    first, sft, *others = result.phases
    assert sft.parts is not None
    shorter = sft.model_copy(update={"parts": sft.parts[:1]})
    found = dict(consistency_problems(result.model_copy(update={"phases": (first, shorter, *others)})))
    assert "but its parts have" in found["phases.1.gpu_hours"]


def test_what_kinds_assume_and_leave_out_is_told(result: RunResult) -> None:
    told = {row.key: row.effect_on_gpu_hours for row in result.assumptions}
    for key in ("sft_sample_tokens", "rl_response_tokens", "forward_share"):
        assert told[key] is not None and told[key].low < 0.0 < told[key].high  # type: ignore[union-attr]
    assert any("reinforcement learning" in line for line in result.not_modelled)
