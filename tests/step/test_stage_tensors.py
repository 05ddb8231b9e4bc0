"""What fills a stage's memory is told by name, and the names sum to what was simulated."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.assembly.memory_peak import RankMemory
from simulator.results.step_memory import MEMORY_KINDS, Memory
from simulator.step.graph import order_of_actions
from simulator.step.memory import SMALL_PARTS, kind_of, rank_memories, stage_tensors, step_memory
from simulator.step.prepared import memory_question, prepare


def told(preset: str) -> tuple[tuple[RankMemory, ...], Memory]:
    """The simulated memory of every rank, and what the document tells of it."""
    scenario = load_scenario(preset, ["draws=1"])
    question, order = memory_question(prepare(scenario)), order_of_actions(scenario)
    return rank_memories(question, order), step_memory(question, order)


@pytest.mark.parametrize("preset", ["deepseek-v3", "mixtral-8x22b", "llama-3.1-70b"])
def test_every_large_tensor_has_its_name_and_nothing_is_lost(preset: str) -> None:
    ranks, memory = told(preset)
    for rank, stage in zip(ranks, memory.by_stage, strict=True):
        assert stage.tensors is not None
        named = {tensor.name: tensor.bytes for tensor in stage.tensors if not tensor.name.endswith(".small")}
        large = {name: size for name, size in rank.tensors.items() if size * SMALL_PARTS >= rank.peak_bytes}
        assert named == large
        assert sum(tensor.bytes for tensor in stage.tensors) == rank.peak_bytes
        for kind in MEMORY_KINDS:
            assert sum(tensor.bytes for tensor in stage.tensors if tensor.kind == kind) == stage.bytes_of(kind)
        assert [tensor.bytes for tensor in stage.tensors] == sorted((t.bytes for t in stage.tensors), reverse=True)


def test_what_is_small_stands_together_by_kind() -> None:
    sizes = {"expert.input": 950, "weights.fp8": 40, "attn.k": 4, "attn.v": 3, "buffers.context": 3}
    rank = RankMemory(0, 40, 0, 0, 957, 3, 1000, sizes, "", 0)
    found = [(tensor.name, tensor.kind, tensor.bytes) for tensor in stage_tensors(rank)]
    assert found == [
        ("expert.input", "activations", 950),
        ("weights.fp8", "weights", 40),
        ("activations.small", "activations", 7),
        ("buffers.small", "buffers", 3),
    ]


def test_state_and_buffers_say_what_they_are() -> None:
    names = ("weights.bf16", "gradients.dense", "optimizer.master_expert", "buffers.dispatch", "weightless.x")
    assert [kind_of(name) for name in names] == ["weights", "gradients", "optimizer", "buffers", "activations"]
