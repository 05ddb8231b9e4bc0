"""Everything in the catalogue runs and obeys the laws of a step: a newcomer's file is tested before it has a test."""

from __future__ import annotations

from itertools import cycle, islice

import pytest

from hwprofiles.catalog import list_names, load_gpu, load_node, measured_stacks
from hwprofiles.stack_choice import load_stack, transfer_name
from simulator.scenario.model_catalog import load_model, model_names
from simulator.schedule import SCHEDULES, next_valid_micro_batches, rank_problem
from tests.laws.runs import changed, simulate
from tests.laws.scenarios import Document
from tests.laws.test_one_step import ONE_STEP

NODES, FABRICS = list_names("nodes"), list_names("fabrics")
PP = 2
RUNNING = [name for name in SCHEDULES if rank_problem(name, PP) is None]

MODEL: Document = {
    "name": "small", "hidden_size": 1024, "num_layers": 4, "vocab_size": 8000, "num_dense_layers": 1,
    "attention": {"kind": "gqa", "num_heads": 8, "num_kv_heads": 2, "head_dim": 128},
    "dense_ffn": {"intermediate_size": 2048},
    "moe": {"num_routed_experts": 16, "top_k": 4, "expert_intermediate_size": 512, "num_shared_experts": 1},
}  # fmt: skip


def on(node: str, fabric: str, stack: str, schedule: str) -> Document:
    """Two stages of one domain each, an expert group over half a domain, FP8 where the GPU has it."""
    machine = load_node(node)
    gpus = machine.scale_up_domain_gpus
    is_fp8 = "fp8" in load_gpu(machine.gpu).peak_flop_per_s
    micro_batches = next_valid_micro_batches(schedule, PP, 4)[-1]
    return {
        "model": MODEL,
        "cluster": {"node": node, "num_gpus": PP * gpus, "fabric": fabric},
        "stack": stack,
        "parallel": {"pp": PP, "vpp": SCHEDULES[schedule].fewest_chunks, "ep": 4, "schedule": schedule},
        "training": {"seq_len": 512, "global_batch_size": gpus * micro_batches},
        "precision": {"recipe": "fp8-blockwise" if is_fp8 else "bf16"},
        "phases": [{"name": "pretrain", "steps": 1}],
        "draws": 2,
    }


def each_once(*lists: tuple[str, ...] | list[str]) -> list[tuple[str, ...]]:
    """Tuples in which each member of each list stands at least once."""
    longest = max(map(len, lists))
    return list(zip(*(islice(cycle(names), longest) for names in lists), strict=True))


@pytest.mark.parametrize(("node", "fabric", "schedule"), each_once(NODES, FABRICS, RUNNING))
def test_every_node_and_fabric(node: str, fabric: str, schedule: str) -> None:
    run = simulate(on(node, fabric, transfer_name(load_node(node).gpu), schedule))
    for law in ONE_STEP:
        law(run)


@pytest.mark.parametrize(("stack", "schedule"), each_once(list(measured_stacks()), RUNNING))
def test_every_measured_stack(stack: str, schedule: str) -> None:
    node = next(name for name in NODES if load_node(name).gpu == load_stack(stack).gpu)
    run = simulate(on(node, FABRICS[0], stack, schedule))
    assert run.result.basis.transferred < 1.0
    for law in ONE_STEP:
        law(run)


@pytest.mark.parametrize("model", model_names())
def test_every_model(model: str) -> None:
    """On two stages of 8 GPUs each, experts over the 8 of a stage."""
    document = on("h800-x8", FABRICS[0], "h800-deepseek-2024", "1f1b")
    run = simulate(
        changed(document, model=model, parallel={"ep": 8 if load_model(model).moe else 1}, precision={"recipe": "bf16"})
    )
    for law in ONE_STEP:
        law(run)
    assert run.result.model.num_active_parameters <= run.result.model.num_parameters
