"""Megatron-LM with a ring of keys and values on 8 B200: memory of four published runs, and what cp in place of tp costs.

MooreThreads/SimuMax docs/b200/b200_release_v1.2_summary.json (4dcaae5): Llama-3-70B cut to 12 layers, Megatron-LM 23e00ed,
TE 2.11, BF16, 4 micro-batches of one sequence, no recompute; allocated GiB. Nothing is fitted on that machine.
"""

from __future__ import annotations

from functools import cache

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.run_result import RunResult

GIB = 1 << 30
RUNS = (
    (2, 4, 32_768, 68.43, 1.7580),
    (1, 8, 32_768, 104.51, 1.7681),
    (2, 4, 131_072, 112.67, 11.3157),
    (1, 8, 131_072, 147.99, 11.3019),
)
"""(tp, cp, tokens of a sequence, GiB, seconds of a step)."""


@cache
def run(tp: int, cp: int, seq_len: int) -> RunResult:
    options = [
        "draws=1", "phases=[{name: p, steps: 10}]", "model.num_layers=12", "model.num_dense_layers=12", "cluster.node=b200-x8",
        "cluster.num_gpus=8", f"parallel.tp={tp}", f"parallel.sequence_parallel={str(tp > 1).lower()}", "parallel.pp=1",
        "parallel.vpp=1", "parallel.schedule=1f1b", f"parallel.cp={cp}", f"training.seq_len={seq_len}",
        "training.global_batch_size=4", "recompute={granularity: none, modules: []}", "kernels.autograd=transformer_engine",
        "kernels.attention=cudnn", "data_parallel.grad_reduce.overlap=false",
    ]  # fmt: skip
    return simulate_run(load_scenario("llama-3.1-70b", options))


@pytest.mark.parametrize(("tp", "cp", "seq_len", "gib", "_"), RUNS)
def test_memory_of_a_ring(tp: int, cp: int, seq_len: int, gib: float, _: float) -> None:
    """Without the libraries' own, which is no allocation of the framework."""
    (stage,) = run(tp, cp, seq_len).memory.by_stage
    assert (stage.peak_bytes - stage.buffers_bytes) / GIB == pytest.approx(gib, rel=0.05)


@pytest.mark.parametrize("seq_len", [32_768, 131_072])
def test_context_parallelism_in_place_of_tensor_parallelism_costs_what_it_did(seq_len: int) -> None:
    measured = {(tp, cp): seconds for tp, cp, length, _, seconds in RUNS if length == seq_len}
    ratio = run(1, 8, seq_len).step.step_s / run(2, 4, seq_len).step.step_s
    assert ratio == pytest.approx(measured[1, 8] / measured[2, 4], rel=0.04)
