"""What contradicts context parallelism is told once, with a way out."""

from __future__ import annotations

from typing import Any

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario import derived
from tests.laws.runs import changed
from tests.laws.test_tensor_parallel import DENSE
from tests.scenario.test_sharing_rules import MOE

GQA = {"kind": "gqa", "num_heads": 32, "num_kv_heads": 8, "head_dim": 128}


@pytest.mark.parametrize(
    ("sections", "field", "says"),
    [
        ({"parallel": {"cp": 4}}, "cluster.num_gpus", "16 GPUs do not divide by tp 4 * cp 4 * pp 2 = 32"),
        ({"training": {"seq_len": 4098}}, "training.seq_len", "do not divide into the 2 * cp = 4 chunks of parallel.cp 2"),
        ({"training": {"seq_len": 4100}}, "training.seq_len", "do not divide over cp 2 * tp 4, as sequence_parallel does"),
        (
            {"parallel": {"cp": 16, "cp_comm": "a2a"}, "cluster": {"num_gpus": 128}, "training": {"global_batch_size": 64}},
            "parallel.cp", "16 with cp_comm a2a, but a GPU has 8 heads and 2 of keys (tp 4); allowed 1, 2, 4, 8, or cp_comm:",
        ),
        (
            {"model": {"attention": {**GQA, "window": 1024}}}, "parallel.cp_comm",
            "ring with a window of 1024 tokens: most hops would bring keys that nobody attends to; use cp_comm: all_gather",
        ),
        (
            {"model": {"attention": {**GQA, "sinks": True}}, "parallel": {"cp_comm": "all_gather"}}, "parallel.cp_comm",
            "use cp_comm: a2a",
        ),
        (
            {
                "model": {"attention": {**GQA, "sinks": True}}, "parallel": {"cp": 16, "cp_comm": "a2a"},
                "cluster": {"num_gpus": 128}, "training": {"global_batch_size": 64},
            },
            "parallel.cp", "2 of keys (tp 4); allowed 1, 2, 4, 8 - end",
        ),
        (
            {
                "model": {"attention": {**GQA, "window": 1024}}, "parallel": {"cp": 16, "cp_comm": "a2a"},
                "cluster": {"num_gpus": 128}, "training": {"global_batch_size": 64},
            },
            "parallel.cp", "allowed 1, 2, 4, 8, or cp_comm: all_gather - end",
        ),
        (
            {
                "kernels": {"attention": "unfused"}, "cluster": {"node": "a100-x8"}, "stack": "a100-transfer",
                "recompute": {"granularity": "full", "modules": []},
            },
            "kernels.attention", "use another library, or cp: 1",
        ),
        ({"training": {"global_batch_size": 33}, "parallel": {"tp": 2}}, "training.global_batch_size", "by dp 2 *"),
        (
            {"data_parallel": {"hsdp_group": 3}, "parallel": {"tp": 1, "sequence_parallel": False}},
            "data_parallel.hsdp_group", "3 does not divide dp * cp = 8",
        ),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_with_a_way_out(sections: dict[str, Any], field: str, says: str) -> None:
    base = changed(DENSE, parallel={"cp": 2})
    with pytest.raises(InputError) as caught:
        load_scenario(changed(base, **sections))
    (problem,) = caught.value.problems
    assert (problem.field, says in f"{problem.message} - end") == (field, True), problem


@pytest.mark.parametrize(
    ("parallel", "says"),
    [
        ({"cp_comm": "a2a"}, "has no meaning with cp 1"),
        ({"cp_kv": "latent"}, "latent has no meaning with cp 1"),
        ({"cp": 2, "cp_kv": "latent"}, "it has no latent"),
    ],
)
def test_keys_without_a_meaning_are_told(parallel: dict[str, Any], says: str) -> None:
    scenario = load_scenario(changed(DENSE, parallel=parallel))
    assert any(says in str(warning) for warning in scenario.warnings)


def test_latents_of_whole_sequences_are_told_too() -> None:
    told = [
        [text for text in load_scenario(MOE, options).warnings if "cp_kv" in text]
        for options in (["parallel.cp_kv=latent"], ["parallel.cp_kv=latent", "parallel.cp=2"])
    ]
    assert "latent has no meaning with cp 1: nothing is sent" in told[0][0] and not told[1]


def test_chunks_of_logits_are_of_a_rank_s_tokens() -> None:
    options = ["training.seq_len=8192", "head.chunk_tokens=16", "parallel.tp=1", "parallel.sequence_parallel=false"]
    document = changed(DENSE, parallel={"cp": 2})
    assert load_scenario(document, options).head.chunk_tokens == 16
    with pytest.raises(
        InputError, match="15 are 274 chunks of the 4,096 tokens of a GPU's micro-batch; allowed at least 16"
    ):
        load_scenario(document, [*options, "head.chunk_tokens=15"])


def test_cp_divides_the_data_parallel_ranks_and_adds_to_the_experts() -> None:
    """8 GPUs a stage: tp 2 * cp 2 leaves dp 2, and an expert group may span all of them."""
    moe = changed(
        DENSE, parallel={"tp": 2, "cp": 2, "ep": 8},
        model={
            "moe": {"num_routed_experts": 16, "num_shared_experts": 0, "top_k": 2, "expert_intermediate_size": 2048},
            "num_dense_layers": 1,
        },
    )  # fmt: skip
    scenario = load_scenario(moe)
    assert scenario.parallel.ep == 8
    assert derived.sharing_tokens(scenario) == 4, "tp * cp with sequence parallelism"
    assert derived.expert_group_sequences(scenario) == (2, scenario.training.seq_len), (
        "of the 8 GPUs of an expert group"
    )
    half = load_scenario(changed(moe, parallel={"ep": 2}))
    assert derived.expert_group_sequences(half) == (1, half.training.seq_len // 2)
    with pytest.raises(InputError, match=r"ep 16 does not divide dp \* tp \* cp = 8"):
        load_scenario(changed(moe, parallel={"ep": 16}))
