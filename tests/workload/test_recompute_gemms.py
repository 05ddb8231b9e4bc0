"""Every second GEMM computed again, as torch's selective checkpoint of operators does it."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.step.step import simulate_step
from simulator.workload.counted import count_workload
from simulator.workload.op import Op

GIVEN = (
    "llama-3.1-70b", "cluster.num_gpus=8", "parallel.pp=1", "model.num_layers=2", "model.num_dense_layers=2", "draws=1",
    "training.global_batch_size=64", "training.seq_len=1024",
)  # fmt: skip
HIDDEN, FFN, KEYS, TOKENS = 8192, 28672, 8 * 128, 1024


def ops(modules: str, *options: str) -> list[Op]:
    plan = load_scenario(
        GIVEN[0], [*GIVEN[1:], f"recompute={{granularity: selective, modules: [{modules}]}}", *options]
    )
    return [op for unit in count_workload(plan, 1, None).stages[0].units if unit.kind == "dense" for op in unit.ops()]


def test_keys_output_and_up_projection_are_computed_again_and_are_no_work_of_the_model() -> None:
    plain, again = ops("rmsnorm, swiglu"), ops("rmsnorm, swiglu, gemms")
    gemms = [sum(op.flop for op in each if op.shape.op == "gemm") for each in (plain, again)]
    layers = 2
    assert gemms[1] - gemms[0] == layers * 2 * TOKENS * HIDDEN * (KEYS + HIDDEN + FFN)
    assert sum(op.model_flop for op in again) == sum(op.model_flop for op in plain)
    assert {op.name for op in again} - {op.name for op in plain} == {
        "k_recompute", "q_rope_recompute", "k_rope_recompute", "o_recompute", "attn_residual_recompute",
        "ffn_gate_or_up_recompute",
    }  # fmt: skip


def test_a_reduced_output_is_kept_with_tensor_parallelism() -> None:
    names = {op.name for op in ops("gemms", "parallel.tp=2")}
    assert "o_recompute" not in names
    assert "k_recompute" in names


def test_memory_and_time_lie_between_norms_alone_and_whole_layers() -> None:
    def answer(recompute: str) -> tuple[float, int]:
        result = simulate_step(load_scenario(GIVEN[0], [*GIVEN[1:], f"recompute={recompute}"]))
        return result.step.step_s, result.memory.by_stage[0].activations_bytes

    norms, gemms, full = (
        answer(text)
        for text in (
            "{granularity: selective, modules: [rmsnorm, swiglu]}",
            "{granularity: selective, modules: [rmsnorm, swiglu, gemms]}",
            "{granularity: full, modules: []}",
        )
    )
    assert norms[0] < gemms[0] < full[0]
    assert norms[1] > gemms[1] > full[1]


@pytest.mark.parametrize("preset", ["mixtral-8x22b", "deepseek-v3"])
def test_other_models_are_refused(preset: str) -> None:
    with pytest.raises(InputError, match=r"recompute\.modules: not modelled yet \(gemms in a model with experts"):
        load_scenario(preset, ["recompute={granularity: selective, modules: [gemms]}"])
