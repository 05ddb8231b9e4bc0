"""What is said about memory holds: verdicts, keys that act on a tensor, and what variants change."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.report.figures.memory import variants_alt, variants_figure
from simulator.report.frames.memory import tensors_shown, variants_shown
from simulator.report.memory_words import KEYS, advice, headline, keys_of, verdict_sentence, why_not
from simulator.results.memory_variants import MemoryVariants
from simulator.results.run_result import from_json
from simulator.results.step_result import Memory
from simulator.step.graph import order_of_actions
from simulator.step.memory import rank_memories
from simulator.step.memory_variants import memory_variants
from simulator.step.prepared import count, memory_question

RESULT = from_json((Path(__file__).parents[1] / "results" / "data" / "made_up_run.json").read_text())
MEMORY = RESULT.memory
PRESETS = ("deepseek-v3", "mixtral-8x22b", "llama-3.1-70b")


@cache
def variants() -> MemoryVariants:
    return memory_variants(load_scenario("mixtral-8x22b", ["draws=1"]))


def tight(bytes_usable: int) -> Memory:
    return Memory.of(bytes_usable + 1, bytes_usable, MEMORY.by_stage, MEMORY.margin)


def test_the_headline_is_the_document_in_few_words() -> None:
    texts = {each.label: each.text for each in headline(MEMORY)}
    assert texts == {
        "Does it fit?": "fits",
        "Peak of the fullest rank": "66.5 GB",
        "Usable memory to spare": "12.5 GB",
        "With its margin at most": "83.1 GB",
    }
    sentence = verdict_sentence(MEMORY)
    for part in ("Fits: pipeline rank 2", "66.5 GB of 79.0 GB", "12.5 GB (15.8 %) to spare", "65.8 GB to 83.1 GB"):
        assert part in sentence
    full = tight(60_000_000_000)
    assert "does not fit" in [each.text for each in headline(full)]
    assert "6.50 GB (10.8 %) too much" in verdict_sentence(full)
    assert ("More than is usable", "6.50 GB") in [each[:2] for each in headline(full)]


@cache
def sizes(preset: str, *sets: str) -> dict[str, int]:
    """The largest size of each tensor on any rank."""
    scenario = load_scenario(preset, sets)
    ranks = rank_memories(memory_question(count(scenario)), order_of_actions(scenario))
    return {
        name: max(rank.tensors.get(name, 0) for rank in ranks) for name in {n for rank in ranks for n in rank.tensors}
    }


CLAIMS = sorted({(start, key) for start, keys in KEYS for key in keys if "=" in key and start})


@pytest.mark.parametrize(("start", "claim"), CLAIMS)
def test_a_key_that_is_said_to_make_tensors_smaller_does(start: str, claim: str) -> None:
    """In every preset that takes it and has not got it yet: the sum of these tensors falls, and does so somewhere."""
    falls = []
    for preset in PRESETS:
        document = load_scenario(preset).canonical()
        before = {name: size for name, size in sizes(preset).items() if name.startswith(start)}
        if not before or claim not in keys_of(next(iter(before)), document):
            continue
        try:
            after = sizes(preset, claim)
        except InputError:
            continue
        own = sum(after.get(name, 0) for name in {*before, *(n for n in after if n.startswith(start))})
        falls.append((preset, own - sum(before.values())))
    assert all(change <= 0 for _, change in falls), falls
    if claim != "parallel.zero_stage=1":  # what every preset has
        assert any(change < 0 for _, change in falls), falls


def test_keys_exist_and_what_is_set_is_left_out() -> None:
    document = load_scenario("deepseek-v3").canonical()
    for start, keys in KEYS:
        assert all(keys_of(start or "made_up", document)) or not keys
    assert "precision.recipe=fp8-blockwise" not in keys_of("expert.swiglu_in", document)
    assert "precision.recipe=fp8-blockwise" in keys_of("expert.swiglu_in", load_scenario("mixtral-8x22b").canonical())
    full = load_scenario("mixtral-8x22b", ["recompute=full"]).canonical()
    assert "recompute=full" not in keys_of("attn.input", full)


def test_advice_names_large_tensors_and_the_changes_that_help() -> None:
    document = load_scenario("mixtral-8x22b").canonical()
    lines = advice(MEMORY, document, variants())
    assert lines[0].startswith("routed experts' input, 15.2 GB (22.9 %): recompute=full")
    assert "recompute: full: 39.4 GB less, then fits (recompute=full)" in lines
    assert len(advice(MEMORY, document)) == 3


def test_tables_say_every_variant_and_its_price() -> None:
    times = {(): 10.0, ("recompute=full",): 13.0}
    frame = variants_shown(variants(), "recompute", times)
    assert list(frame["recompute"]) == ["none", "rmsnorm, swiglu (as it is)", "and attention", "and moe", "full"]
    full = frame.iloc[-1]
    assert (full["step"], full["step against as it is"], full["changes"]) == ("13.0 s", "+30.0 %", "recompute=full")
    assert frame.iloc[0]["step"] == ""
    plain = variants_shown(variants(), "schedule")
    assert "step" not in plain.columns
    assert list(plain["fits?"]).count("cannot be") == len(why_not(variants())) == 1
    assert "next valid" in why_not(variants())[0]
    tensors = tensors_shown(MEMORY, 2, load_scenario("mixtral-8x22b").canonical())
    assert list(tensors.iloc[0])[:4] == ["routed experts' input", "activations", "15.2 GB", "22.9 %"]


def test_the_chart_of_variants_has_a_bar_for_each_that_can_be() -> None:
    figure = variants_figure(MEMORY, variants(), "dark")
    can_be = [each for each in variants().variants if each.memory is not None]
    assert len(figure.data[0].y) == len(can_be) == variants_alt(variants()).count(" GB, ")
    lines = {shape.x0 for shape in figure.layout.shapes}
    assert lines == {MEMORY.capacity_bytes / 1e9, MEMORY.usable_bytes / 1e9}
    for text, each in zip(figure.data[0].text, can_be, strict=True):
        assert each.memory is not None and each.memory.verdict in text
