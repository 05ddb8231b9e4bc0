"""Lines of a phase's hours in words: what is counted, with its figures, and what decides it."""

from __future__ import annotations

import io

from simulator import load_scenario
from simulator.report.console import print_run
from simulator.report.parts_section import WORDS, decides_words, part_lines
from simulator.results.interval import Estimate, Interval
from simulator.results.phase_parts import PhasePart
from simulator.run import kinds
from simulator.scenario.phase import Phase
from tests.report.test_console import RESULT, changed

STEP = Estimate(value=10.0, low=9.0, high=12.0)
PART = PhasePart(
    name="update", gpu_hours=Estimate(value=1430.0, low=433.0, high=19_452.0), decides="rl_steps",
    decided=Interval(low=336.0, high=8745.0), note="steps", facts={"filled_frac": 0.25, "padding_frac": 0.002},
)  # fmt: skip


def test_a_line_says_how_it_is_counted_and_what_decides_it() -> None:
    assert list(part_lines(PART)) == [
        "update: steps · batches 25.0 % full · 0.2 % padding",
        "  decided most by how many updates reinforcement learning takes (rl_steps): 336 to 8.74 K GPU-hours",
    ]
    assert decides_words("step") == "the step's own interval"


def test_nothing_is_decided_by_what_is_exact() -> None:
    exact = PART.model_copy(update={"decides": None, "decided": None, "facts": {}})
    assert list(part_lines(exact)) == ["update: steps"]


def test_the_console_has_a_table_for_each_phase_with_lines_and_none_without() -> None:
    def printed(**update: object) -> str:
        out = io.StringIO()
        phases = (RESULT.phases[0].model_copy(update={"kind": "rl", **update}),)
        print_run(changed(phases=phases), out, 100)
        return out.getvalue()

    title = "Hours of other kinds than steps"
    assert title not in printed()
    text = printed(parts=(PART,))
    assert title in text
    assert "1.43 K" in text and "433 to 19.5 K" in text


def test_every_figure_of_a_line_is_told() -> None:
    """Those that stand beside others in one text count as told."""
    beside = {
        "weight_bytes_per_gpu", "cache_bytes_per_token", "most_sequences_per_gpu", "decode_step_s", "answers", "rollouts",
        "tokens_per_s_per_gpu", "sample_tokens", "sequences", "steps", "computed_tokens", "steps_of_update", "step_s",
    }  # fmt: skip
    scenario = load_scenario("deepseek-v3")
    keys = {"samples": 1e6}
    for kind in ("sft", "rl"):
        phase = Phase.model_validate({"name": kind, "kind": kind, "evaluation": {"tokens": 1e6}, **keys})
        keys = {}
        model = kinds.kind_model(scenario, phase)
        assert model is not None
        for part in model.parts(STEP):
            assert set(part.facts) <= set(WORDS) | beside
            assert len(list(part_lines(part))) == 2
