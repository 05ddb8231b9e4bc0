"""Public sizing questions with a known answer: what somebody trains on so many GPUs fits there, and what arithmetic forbids
does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import validation
from hwprofiles.yaml_file import read_yaml
from simulator import load_scenario
from simulator.run.planner import fits_any
from simulator.run.planner.asked import load_to_plan
from simulator.run.planner.candidates import Candidates
from simulator.run.planner.cluster_sizes import smallest_that_fits
from simulator.run.planner.sizes import resized
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario
from simulator.step.graph import order_of_actions
from simulator.step.memory import step_memory
from simulator.step.prepared import memory_question, prepare

FILE = Path(validation.__file__).parent / "data" / "sizing_questions.yaml"
QUESTIONS: list[Mapping[str, Any]] = read_yaml(FILE).data["questions"]
RUN = [each for each in QUESTIONS if "works_on" in each]
QUICK = ("llama-405b-on-128",)
FORBIDDEN = [each for each in QUESTIONS if "below" in each]


def name_of(question: Mapping[str, Any]) -> str:
    return str(question["id"])


def marked(question: Mapping[str, Any]) -> Any:
    """Sizes of large models are found by many tries."""
    is_slow = max(question.get("works_on", 0), question.get("below", 0)) > 128
    return pytest.param(question, marks=pytest.mark.slow if is_slow else ())


def scenario_of(question: Mapping[str, Any], *, layout: bool = False) -> Scenario:
    stated = question["layout"] if layout else {}
    return load_to_plan({"schema_version": 1, **question["scenario"], **stated})[0]


def test_there_are_ten_and_each_names_its_source() -> None:
    assert len(QUESTIONS) >= 10
    assert all(each["source"] and each["question"].endswith("?") for each in QUESTIONS)
    assert all("because" in each for each in FORBIDDEN)


@cache
def smallest(name: str) -> int | None:
    scenario = scenario_of(next(each for each in QUESTIONS if each["id"] == name))
    return smallest_that_fits(lambda size: fits_any(resized(scenario, size)), node_of(scenario).gpus_per_node)


@pytest.mark.parametrize("question", RUN, ids=name_of)
def test_what_is_trained_on_so_many_gpus_fits_there(question: Mapping[str, Any]) -> None:
    assert fits_any(resized(scenario_of(question), question["works_on"]))


@pytest.mark.parametrize(
    "question", [pytest.param(each, marks=() if each["id"] in QUICK else pytest.mark.slow) for each in RUN], ids=name_of
)
def test_the_published_layout_is_not_refused(question: Mapping[str, Any]) -> None:
    """It runs, so a verdict that it cannot would be wrong; within the margins it may be told as marginal."""
    scenario = scenario_of(question, layout=True)
    memory = step_memory(memory_question(prepare(scenario)), order_of_actions(scenario, None, None))
    assert memory.verdict != "does not fit"


@pytest.mark.parametrize("question", [marked(each) for each in FORBIDDEN], ids=name_of)
def test_what_arithmetic_forbids_does_not_fit(question: Mapping[str, Any]) -> None:
    found = smallest(question["id"])
    assert found is not None and found >= question["below"]


@pytest.mark.parametrize("question", [marked(each) for each in RUN], ids=name_of)
def test_the_smallest_cluster_is_at_most_the_one_that_is_known_to_work(question: Mapping[str, Any]) -> None:
    found = smallest(question["id"])
    assert found is not None and found <= question["works_on"]


def of_docs() -> Mapping[str, list[str]]:
    """Rows of the table in docs/plan.md, by question."""
    lines = (FILE.parents[2] / "docs" / "plan.md").read_text(encoding="utf-8").splitlines()
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| "))
    return {row[0]: row[1:] for row in rows if row[0] in {name_of(each) for each in QUESTIONS}}


@pytest.mark.parametrize("question", [marked(each) for each in QUESTIONS], ids=name_of)
def test_the_page_has_the_answers(question: Mapping[str, Any]) -> None:
    told = [str(question.get(key, "")) for key in ("works_on", "below")]
    assert of_docs()[question["id"]] == [*told, str(smallest(question["id"]))]


QWEN3 = {
    "schema_version": 1, "model": "qwen3-235b-a22b", "cluster": {"node": "h100-x8", "num_gpus": 64},
    "training": {"seq_len": 4096, "global_batch_size": 64},
}  # fmt: skip
"""Sequences of 4,096 tokens, twice those of the recipe."""


@pytest.mark.parametrize(("recompute", "fits"), [("none", False), ("full", True)])
def test_the_recipes_layout_of_qwen3_235b_fits_64_gpus_with_full_recompute_alone(recompute: str, fits: bool) -> None:
    parallel = {"tp": 4, "sequence_parallel": True, "pp": 16, "ep": 4, "etp": 1, "zero_stage": 1}
    scenario = load_scenario({**QWEN3, "parallel": parallel, "recompute": recompute})
    memory = step_memory(memory_question(prepare(scenario)), order_of_actions(scenario, None, None))
    assert memory.fits == fits
    assert (memory.verdict == "does not fit") == (not fits)


@pytest.mark.slow
def test_qwen3_235b_fits_64_gpus_with_full_recompute_or_tensor_parallelism_and_with_neither_in_no_layout() -> None:
    """FSDP among them; a GPU has whole sequences, as context parallelism is searched for beyond 4,096 tokens alone."""
    candidates = Candidates(load_to_plan(QWEN3)[0])
    names = [recompute.granularity for recompute in candidates.space.recomputes]
    fitting = [layout for layout, margin in candidates.feasible(every=True) if margin >= 0]
    assert {layout.zero_stage for layout in fitting} == {0, 1, 2, 3}
    assert all(layout.tp > 1 or names[layout.recompute] == "full" for layout in fitting)
    assert any(layout.tp > 1 and names[layout.recompute] != "full" for layout in fitting)
    assert any(layout.tp == 1 for layout in fitting)
