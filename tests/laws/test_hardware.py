"""Law: one datasheet figure better, by the same transfer rule and order of actions, and no step is slower.

Figures that are not one-sided stay out. More SMs of the same peak are smaller SMs, on which other tiles fit; less
oversubscription of switches with the same ports leaves fewer nodes under a leaf.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles.catalog import load_fabric, load_gpu, load_node
from hwprofiles.schema import Gpu
from hwprofiles.stack_records import Stack
from hwprofiles.transfer import build_stack
from simulator import load_scenario
from simulator.step.prepared import prepare, price
from simulator.step.step import simulate_prepared
from tests.laws.runs import ROUNDING, changed, simulate
from tests.laws.scenarios import LAW, Document, scenarios

GPUS = ("h800", "h100")
LINK_FIGURES = {
    "node.nic_bytes_per_s": 2.0,
    "node.scale_up_bytes_per_s": 2.0,
    "fabric.port_bytes_per_s": 2.0,
    "fabric.latency_cross_pod_s": 0.85,
    "fabric.latency_cross_leaf_s": 0.8,
    "fabric.latency_same_leaf_s": 0.5,
}
GPU_FIGURES = {"gpu.peak_flop_per_s.bf16": 1.2, "gpu.peak_flop_per_s.fp8": 1.5, "gpu.hbm_bytes_per_s": 1.5}
"""Figure → factor that makes it better."""

PORT_SHARES = {"nic": 2.0, "port": 0.75}
"""What binds between nodes → rate of a fabric port over that of a NIC."""


def on(document: Document, gpu: str, binding: str, better: str = "", *, has_pods: bool = True) -> Document:
    """The scenario on inline nodes and the GPU's transfer stack, with one figure better.

    Switches of six ports and oversubscription, so that small groups leave their leaf.
    """
    node = load_node(f"{gpu}-x8").model_dump(mode="json")
    fabric = load_fabric(document["cluster"]["fabric"]).model_dump(mode="json")
    fabric |= {"switch_ports": 6, "num_layers": 5, "oversubscription": 1.5}
    fabric["port_bytes_per_s"] = PORT_SHARES[binding] * node["nic_bytes_per_s"]
    if not has_pods:
        fabric["latency_cross_pod_s"] = None
    if better:
        section, key = better.split(".")
        {"node": node, "fabric": fabric}[section][key] *= LINK_FIGURES[better]
    return changed(document, cluster={"node": node, "fabric": fabric}, stack=f"{gpu}-transfer")


@cache
def better_gpu(name: str, figure: str) -> tuple[Gpu, Stack]:
    """A GPU with one figure of its datasheet better, and its transfer stack."""
    gpu, (_, key, *rest) = load_gpu(name), figure.split(".")
    value: Any = getattr(gpu, key)
    value = {**value, rest[0]: value[rest[0]] * GPU_FIGURES[figure]} if rest else value * GPU_FIGURES[figure]
    better = gpu.model_copy(update={key: value})
    return better, build_stack("transfer", better)


def with_gpu(document: Document, figure: str) -> float:
    """Step seconds of the scenario with one figure of its GPU, and so of its transfer stack, better."""
    usual = prepare(load_scenario(document))
    gpu, stack = better_gpu(usual.hardware.gpu.name, figure)
    better = replace(usual.hardware, gpu=gpu, stack=stack)
    step = price(usual.scenario, better, usual.assumptions, usual.workload, usual.random.load)
    return simulate_prepared(step).step.step_s


@settings(LAW, max_examples=7)
@given(scenarios(), st.sampled_from(GPUS), st.sampled_from(sorted(PORT_SHARES)))
def test_a_better_link_is_never_slower(document: Document, gpu: str, binding: str) -> None:
    """Draw by draw."""
    usual = simulate(on(document, gpu, binding)).outcome.step_s
    for figure in LINK_FIGURES:
        section, key = figure.split(".")
        if on(document, gpu, binding)["cluster"][section][key] is None:
            continue
        better = simulate(on(document, gpu, binding, figure)).outcome.step_s
        assert (better <= usual * (1 + ROUNDING)).all(), figure


@settings(LAW, max_examples=7)
@given(scenarios(), st.sampled_from(GPUS))
def test_a_better_gpu_is_never_slower(document: Document, gpu: str) -> None:
    usual = simulate(on(document, gpu, "nic")).step_s
    for figure in GPU_FIGURES:
        assert with_gpu(on(document, gpu, "nic"), figure) <= usual * (1 + ROUNDING), figure


WIDE: Document = {
    "model": {
        "hidden_size": 2048, "num_layers": 4, "vocab_size": 32_000, "num_dense_layers": 0,
        "attention": {"kind": "gqa", "num_heads": 16, "num_kv_heads": 4, "head_dim": 128},
        "moe": {"num_routed_experts": 32, "top_k": 8, "expert_intermediate_size": 1024},
    },
    "cluster": {"node": "h800-x8", "num_gpus": 64, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 2, "ep": 16, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 128},
    "precision": {"recipe": "fp8-blockwise"},
    "moe": {"balance": "forced"},
}  # fmt: skip
"""Expert groups and replicas over several leaves, exposed communication, GEMMs in both formats."""


@pytest.mark.parametrize("figure", [*LINK_FIGURES, *GPU_FIGURES])
def test_no_figure_is_without_effect(figure: str) -> None:
    binding = "port" if "port" in figure else "nic"
    has_pods = figure != "fabric.latency_cross_leaf_s"  # with pods, the farthest pair of these small switches is in two
    usual = on(WIDE, "h800", binding, has_pods=has_pods)
    if figure in GPU_FIGURES:
        better = with_gpu(usual, figure)
    else:
        better = simulate(on(WIDE, "h800", binding, figure, has_pods=has_pods)).step_s
    assert better < simulate(usual).step_s
