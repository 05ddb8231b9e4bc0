"""What is said about memory holds: verdicts, keys that act on a tensor, and what variants change."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from simulator import load_scenario
from simulator.report.figures.memory import variants_alt, variants_figure
from simulator.report.frames.memory import tensors_shown, variants_shown
from simulator.report.memory_words import KEYS, advice, headline, keys_of, short_keys, verdict_sentence, why_not
from simulator.results.memory_variants import MemoryVariants
from simulator.results.run_result import from_json
from simulator.results.step_memory import Memory
from simulator.step.graph import order_of_actions
from simulator.step.memory import rank_memories
from simulator.step.memory_variants import memory_variants
from simulator.step.prepared import count, memory_question

RESULT = from_json((Path(__file__).parents[1] / "results" / "data" / "made_up_run.json").read_text())
MEMORY = RESULT.memory


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
def sizes(*sets: str) -> dict[str, int]:
    """The largest size of each tensor on any rank of a small plan in which every kind of parallelism acts."""
    scenario = load_scenario("mixtral-8x22b", sets)
    ranks = rank_memories(memory_question(count(scenario)), order_of_actions(scenario))
    return {
        name: max(rank.tensors.get(name, 0) for rank in ranks) for name in {n for rank in ranks for n in rank.tensors}
    }


OTHER_VALUES = {
    "parallel.ep": ["parallel.ep=4"],
    "parallel.pp": ["parallel.pp=28"],
    "parallel.tp": ["parallel.tp=2", "parallel.ep=4", "parallel.sequence_parallel=true"],
    "parallel.cp": ["parallel.cp=2"],
    "parallel.zero_stage": ["parallel.zero_stage=3"],
    "offload.optimizer": ["offload.optimizer=0.5"],
    "parallel.comm_sms": ["parallel.comm_sms=24"],
    "moe.dispatcher": ["moe.dispatcher=alltoall"],
    "parallel.schedule": ["parallel.schedule=dualpipe"],
    "training.micro_batch_size": ["training.micro_batch_size=2"],
    "training.optimizer": ["training.optimizer=adamw-bf16"],
    "data_parallel.grad_reduce.dtype": ["data_parallel.grad_reduce.dtype=bf16"],
    "cluster.num_gpus": ["cluster.num_gpus=448", "training.global_batch_size=2048"],
    "precision.recipe": ["precision.recipe=fp8-blockwise"],
    "offload.activations": ["offload.activations=0.5"],
    "offload.activation_layers": ["offload.activations=1", "offload.activation_layers=1"],
    "host.cuda_graph": ["host.cuda_graph=[attn]"],
    "recompute": ["recompute=full"],
    "recompute.saved.attn_out": ["recompute.saved.attn_out=e5m6"],
}
"""Another value of each key that a tensor is said to follow, with what makes it legal there."""
CLAIMS = sorted({(start, key) for start, keys in KEYS for key in keys if start and start != "head."})
"""A head's tensors are at no rank's peak here."""


@pytest.mark.parametrize(("start", "key"), CLAIMS)
def test_a_key_that_is_said_to_act_on_tensors_does(start: str, key: str) -> None:
    other = ["parallel.zero_stage=0"] if (start, key) == ("optimizer.", "parallel.zero_stage") else OTHER_VALUES[key]
    before, after = sizes(), sizes(*other)
    names = {name for name in {*before, *after} if name.startswith(start)}
    assert names
    assert [before.get(name, 0) for name in sorted(names)] != [after.get(name, 0) for name in sorted(names)]


def test_every_tensor_finds_its_keys() -> None:
    assert keys_of("attn.out") != keys_of("attn.input") == keys_of("made_up.name")
    assert keys_of("buffers.context") == ()


def test_advice_names_large_tensors_and_the_changes_that_help() -> None:
    lines = advice(MEMORY, variants())
    assert lines[0].startswith("routed experts' input, 15.2 GB (22.9 %): recompute, ")
    assert "recompute: full: 39.4 GB less, then fits (recompute=full)" in lines
    assert len(advice(MEMORY)) == 3


def test_tables_say_every_variant_and_its_price() -> None:
    times = {(): 10.0, ("recompute=full",): 13.0}
    frame = variants_shown(variants(), "recompute", times)
    assert list(frame["recompute"]) == [
        "none",
        "as it is: rmsnorm, swiglu",
        "attention too",
        "moe too",
        "experts too",
        "full",
    ]
    full = frame.iloc[-1]
    assert (full["step"], full["step against as it is"], full["changes"]) == ("13.0 s", "+30.0 %", "recompute=full")
    assert full["against as it is"] == "-65.0 %"
    assert frame.iloc[0]["step"] == ""
    plain = variants_shown(variants(), "schedule")
    assert "step" not in plain.columns
    assert list(plain["fits?"]).count("cannot be") == len(why_not(variants())) == 2
    assert all("next valid" in each for each in why_not(variants()))
    tensors = tensors_shown(MEMORY, 2)
    assert list(tensors.iloc[0])[:4] == ["routed experts' input", "activations", "15.2 GB", "22.9 %"]


def test_the_chart_of_variants_has_a_bar_for_each_that_can_be() -> None:
    figure = variants_figure(MEMORY, variants(), "dark")
    can_be = [each for each in variants().variants if each.memory is not None]
    assert len(figure.data[0].y) == len(can_be) == variants_alt(variants()).count(" GB, ")
    lines = {shape.x0 for shape in figure.layout.shapes}
    assert lines == {MEMORY.capacity_bytes / 1e9, MEMORY.usable_bytes / 1e9}
    for text, each in zip(figure.data[0].text, can_be, strict=True):
        assert each.memory is not None and each.memory.verdict in text


def test_keys_of_one_section_are_told_with_the_section_once() -> None:
    assert short_keys(("recompute", "a.b.c", "parallel.ep", "parallel.pp")) == "recompute, a.b.c, parallel.{ep, pp}"
    assert short_keys(("recompute", "recompute.saved.attn_out")) == "recompute, recompute.saved.attn_out"
    assert short_keys(()) == ""
