"""Layers: mappings merge key by key, lists and scalars replace, phases go by name, what no longer fits is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprofiles.stack_choice import default_stack
from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario import Scenario, derived

V3 = "schema_version: 1\nextends: deepseek-v3\n"


def from_text(folder: Path, text: str, *overrides: str) -> Scenario:
    path = folder / "case.yaml"
    path.write_text(text)
    return load_scenario(path, overrides)


def test_file_that_only_extends_equals_the_preset(tmp_path: Path) -> None:
    assert from_text(tmp_path, V3) == load_scenario("deepseek-v3")


def test_mappings_merge_key_by_key(tmp_path: Path) -> None:
    scenario = from_text(tmp_path, V3 + "parallel: {overlap: {dp: false}}\n")
    assert scenario.parallel.overlap.dp is False
    assert scenario.parallel.overlap.ep == "pair"
    assert scenario.parallel.ep == 64


def test_lists_replace(tmp_path: Path) -> None:
    scenario = from_text(tmp_path, V3 + "recompute: {modules: [swiglu]}\nphases: [{name: short, steps: 3}]\n")
    assert scenario.recompute.modules == ("swiglu",)
    assert [phase.name for phase in scenario.phases] == ["short"]


def test_three_files_deep_the_last_wins_and_paths_start_at_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.yaml").write_text(V3 + "seed: 1\ndraws: 4\nmodel: ./tiny.yaml\n" + TINY_PLAN)
    (tmp_path / "deep" / "tiny.yaml").write_text(TINY)
    (tmp_path / "middle.yaml").write_text("schema_version: 1\nextends: deep/base.yaml\nseed: 2\n")
    scenario = from_text(tmp_path, "schema_version: 1\nextends: middle.yaml\nname: top\n")
    assert (scenario.name, scenario.seed, scenario.draws) == ("top", 2, 4)
    assert scenario.model.name == "tiny"
    assert scenario.where("seed") == f"{tmp_path / 'middle.yaml'}:3"
    assert scenario.where("model.num_layers").endswith("tiny.yaml:2")


TINY = """hidden_size: 128
num_layers: 4
vocab_size: 128
num_dense_layers: 0
attention: {kind: gqa, num_heads: 4, num_kv_heads: 2, head_dim: 16}
moe: {num_routed_experts: 64, top_k: 2, expert_intermediate_size: 128}
"""
TINY_PLAN = "parallel: {pp: 4}\ntraining: {global_batch_size: 16384}\nphases: [{name: p, steps: 1}]\n"


def test_options_come_last_and_a_later_option_wins() -> None:
    scenario = load_scenario("deepseek-v3", ["seed=1", "parallel={comm_sms: 24}", "seed=2", "parallel.comm_sms=16"])
    assert (scenario.seed, scenario.parallel.comm_sms, scenario.parallel.pp) == (2, 16, 16)
    assert scenario.where("parallel.comm_sms") == "overrides[3]"


def test_option_values_parse_as_yaml_1_2() -> None:
    scenario = load_scenario("deepseek-v3", ["phases.pretrain.tokens=1e12", "name=no", "parallel.overlap.dp=false"])
    assert scenario.phases[0].tokens == 1e12
    assert scenario.name == "no"
    assert scenario.parallel.overlap.dp is False


def test_phase_by_name_in_an_option_and_in_a_file(tmp_path: Path) -> None:
    scenario = from_text(
        tmp_path, V3 + "phases: {pretrain: {batch_ramp: {from: 6144}}}\n", "phases.pretrain.tokens=2e12"
    )
    (phase,) = scenario.phases
    assert phase.batch_ramp is not None
    assert (phase.tokens, phase.batch_ramp.from_, phase.batch_ramp.over_tokens) == (2e12, 6144, 469e9)


def test_phase_name_with_dots(tmp_path: Path) -> None:
    scenario = from_text(tmp_path, V3 + "phases: [{name: stage.1, steps: 2}]\n", "phases.stage.1.steps=5")
    assert scenario.phases[0].steps == 5


def test_a_price_drops_the_inherited_choice_of_offers(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "schema_version: 1\nextends: llama-3.1-70b\n"
        "prices: {sheet: market-2025-03, provider: aws, region: us-east, commitment: on-demand}\n"
    )
    kept = load_scenario(path, ["prices.commitment=on-demand"]).prices
    assert kept is not None
    assert (kept.sheet, str(kept.wanted)) == ("market-2025-03", "aws, us-east, on-demand")
    prices = load_scenario(path, ["prices.usd_per_gpu_hour=3"]).prices
    assert prices is not None
    assert (prices.usd_per_gpu_hour, prices.sheet, bool(prices.wanted)) == (3.0, None, False)


@pytest.mark.parametrize(
    ("override", "dropped"), [("phases.pretrain.steps=7", "tokens"), ("prices.sheet=market-2026-05", "usd")]
)
def test_an_alternative_replaces_what_it_stands_for(override: str, dropped: str) -> None:
    scenario = load_scenario("deepseek-v3", [override, "cluster.node=h100-x8"])
    assert scenario.prices is not None
    kept = scenario.phases[0].tokens if dropped == "tokens" else scenario.prices.usd_per_gpu_hour
    assert kept is None


def test_changing_the_node_drops_the_stack() -> None:
    assert load_scenario("deepseek-v3", ["stack=h800-transfer"]).stack == "h800-transfer"
    assert load_scenario("deepseek-v3", ["cluster.node=h200-x8"]).stack == "h200-public"
    assert load_scenario("deepseek-v3", ["cluster.node=h800-x8"]).stack == "h800-deepseek-2024"


def test_changing_the_node_drops_the_gpus_used_of_its_domain(tmp_path: Path) -> None:
    racks = V3 + "cluster: {node: gb200-nvl72, gpus_per_domain: 64}\n"
    assert from_text(tmp_path, racks).cluster.gpus_per_domain == 64
    assert from_text(tmp_path, racks, "cluster.node=h800-x8").cluster.gpus_per_domain is None
    kept = from_text(tmp_path, racks, "cluster.node=gb300-nvl72", "cluster.gpus_per_domain=32")
    assert kept.cluster.gpus_per_domain == 32


def test_changing_the_node_in_a_file_drops_an_inherited_stack(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(V3 + "stack: h800-transfer\n")
    scenario = from_text(tmp_path, "schema_version: 1\nextends: base.yaml\ncluster: {node: h100-x8}\n")
    assert scenario.stack == default_stack("h100")


def test_stack_of_another_gpu_names_the_remedy() -> None:
    with pytest.raises(InputError, match="use h100-public or h100-transfer"):
        load_scenario("deepseek-v3", ["cluster.node=h100-x8", "stack=h800-deepseek-2024"])


@pytest.mark.parametrize("word", ["precision=bf16", "precision.recipe=bf16", "precision={recipe: bf16}"])
def test_changing_the_recipe_drops_the_formats_that_it_sets(word: str) -> None:
    scenario = load_scenario("deepseek-v3", [word])
    assert scenario.moe.dispatch_dtype == "bf16"
    assert (scenario.recompute.saved.attn_out, scenario.recompute.saved.swiglu_in) == ("bf16", "bf16")
    assert scenario.precision.fp8_weight_cache == "none"
    assert scenario.recompute.modules == ("rmsnorm", "mla_up_proj", "swiglu")


def test_a_format_that_comes_with_the_recipe_is_kept() -> None:
    scenario = load_scenario("deepseek-v3", ["recompute.saved.attn_out=e5m6", "precision.recipe=bf16"])
    assert (scenario.recompute.saved.attn_out, scenario.recompute.saved.swiglu_in) == ("e5m6", "bf16")


def test_the_same_recipe_drops_nothing() -> None:
    scenario = load_scenario("deepseek-v3", ["precision.recipe=fp8-blockwise"])
    assert scenario == load_scenario("deepseek-v3")


def test_changing_pp_drops_the_layout(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(V3 + 'parallel: {layers_per_stage: "E d*3 m | (m*4)*14 | m mtp L"}\n')
    text = "schema_version: 1\nextends: base.yaml\n"
    assert from_text(tmp_path, text).parallel.layers_per_stage is not None
    assert from_text(tmp_path, text, "parallel.pp=8", "parallel.ep=64").parallel.layers_per_stage is None


def test_no_recompute_drops_inherited_modules() -> None:
    recompute = load_scenario("deepseek-v3", ["recompute=none"]).recompute
    assert (recompute.granularity, recompute.modules) == ("none", ())


@pytest.mark.parametrize(("given", "overlaps"), [("null", True), ("pair", True), ("none", False)])
def test_pairs_overlap_as_the_schedule_has_them_unless_told_not_to(given: str, overlaps: bool) -> None:
    scenario = load_scenario("deepseek-v3", [f"parallel.overlap.ep={given}"])
    assert derived.overlaps_pairs(scenario) is overlaps
    assert scenario.warnings == ()


def test_a_pair_without_pairs_is_a_warning() -> None:
    scenario = load_scenario("deepseek-v3", ["parallel.schedule=1f1b"])
    assert len(scenario.warnings) == 1
    assert scenario.warnings[0].startswith("overrides[0]: parallel.overlap.ep: pair has no meaning in 1f1b")


def test_defaults_used_are_the_keys_that_nobody_wrote() -> None:
    defaults = load_scenario("deepseek-v3", ["draws=8"]).defaults_used
    assert {"stack", "seed", "device.clock", "mechanisms.imbalance"} <= set(defaults)
    assert not {"draws", "parallel.pp", "phases.pretrain.tokens", "phases.pretrain.steps"} & set(defaults)
    assert not any(key.startswith("model") for key in defaults)


def test_position_of_a_key_that_was_not_given_is_its_parents() -> None:
    scenario = load_scenario("deepseek-v3", ["parallel.pp=8"])
    assert scenario.where("data_parallel.grad_reduce.bucket") == "presets/deepseek-v3.yaml:17"
    assert scenario.where("parallel.ep", "parallel.pp") == "overrides[0]"
    assert scenario.where("seed") == ""


def test_inline_hardware_and_its_plausibility() -> None:
    node = (
        "cluster.node={gpu: h800, gpus_per_node: 8, scale_up_name: NVLink, scale_up_bytes_per_s: 200 GB/s,"
        " scale_up_domain_gpus: 8, nic_bytes_per_s: %s, nics_per_node: 8}"
    )
    right = load_scenario("deepseek-v3", [node % "400 Gb/s"])
    assert right.warnings == ()
    assert right.stack == "h800-deepseek-2024"
    (warning,) = load_scenario("deepseek-v3", [node % "400 GB/s"]).warnings
    assert "cluster.node.nic_bytes_per_s" in warning
    assert "3200 Gb/s" in warning


def test_a_mapping_can_be_loaded_and_is_not_changed() -> None:
    document = {"model": "deepseek-v3", "cluster": {"node": "h800-x8", "num_gpus": 8}, "precision": "bf16"}
    before = repr(document)
    scenario = load_scenario(document)
    assert derived.dp(scenario) == 8
    assert repr(document) == before
