"""Published rows as scenarios: nothing that a row gives is changed, what it lacks is named, the rest is listed as assumed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import validation
from simulator.errors import InputError
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from simulator.workload.model_counts import count_parameters
from validation.published.batch import precision
from validation.published.draft import REASONS, Draft
from validation.published.eligible import LIST, eligible, excluded, statable, text_of
from validation.published.family import families, family_of
from validation.published.machine import NODES
from validation.published.row import Row, read_rows
from validation.published.sources import facts, filled_in
from validation.published.state import PARTS, state
from validation.statable import main

PUBLISHED = Path(validation.__file__).parent / "data" / "published_cases.csv"
LLAMA = {
    "case_id": "x", "model": "Llama-3-8B", "layers": "32.0", "hidden": "4096", "ffn": "14336", "heads": "32", "kv_heads": "8",
    "head_dim": "128", "vocab": "128256", "attention_kind": "GQA", "gpu": "H100", "n_gpus": "8", "tp": "1", "pp": "1",
    "dp": "8", "cp": "1", "mbs": "2", "gbs": "64", "seq": "8192", "precision": "BF16", "recompute": "none", "schedule": "none",
    "framework": "Megatron-LM",
}  # fmt: skip
MIXTRAL = LLAMA | {
    "model": "Mixtral-8x22B", "ffn": "", "experts": "8", "topk": "2", "shared_experts": "0", "moe_ffn": "16384", "ep": "8",
}  # fmt: skip


def drafted(cells: Mapping[str, str]) -> Draft:
    draft = Draft()
    for part in PARTS:
        part(Row(cells), draft)
    return draft


def value(draft: Draft, key: str) -> Any:
    node: Any = draft.scenario
    for name in key.split("."):
        node = node[name]
    return node


def assumed(cells: Mapping[str, str]) -> dict[str, Any]:
    found = state(Row(cells))
    assert found.scenario is not None, found.missing
    return {each.key: each.value for each in found.assumed}


def test_a_row_that_says_all_is_taken_as_it_is() -> None:
    found = state(Row(LLAMA))
    assert found.missing == {}
    plan = found.scenario
    assert plan is not None
    assert (plan.model.num_layers, plan.model.hidden_size, plan.model.vocab_size) == (32, 4096, 128256)
    assert (plan.cluster.node, plan.cluster.num_gpus) == ("h100-x8", 8)
    assert (plan.training.seq_len, plan.training.global_batch_size, plan.training.micro_batch_size) == (8192, 64, 2)
    assert (plan.precision.recipe, plan.recompute.granularity) == ("bf16", "none")
    given = {
        "cluster.num_gpus",
        "training.seq_len",
        "training.micro_batch_size",
        "recompute.granularity",
        "parallel.schedule",
    }
    assert not given & {each.key for each in found.assumed}


def test_what_a_row_does_not_give_is_listed_with_the_value_taken() -> None:
    found = assumed(LLAMA | {"mbs": "", "recompute": "", "schedule": ""})
    assert found["training.micro_batch_size"] == 1
    assert found["recompute.granularity"] == "none"
    assert found["parallel.schedule"] == "1f1b"
    assert found["parallel.zero_stage"] == 1
    assert found["cluster.fabric"] == "ib-400g-rail"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"precision": "INT8"}, "INT8"),
        ({"precision": "FP8 rowwise"}, "row-wise FP8"),
        ({"precision": "FP8 (or NVFP4: not resolved)"}, "precision not resolved"),
        ({"precision": ""}, "no precision given"),
        ({"gpu": "TPU v6e"}, "unknown GPU"),
        ({"n_gpus": ""}, "no GPU count given"),
        ({"hidden": ""}, "no model dimensions given"),
        ({"vocab": ""}, "no vocabulary size given"),
        ({"tp": "", "dp": ""}, "no layout given"),
        ({"seq": ""}, "no sequence length given"),
        ({"gbs": ""}, "no global batch size given"),
        ({"dp": "4"}, "columns contradict each other"),
        ({"ep": "8"}, "columns contradict each other"),
        ({"experts": "8", "topk": "2", "moe_ffn": "1024", "ep": "16"}, "columns contradict each other"),
        ({"mbs": "2", "gbs": "64", "notes": "GA 3"}, "columns contradict each other"),
        ({"model": "Nemotron-H-56B"}, "Mamba layers"),
        ({"attention_kind": "hybrid Mamba2 + GQA"}, "Mamba layers"),
        ({"recompute": "selective"}, "recompute modules not named"),
        ({"pp": "8", "dp": "1", "schedule": "interleaved 1F1B", "layers": ""}, "no model dimensions given"),
        ({"pp": "8", "dp": "1", "vpp": "2", "schedule": "V-half"}, "zero-bubble schedules"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(cells: Mapping[str, str], reason: str) -> None:
    found = state(Row(LLAMA | cells))
    assert list(found.missing) == [reason]
    assert found.scenario is None


@pytest.mark.parametrize(
    ("framework", "cp_comm"),
    [
        ("Megatron-Bridge (26.04)", "ring"),
        ("NeMo 24.07", "ring"),
        ("torchtitan", "all_gather"),
        ("Megatron-Core 0.8", "ring"),
    ],
)
def test_context_parallelism_is_stated_with_the_releases_messages(framework: str, cp_comm: str) -> None:
    found = state(Row(LLAMA | {"cp": "2", "dp": "4", "framework": framework}))
    assert found.scenario is not None, found.missing
    assert (found.scenario.parallel.cp, found.scenario.parallel.cp_comm) == (2, cp_comm)
    assert {each.key: each.is_sourced for each in found.assumed}["parallel.cp_comm"]
    unknown = state(Row(LLAMA | {"cp": "2", "dp": "4", "framework": ""}))
    assert not {each.key: each.is_sourced for each in unknown.assumed}["parallel.cp_comm"]


QWEN = MIXTRAL | {
    "model": "Qwen3-235B-A22B", "layers": "32", "experts": "128", "topk": "8", "moe_ffn": "1536", "n_gpus": "64", "dp": "16",
    "ep": "16", "pp": "4", "vpp": "4", "schedule": "interleaved 1F1B", "framework": "Megatron-Bridge (25.11)", "recompute": "",
    "gbs": "1024",
}  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "schedule", "is_read"),
    [
        ({}, "interleaved_1f1b_ep_overlap", True),
        ({"pp": "1", "vpp": "", "dp": "64", "schedule": "none"}, "1f1b_ep_overlap", True),
        ({"gpu": "GB200"}, "interleaved_1f1b", False),
        ({"framework": "Megatron-Core"}, "interleaved_1f1b", False),
        ({"vpp": "1", "schedule": "1F1B"}, "1f1b", False),
        (
            {"framework": "", "schedule": "interleaved 1F1B + EP all-to-all overlap"},
            "interleaved_1f1b_ep_overlap",
            False,
        ),
        ({"vpp": "2", "schedule": "ZBV"}, "zb_v", False),
        ({"vpp": "", "schedule": "zero bubble (ZB1P)"}, "zb_h1", False),
    ],
)
def test_the_schedule_is_the_rows_with_what_its_recipe_adds(
    cells: Mapping[str, str], schedule: str, is_read: bool
) -> None:
    """25.11: Qwen3-235B overlaps dispatch and combine on H100 and B200, not on GB200; Megatron-Core needs virtual stages."""
    found = state(Row(QWEN | cells))
    assert found.scenario is not None, found.missing
    assert found.scenario.parallel.schedule == schedule
    assert ("parallel.schedule" in {each.key for each in found.assumed if each.is_sourced}) == is_read


def test_offloaded_layers_are_the_recipes_without_a_pipeline() -> None:
    cells = LLAMA | {"model": "Llama-3-70B", "gpu": "GB200", "framework": "Megatron-Bridge (26.02)", "recompute": ""}
    plan = state(Row(cells)).scenario
    assert plan is not None
    assert (plan.offload.activations, plan.offload.activation_layers) == (1.0, 20)
    other = state(Row(cells | {"pp": "2", "dp": "4", "schedule": "1F1B"})).scenario
    assert other is not None
    assert other.offload.activations == 0


def test_muon_is_the_rows_and_how_its_work_is_shared_the_releases() -> None:
    row = next(row for row in read_rows(PUBLISHED) if row.text("case_id") == "MBRIDGE-164")
    plan = state(row).scenario
    assert plan is not None
    assert (plan.training.optimizer, plan.training.muon.shards) == ("muon", "whole")
    assert plan.precision.primary_weights == "bf16", "FP8 parameters are gathered by the distributed optimizer alone"
    other = state(Row(LLAMA | {"notes": "Muon optimizer"})).scenario
    assert other is not None
    assert other.training.optimizer == "muon"


def test_nearly_all_rows_in_bf16_or_block_wise_fp8_are_stated() -> None:
    """294 of 315; the others lack an input that no source gives, or ran on what is no GPU of the catalogue."""
    chosen = []
    for row in read_rows(PUBLISHED):
        draft = Draft()
        precision(row, draft)
        if draft.scenario.get("precision", {}).get("recipe") in ("bf16", "fp8-blockwise"):
            chosen.append(row.text("case_id"))
    assert len(chosen) == 315
    assert len(eligible() & set(chosen)) >= 290


def test_a_cut_model_keeps_the_places_of_embedding_and_head() -> None:
    """Of 4 x 8 stages 30 hold a layer each, the first the embedding, the last the head (DGXC-024)."""
    row = next(row for row in read_rows(PUBLISHED) if row.text("case_id") == "DGXC-024")
    plan = state(row).scenario
    assert plan is not None
    assert plan.parallel.layers_per_stage == "E | (d)*30 | L"


def test_experts_that_a_row_does_not_count_are_no_contradiction() -> None:
    unknown = LLAMA | {"ep": "8", "dense_or_moe": "moe", "hidden": ""}
    assert list(drafted(unknown).missing) == ["no model dimensions given"]


def test_reasons_of_a_whole_row() -> None:
    assert list(state(Row(LLAMA | {"notes": "LoRA fine-tuning"})).missing) == ["LoRA"]
    assert list(state(Row(LLAMA | {"notes": "SFT; packed sequences"})).missing) == [
        "documents of packed sequences not given"
    ]
    with pytest.raises(KeyError):
        Draft().lack("bad luck")


def test_the_parallel_block_is_of_the_row_or_of_its_framework() -> None:
    said, framework = LLAMA | {"notes": "parallel block + LAMB"}, LLAMA | {"framework": "MegaScale"}
    for cells, is_parallel in ((said, True), (framework, True), (LLAMA, False)):
        plan = state(Row(cells)).scenario
        assert plan is not None
        assert plan.model.parallel_block is is_parallel
    assert any("sliding-window" in text for text in state(Row(framework)).beside)


def test_columns_that_fit_and_a_loader_that_refuses() -> None:
    found = state(Row(LLAMA | {"gbs": "63"}))
    assert list(found.missing) == ["refused by moesim"]
    assert found.missing["refused by moesim"].startswith("gbs: 63 sequences do not divide")


def test_fsdp_is_read_from_framework_and_notes() -> None:
    foundry = LLAMA | {"framework": "llm-foundry (FSDP)", "notes": "FULL_SHARD; MP mode PURE"}
    full = state(Row(foundry))
    assert full.framework == "llm-foundry@2023"
    assert full.scenario is not None
    assert full.scenario.parallel.zero_stage == 3
    assert full.scenario.data_parallel.grad_reduce.dtype == "bf16"
    told = {each.key for each in full.assumed}
    assert "parallel.zero_stage" not in told
    assert "data_parallel.grad_reduce.dtype" not in told
    half = state(Row(foundry | {"notes": "SHARD_GRAD_OP; MP mode DEFAULT"})).source
    assert half["data_parallel"] == {"reshard_after_forward": False, "grad_reduce": {"dtype": "fp32"}}
    assert assumed(foundry)["kernels.autograd"] == "eager"
    assert assumed(LLAMA)["kernels.autograd"] == "transformer_engine"
    titan = state(Row(LLAMA | {"framework": "torchtitan", "notes": "FSDP2; compile"}))
    assert titan.source["kernels"] == {"autograd": "fused", "norm": "fused"}
    assert assumed(LLAMA | {"notes": "FSDP /; GA 4"})["parallel.zero_stage"] == 1
    assert state(Row(LLAMA | {"notes": "FSDP sharding group 64"})).source["parallel"]["zero_stage"] == 3
    assert assumed(LLAMA | {"framework": "OLMo (FSDP)"})["parallel.zero_stage"] == 3


def test_a_benchmark_of_async_tp_has_rows_without_it() -> None:
    titan = LLAMA | {"framework": "torchtitan", "tp": "8", "dp": "1", "source_detail": "async TP benchmark, June 2025"}
    for notes, overlap in (("vanilla TP; compile", "none"), ("async TP; compile", "chunked")):
        found = state(Row(titan | {"notes": notes})).scenario
        assert found is not None
        assert found.parallel.overlap.tp == overlap


def test_schedules_and_virtual_stages() -> None:
    inter = LLAMA | {"pp": "4", "dp": "2", "vpp": "2", "schedule": "interleaved 1F1B (6 stages)"}
    found = drafted(inter)
    assert (value(found, "parallel.schedule"), value(found, "parallel.vpp")) == ("interleaved_1f1b", 2)
    plain = drafted(LLAMA | {"pp": "4", "dp": "2", "schedule": "1F1B"})
    assert value(plain, "parallel.schedule") == "1f1b"
    assert "parallel.schedule" not in {each.key for each in plain.assumed}
    unsaid = inter | {"vpp": "", "schedule": "interleaved 1F1B"}
    assert assumed(unsaid)["parallel.vpp"] == 4
    assert assumed(unsaid | {"framework": "torchtitan"})["parallel.vpp"] == 2
    open_ = drafted(LLAMA | {"pp": "4", "dp": "2", "schedule": "1F1B/interleaved (VP not stated)"})
    told = {each.key: each.value for each in open_.assumed}
    assert (told["parallel.schedule"], told["parallel.vpp"]) == ("1f1b", 1)


def test_virtual_stages_that_a_row_leaves_out_are_the_release_s_where_it_has_some() -> None:
    """Parallel folding's authors print none; their README's mapping of the same model and pipeline does."""
    folded = MIXTRAL | {"framework": "Megatron-Core (0.9+)", "model": "Mixtral-8x22B", "layers": "56", "pp": "8"}
    folded |= {"n_gpus": "64", "dp": "8", "gbs": "256", "schedule": ""}
    found = state(Row(folded)).scenario
    assert found is not None
    assert (found.parallel.schedule, found.parallel.vpp) == ("interleaved_1f1b", 7)
    for changes in ({"model": "Mixtral-8x7B"}, {"schedule": "1F1B"}, {"framework": "Megatron-Core"}):
        plain = state(Row(folded | changes)).scenario
        assert plain is not None and (plain.parallel.schedule, plain.parallel.vpp) == ("1f1b", 1)


def test_experts_share_tp_only_where_the_framework_splits_them_so() -> None:
    split = MIXTRAL | {"tp": "2", "n_gpus": "128", "dp": "64", "gbs": "256"}
    assert assumed(split)["parallel.etp"] == 2
    folded = state(Row(split | {"framework": "Megatron-Core (0.9+)", "source_detail": "Table 3; MCore+Folding"}))
    assert folded.source["parallel"]["etp"] == 1
    assert assumed(split | {"framework": "Megatron-Bridge (25.09)"})["parallel.etp"] == 1
    sharded = state(Row(split | {"source_detail": "Table 3; FSDP+EP"}))
    assert sharded.scenario is not None
    assert (sharded.scenario.parallel.etp, sharded.source["parallel"]["zero_stage"]) == (2, 3)
    assert assumed(split | {"framework": "torchtitan (FSDP)"})["parallel.etp"] == 1
    assert "parallel.etp" not in assumed(split | {"etp": "1"})
    zoo = assumed(split | {"source_url": "https://github.com/yanring/Megatron-MoE-ModelZoo/blob/main/x.md"})
    assert (zoo["parallel.etp"], zoo["parallel.overlap.tp"]) == (1, "chunked")
    assert assumed(split)["parallel.overlap.tp"] == "none"
    assert assumed(split | {"dp": "4", "n_gpus": "8"})["parallel.etp"] == 1


def test_routing_is_what_the_row_says() -> None:
    dropped = drafted(MIXTRAL | {"notes": "token drop, capacity factor 1; H100 peak 989.5"})
    assert value(dropped, "moe.capacity_factor") == 1.0
    assert "moe.capacity_factor" not in {each.key for each in dropped.assumed}
    assert assumed(MIXTRAL | {"notes": "tokendrop"})["moe.capacity_factor"] == 1.0
    assert value(drafted(MIXTRAL | {"notes": "force-balanced routing, dropless"}), "moe.balance") == "forced"
    assert assumed(MIXTRAL)["moe.balance"] == "learned"


def test_recompute_texts() -> None:
    assert value(drafted(LLAMA | {"recompute": "full (uniform, 1)"}), "recompute.granularity") == "full"
    assert value(drafted(LLAMA | {"recompute": "none at 8K"}), "recompute.granularity") == "none"
    named = drafted(MIXTRAL | {"recompute": "selective (layernorm, moe)"})
    assert value(named, "recompute") == {"granularity": "selective", "modules": ["rmsnorm", "moe"]}
    by_operator = drafted(LLAMA | {"recompute": "selective (per op)"})
    assert value(by_operator, "recompute")["modules"] == ["rmsnorm", "swiglu", "gemms"]
    bare = state(Row(LLAMA | {"recompute": "selective", "framework": "torchtitan"})).scenario
    assert bare is not None
    assert bare.recompute.modules == ("rmsnorm", "swiglu", "gemms")


def test_the_name_adds_what_columns_lack() -> None:
    v3 = MIXTRAL | {
        "model": "DeepSeek-V3", "layers": "61", "ffn": "18432", "experts": "256", "topk": "8", "shared_experts": "1",
        "attention_kind": "MLA (q_lora 1536, kv_lora 512, rope 64, first 3 layers dense)",
    }  # fmt: skip
    found = value(drafted(v3), "model")
    assert (found["num_dense_layers"], found["dense_ffn"]) == (3, {"intermediate_size": 18432})
    assert found["attention"]["q_lora_rank"] == 1536
    assert found["moe"]["max_groups_per_token"] == 4
    cut = value(drafted(v3 | {"layers": "4", "notes": "layers cut to 4"}), "model")
    assert cut["num_dense_layers"] == 1
    gpt = value(drafted(LLAMA | {"model": "Megatron GPT 16B"}), "model")
    assert (gpt["dense_ffn"]["activation"], gpt["tied_embeddings"], gpt["learned_positions"]) == ("gelu", True, 8192)
    assert value(drafted(LLAMA | {"attention_kind": "GQA + QK norm"}), "model")["attention"]["qk_norm"] is True


def test_the_longest_name_of_a_family_counts() -> None:
    known = families()
    assert family_of("Mixtral-8x22B-G8T8") is known["Mixtral-8x22B-G8T8"]
    assert family_of("MPT-30B") is known["MPT"]
    assert family_of("Nemotron-3-8B(2023)") is known["Nemotron-3-8B(2023)"]
    assert family_of("Nemotron-3-Nano") is known["Nemotron-3"]
    assert family_of("Llama-99") is None
    assert all(entry.source or entry.none for entry in known.values())


def test_every_node_of_the_table_is_in_the_catalogue() -> None:
    for gpu in NODES:
        assert state(Row(LLAMA | {"gpu": gpu, "n_gpus": "8"})).missing == {}, gpu
    roce = drafted(
        LLAMA | {"gpu": "A100-40GB", "source_detail": "A100 40GB with 1600 Gbps node-node interconnect (RoCE)"}
    )
    assert value(roce, "cluster.fabric") == "roce-400g-rail"
    assert "cluster.fabric" not in {each.key for each in roce.assumed}


def test_the_command_tells_counts_and_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [LLAMA, LLAMA | {"case_id": "y", "gpu": "TPU v6e"}, LLAMA | {"case_id": "z", "precision": "INT8"}]
    rows.append(LLAMA | {"case_id": "w", "precision": "INT8", "gpu": "TPU v6e"})
    columns = list(LLAMA)
    lines = [",".join(columns), *(",".join(row[column] for column in columns) for row in rows)]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    assert main([str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "1 of 4 rows can be stated as they were run"
    assert "     2  unknown GPU (mechanism missing; alone in 1)" in shown
    assert any(line.startswith("y: unknown GPU: 'TPU v6e'; allowed ") for line in shown)
    assert main([str(file), "--json", "--precision", "bf16"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["statable"]) == (2, 1)
    assert told["cases"][0]["scenario"]["parallel"]["pp"] == 1
    assert told["cases"][1]["scenario"] is None


def test_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    odd = tmp_path / "odd.csv"
    odd.write_text("case_id,gpu\nx,H100\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column model"):
        read_rows(odd)


@pytest.mark.slow
def test_two_hundred_of_the_published_rows_can_be_stated_and_run() -> None:
    """Every twentieth that can be stated is simulated."""
    rows = [row for row in read_rows(PUBLISHED) if row.text("precision").startswith(("BF16", "FP8 fine-grained"))]
    assert len(rows) == 315
    found = [state(row) for row in rows]
    statable = [each.scenario for each in found if each.scenario is not None]
    assert len(statable) >= 200
    assert all(set(each.missing) <= set(REASONS) for each in found)
    for scenario in statable[::20]:
        assert simulate_prepared(prepare(scenario), explained=False).step.step_s > 0


def test_models_have_as_many_parameters_as_their_rows_print() -> None:
    printed = 0
    for row in read_rows(PUBLISHED):
        match = re.search(r"params (\d+)", row.text("notes"))
        scenario = state(row).scenario if match else None
        if match and scenario is not None:
            printed += 1
            assert count_parameters(scenario.model).num_parameters == int(match[1]), row.text("case_id")
    assert printed >= 123


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ({"n_gpus": "-8"}, "n_gpus: is no whole number from 1 on ('-8')"),
        ({"n_gpus": "12", "tp": "8", "dp": ""}, "n_gpus: is no multiple of tp * pp * cp = 8"),
        ({"gbs": "1,024"}, "gbs: is no whole number from 1 on ('1,024'); write 1024"),
        ({"seq": "4k"}, "seq: is no whole number from 1 on ('4k'); write a plain number"),
        ({"memory_gib": "80 GB"}, "memory_gib: is no number above 0 ('80 GB'); write a plain number"),
        ({"mfu": "43"}, "mfu: is above 1 ('43'); write a fraction: 0.43"),
        ({"mfu": "nan"}, "mfu: is no number above 0"),
        ({"step_time_s": "0"}, "step_time_s: is no number above 0"),
        ({"step_time_s": "1e400x"}, "step_time_s: is no number above 0"),
        ({"mbs": "1.5"}, "mbs: is no whole number"),
        ({"step_time_s": "10", "tokens_per_s_per_gpu": "7000"}, "tokens_per_s_per_gpu: differs from gbs * seq"),
        ({"experts": "4", "topk": "8"}, "topk: is more than the 4 experts"),
        ({"case_id": ""}, "case_id: is empty"),
    ],
)
def test_values_that_cannot_be_are_named_with_what_to_write(cells: Mapping[str, str], text: str) -> None:
    found = state(Row(LLAMA | cells))
    assert found.scenario is None
    assert any(problem.startswith(text) for problem in found.problems), found.problems
    assert text in found.missing["bad value"]


def test_a_step_time_and_tokens_that_agree_are_no_problem() -> None:
    assert state(Row(LLAMA | {"step_time_s": "10", "tokens_per_s_per_gpu": "6600"})).problems == ()


def test_unknown_gpus_and_models_are_told_with_the_nearest() -> None:
    assert "did you mean H100?" in state(Row(LLAMA | {"gpu": "H10"})).missing["unknown GPU"]
    assert "Llama-3-8B" in state(Row(LLAMA | {"model": "Lama-3-8B"})).missing["no model dimensions given"]


def test_odd_files_are_read_and_repeated_names_are_said(tmp_path: Path) -> None:
    """Byte order mark, CRLF, columns that are missing, of other names, and cells beyond the header."""
    columns = [name for name in LLAMA if name not in ("recompute", "framework")]
    head = ",".join([*columns, "colour"])
    line = ",".join([*(LLAMA[name] for name in columns), "red"])
    file = tmp_path / "odd.csv"
    file.write_bytes(("\ufeff" + "\r\n".join([head, line, line, line.replace("x,", "y,", 1) + ",more"])).encode())
    first, second, third = (state(row) for row in read_rows(file))
    assert first.scenario is not None
    assert {"framework", "recompute.granularity"} <= {each.key for each in first.assumed}
    assert list(second.missing) == ["case_id is there twice"]
    assert "1 cells more than the header" in third.missing["bad value"]


def test_an_error_inside_a_row_is_the_rows_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(row: Row) -> str:
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr("validation.published.state.release_of", fails)
    found = state(Row(LLAMA))
    assert found.scenario is None
    assert found.missing == {"cannot be read": "ZeroDivisionError: no luck"}


def test_labels_are_what_the_notes_state() -> None:
    notes = "cuda graph full_iteration; HybridEP; no EP overlap"
    found = state(Row(LLAMA | {"notes": notes, "framework": "Megatron-Bridge 0.5.0"}))
    assert (found.dispatcher, found.cuda_graph, found.overlap) == ("hybridep", "full_iteration", "none")
    assert found.labels["release"] == "megatron-bridge@26.06"
    silent = state(Row(LLAMA))
    assert (silent.dispatcher, silent.cuda_graph, silent.overlap) == ("", "", "")


def test_software_is_known_by_the_most_specific_file_or_said_to_be_unknown() -> None:
    texts = {
        "Megatron-LM": "megatron-core@recipes", "Megatron-LM 23e00ed, TE 2.11": "megatron-lm@23e00ed",
        "Megatron-Bridge": "megatron-bridge@recipes", "Megatron-Bridge (26.04.01)": "megatron-bridge@26.04",
        "Primus (Megatron-LM backend)": "primus@2025", "NeMo (MLPerf)": "nemo@mlperf", "NeMo 24.07": "nemo@24.07",
        "home-made": None,
    }  # fmt: skip
    for text, release in texts.items():
        assert state(Row(LLAMA | {"framework": text})).framework == release, text
    unknown = state(Row(LLAMA | {"framework": "home-made"}))
    why = {each.key: each.why for each in unknown.assumed}
    assert why["framework"].startswith("software unknown")
    assert "software unknown" in why["parallel.zero_stage"]
    assert unknown.completeness.endswith(" assumed")


def test_what_a_source_says_fills_empty_cells_and_corrects_its_own_errors() -> None:
    for fact in facts():
        assert fact.source
        for case in fact.cases:
            row = rows_by_name().get(case, Row({}))  # the table is a part of a larger one
            given = [column for column in fact.columns if row.text(column)]
            assert fact.corrects or not given, f"{case}: {given} stands in the table"
    filled, read = filled_in(rows_by_name()["PRIMUS-017"])
    assert (filled.text("gbs"), read[0].key) == (str(64 * int(filled.text("mbs"))), "gbs")
    corrected, _ = filled_in(rows_by_name()["DGXC-059"])
    assert corrected.text("vpp") == "12"
    assert filled_in(Row({"case_id": "DGXC-059", "model": "another"}))[1] == ()


def test_the_committed_list_of_rows_that_count_is_what_the_code_states() -> None:
    assert text_of(statable(), excluded()) == LIST.read_text(encoding="utf-8")
    assert not eligible() & excluded().keys()
    assert excluded().keys() <= rows_by_name().keys()


def rows_by_name() -> Mapping[str, Row]:
    return {row.text("case_id"): row for row in read_rows(PUBLISHED)}
