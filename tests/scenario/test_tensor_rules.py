"""What is cut over tp and etp must divide: each contradiction is told with a way out."""

from __future__ import annotations

from typing import Any

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from tests.laws.runs import changed
from tests.laws.test_tensor_parallel import DENSE, MOE


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"parallel": {"tp": 3}, "cluster": {"num_gpus": 24}}, "tp 3 does not divide num_heads 32; allowed 1, 2, 4, 8, 16, 32"),
        ({"parallel": {"tp": 4}, "cluster": {"num_gpus": 12}}, "do not divide by tp 4 * pp 2 = 8"),
        ({"model": {"dense_ffn": {"intermediate_size": 14_334}}}, "tp 4 does not divide dense_ffn.intermediate_size 14334"),
        ({"training": {"seq_len": 4098}}, "4098 tokens do not divide over tp 4"),
        ({"parallel": {"sequence_parallel": False, "overlap": {"tp": "chunked"}}}, "write sequence_parallel: true"),
        ({"precision": {"recipe": "fp8-blockwise"}, "model": {"dense_ffn": {"intermediate_size": 1280}}}, "leaves 320 of"),
        (
            {"model": {"attention": {"kind": "gqa", "num_heads": 24, "num_kv_heads": 3, "head_dim": 128}}},
            "tp 4 neither divides num_kv_heads 3 nor is a multiple of it",
        ),
        ({"training": {"global_batch_size": 33}}, "33 sequences do not divide by dp 2 * micro_batch_size 1"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_with_a_way_out(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(changed(DENSE, **sections))
    assert any(says in problem.message for problem in caught.value.problems), caught.value


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"parallel": {"sequence_parallel": False}}, "write sequence_parallel: true (as Megatron-LM requires), or tp: 1"),
        ({"parallel": {"etp": 3}, "cluster": {"num_gpus": 48}}, "etp 3 does not divide moe.expert_intermediate_size 2048"),
        ({"parallel": {"etp": 4}}, "ep * etp 4 * 4 = 16 does not divide dp * tp = 8"),
    ],
)  # fmt: skip
def test_what_experts_cannot_do_is_refused_with_a_way_out(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(changed(MOE, **sections))
    assert any(says in problem.message for problem in caught.value.problems), caught.value


@pytest.mark.parametrize("key", ["parallel.sequence_parallel", "parallel.overlap.tp"])
def test_what_has_no_meaning_without_tp_is_told(key: str) -> None:
    options = {"sequence_parallel": True} if key.endswith("sequence_parallel") else {"overlap": {"tp": "chunked"}}
    plain = {"tp": 1, "sequence_parallel": False, **options}
    scenario = load_scenario(changed(DENSE, parallel=plain))
    assert any(line.startswith(f"{key}: ") and "has no meaning with tp 1" in line for line in scenario.warnings)


def test_degrees_that_are_offered_cut_heads_and_widths() -> None:
    """Of 64 heads and a width of 28672 = 2^12 * 7, what divides both; not 7, which the width alone would allow."""
    with pytest.raises(InputError) as caught:
        load_scenario("llama-3.1-70b", ["parallel.tp=3", "parallel.pp=1", "cluster.num_gpus=192"])
    told = [problem.message for problem in caught.value.problems if "does not divide" in problem.message]
    assert len(told) == 2
    assert all(text.endswith("allowed 1, 2, 4, 8, 16, 32, 64") for text in told)
