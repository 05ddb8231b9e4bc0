"""What a file leaves out means the same in every release, and what a layer changes takes with it what it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator import load_scenario
from simulator.scenario.derived import is_grad_reduce_overlapped
from simulator.scenario.recipes import RECIPES

V3 = "deepseek-v3"
SMALL = {"model": "llama-3.1-8b", "cluster": {"node": "h100-x8", "num_gpus": 8}}
DEFAULTS: dict[str, Any] = {
    "name": "scenario",
    "cluster.fabric": "ib-400g-rail",
    "parallel.pp": 1,
    "parallel.ep": 1,
    "parallel.schedule": "1f1b",
    "parallel.layers_per_stage": None,
    "parallel.overlap.ep": None,
    "parallel.overlap.dp": True,
    "parallel.comm_sms": None,
    "data_parallel.grad_reduce.overlap": True,
    "data_parallel.grad_reduce.dtype": "fp32",
    "training.seq_len": 4096,
    "training.global_batch_size": 256,
    "training.micro_batch_size": 1,
    "training.optimizer": "adamw-fp32-moments",
    "precision.recipe": "bf16",
    "precision.fp8_weight_cache": "none",
    "moe.dispatch_dtype": "bf16",
    "moe.max_nodes_per_token": None,
    "moe.balance": "learned",
    "recompute.granularity": "none",
    "recompute.modules": [],
    "recompute.saved.attn_out": "bf16",
    "recompute.saved.swiglu_in": "bf16",
    "head.vocab_padding": 128,
    "device.clock": "sustained",
    "device.speed_cv": None,
    "prices": None,
    "draws": 32,
    "seed": 0,
    "start_date": None,
    "currency": "USD",
}
"""A promise to every file that is written: changing one of these changes what old files mean."""
FP8 = {
    "precision.fp8_weight_cache": "per_step", "moe.dispatch_dtype": "fp8", "recompute.saved.attn_out": "e5m6",
    "recompute.saved.swiglu_in": "fp8",
}  # fmt: skip
"""arXiv:2412.19437, 3.3: FP8 dispatch, attention's output kept in E5M6, the SwiGLU's input in FP8."""


def value_at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[key]
    return document


def test_defaults_are_those_that_were_promised() -> None:
    scenario = load_scenario(SMALL)
    canonical = scenario.canonical()
    assert {path: value_at(canonical, path) for path in DEFAULTS} == DEFAULTS
    assert all(canonical["mechanisms"].values()), "every mechanism is on"
    named = {"parallel.comm_sms", "training.seq_len", "draws", "device.clock", "moe.balance", "cluster.fabric"}
    assert named <= set(scenario.defaults_used)


def test_the_fp8_recipe_sets_the_formats_of_the_report() -> None:
    canonical = load_scenario({**SMALL, "precision": "fp8-blockwise"}).canonical()
    assert {path: value_at(canonical, path) for path in FP8} == FP8
    assert RECIPES["fp8-blockwise"].block == 128, "a tile of 1x128 activations, a block of 128x128 weights"


def test_keys_of_an_inline_fabric_are_given_with_it() -> None:
    inline = {
        "technology": "infiniband", "topology": "rail_fat_tree", "num_planes": 1, "num_layers": 3, "switch_ports": 64,
        "port_bytes_per_s": "400 Gb/s", "latency_same_leaf_s": 2.8e-6, "latency_cross_leaf_s": 3.7e-6,
        "oversubscription": 1, "routing": "adaptive",
    }  # fmt: skip
    cluster = {"node": "h100-x8", "num_gpus": 16, "fabric": inline}
    found = load_scenario({**SMALL, "cluster": cluster}).defaults_used
    assert [key for key in found if key.startswith("cluster")] == ["cluster.gpus_per_domain"]


def test_gradients_are_reduced_beside_the_backward_where_both_switches_say_so() -> None:
    for by_plan in (True, False):
        for by_collective in (True, False):
            plan = {
                "parallel": {"overlap": {"dp": by_plan}},
                "data_parallel": {"grad_reduce": {"overlap": by_collective}},
            }
            assert is_grad_reduce_overlapped(load_scenario({**SMALL, **plan})) == (by_plan and by_collective)


def test_an_exact_override_has_no_width() -> None:
    for text in ("0.03", "{value: 0.03}"):
        override = load_scenario(V3, [f"assumptions.gpu_speed_cv={text}"]).assumptions["gpu_speed_cv"]
        assert (override.value, override.low, override.high) == (0.03, 0.03, 0.03)


def test_the_base_is_what_stood_before_the_last_change_of_the_gpu(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schema_version: 1\nextends: deepseek-v3\ncluster: {node: h200-x8}\n")
    base = load_scenario(path, ["cluster.node=b200-x8"]).base
    assert base is not None
    assert (base.name, base.gpu, base.stack) == (str(path), "h200", "h200-public")


def test_a_recipe_takes_its_weight_cache_with_it_and_needs_no_note(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schema_version: 1\nextends: deepseek-v3\nprecision: {fp8_weight_cache: per_step}\n")
    scenario = load_scenario(path, ["precision=bf16"])
    assert scenario.precision.fp8_weight_cache == "none"
    assert scenario.warnings == ()


def test_attention_of_the_same_kind_keeps_what_it_inherits() -> None:
    attention = load_scenario(V3, ["model.attention={kind: mla, num_heads: 64}"]).model.attention
    assert attention == load_scenario(V3).model.attention.model_copy(update={"num_heads": 64})


def test_of_two_phase_names_the_longer_takes_its_option() -> None:
    phases = "phases=[{name: a, steps: 1}, {name: a.b, steps: 2}]"
    found = load_scenario(V3, [phases]).phases
    assert [phase.steps for phase in found] == [1, 2]
    path = {**SMALL, "phases": [{"name": "a", "steps": 1}, {"name": "a.b", "steps": 2}]}
    assert [phase.steps for phase in load_scenario(path, ["phases.a.b.steps=7"]).phases] == [1, 7]


def test_a_model_that_is_named_again_is_as_if_nothing_had_been_said() -> None:
    options = ["model=kimi-k2", "model.num_layers=60", f"model={V3}"]
    assert load_scenario(V3, options) == load_scenario(V3)
