"""python -m validation.measured_memory FILE…: predicted peaks of allocated memory beside measured ones, rank by rank.

FILE: simumax_b200_steps.csv (Megatron-LM with Transformer Engine on 8 B200) or pipeline_steps_h200x4.json (torch's own
pipelines and tensor parallelism on four H200). Allocated memory is what the framework's allocator hands out: the driver's
context and the libraries' buffers are outside it, on both sides.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from hwprofiles.units import MEBI
from simulator import load_scenario
from simulator.step.graph import order_of_actions
from simulator.step.memory import rank_memories
from simulator.step.prepared import memory_question, prepare

ERRORS = Path(__file__).parent / "data" / "memory_errors.csv"
"""What this module prints of both files, without the lines behind a #."""
OUTSIDE = ("buffers.context", "buffers.communicators", "buffers.dispatch")
"""Tensors that the framework's allocator does not hand out."""

SIMUMAX_MODELS: Mapping[str, Mapping[str, Any]] = {
    "llama3-70b": {
        "hidden_size": 8192, "vocab_size": 128256, "dense_ffn": {"intermediate_size": 28672},
        "attention": {"kind": "gqa", "num_heads": 64, "num_kv_heads": 8, "head_dim": 128},
    },
    "llama3-405b": {
        "hidden_size": 16384, "vocab_size": 128256, "dense_ffn": {"intermediate_size": 53248},
        "attention": {"kind": "gqa", "num_heads": 128, "num_kv_heads": 16, "head_dim": 128},
    },
    "deepseekv2": {
        "hidden_size": 5120, "vocab_size": 102400, "dense_ffn": {"intermediate_size": 12288},
        "moe": {"num_routed_experts": 160, "num_shared_experts": 2, "top_k": 6, "expert_intermediate_size": 1536},
    },
    "deepseekv3": {
        "hidden_size": 7168, "vocab_size": 129280, "dense_ffn": {"intermediate_size": 18432},
        "moe": {"num_routed_experts": 256, "num_shared_experts": 1, "top_k": 8, "expert_intermediate_size": 2048},
    },
}  # fmt: skip
"""As they were run: MooreThreads/SimuMax simu_tools/megatron_scripts/scripts/run_pretrain_*.sh (16 key heads in the 405B)."""
SIMUMAX_MLA: Mapping[str, Any] = {
    "kind": "mla", "num_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128,
}  # fmt: skip
SIMUMAX_DENSE_LAYERS = 1
"""Of the MoE models, cut to 4 layers: moe-layer-freq ([0]*1+[1]*n) of the same script."""
SCHEDULES = {
    "ScheduleGPipe": "gpipe",
    "Schedule1F1B": "1f1b",
    "ScheduleInterleaved1F1B": "interleaved_1f1b",
    "ScheduleZBVZeroBubble": "zb_v",
    "ScheduleDualPipeV": "dualpipe_v",
}


@dataclass(frozen=True)
class Peak:
    """Peak of allocated memory of one pipeline rank (of its ranks the highest), in bytes."""

    case: str
    pp_rank: int
    predicted: int
    measured: int

    @property
    def error_frac(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1.0


def allocated(scenario: Mapping[str, Any]) -> list[int]:
    """Predicted peaks of what the framework allocates, by pipeline rank."""
    loaded = load_scenario(scenario)
    step = prepare(loaded)
    ranks = rank_memories(memory_question(step), order_of_actions(loaded, None, None))
    return [sum(size for name, size in rank.tensors.items() if name not in OUTSIDE) for rank in ranks]


def simumax_peaks(path: Path) -> Iterator[Peak]:
    """Rows without context parallelism; ranks stand in the order tp, dp, pp."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if "cp" in row["parallel"]:
                continue
            measured = [round(float(text) * MEBI) for text in row["max_alloc_MB_by_rank"].split(";")]
            predicted = allocated(simumax_scenario(row))
            share = len(measured) // len(predicted)
            for rank, peak in enumerate(predicted):
                yield Peak(row["case"], rank, peak, max(measured[rank * share : (rank + 1) * share]))


def simumax_scenario(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of simumax_b200_steps.csv: BF16, distributed optimizer, sequence parallelism, FP32 gradients, fused loss,
    expert capacity 1 with padding to it.
    """
    tp, ep, pp = (
        int(match[1]) if (match := re.search(rf"{key}(\d+)", row["parallel"])) else 1 for key in ("tp", "ep", "pp")
    )
    layers, gpus = int(row["layers"]), int(row["gpus"])
    model = {"name": row["model"], "num_layers": layers, "attention": SIMUMAX_MLA, **SIMUMAX_MODELS[row["model"]]}
    is_moe = "moe" in model
    model["num_dense_layers"] = SIMUMAX_DENSE_LAYERS if is_moe else layers
    parallel = {"tp": tp, "pp": pp, "sequence_parallel": tp > 1}
    return {
        "schema_version": 1, "name": row["case"], "model": model, "cluster": {"node": "b200-x8", "num_gpus": gpus},
        "parallel": parallel | ({"ep": ep} if is_moe else {}), "precision": {"recipe": "bf16"},
        "kernels": {"autograd": "transformer_engine"}, "draws": 1,
        "training": {
            "seq_len": int(row["seq"]), "micro_batch_size": 1,
            "global_batch_size": int(row["micro_batches"]) * gpus // (tp * pp),
        },
        **({"moe": {"balance": "forced"}} if is_moe else {}),
    }  # fmt: skip


def torch_peaks(path: Path) -> Iterator[Peak]:
    """Rows whose schedule is modelled; of tensor-parallel ranks, which are alike, the highest."""
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        if row["kind"] == "pp" and row["schedule"] not in SCHEDULES:
            continue
        measured = row["peak_allocated_by_rank"]
        predicted = allocated(torch_scenario(row))
        for rank, peak in enumerate(predicted):
            yield Peak(row["case"], rank, peak, measured[rank] if row["kind"] == "pp" else max(measured))


def torch_scenario(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of pipeline_steps_h200x4.json, as its `note` describes the model: plain modules, BF16 weights, gradients and
    moments without a master copy, the loss on FP32 logits.
    """
    config, is_pipeline = row["config"], row["kind"] == "pp"
    model: dict[str, Any] = {
        "name": row["case"], "hidden_size": config["h"], "num_layers": row["layers"], "vocab_size": 32768,
        "num_dense_layers": 0 if "e" in config else row["layers"],
        "attention": {
            "kind": "gqa", "num_heads": config["nh"], "num_kv_heads": config["nkv"], "head_dim": config["d"],
        },
    }  # fmt: skip
    if "e" in config:
        experts = {"num_routed_experts": config["e"], "top_k": config["k"], "expert_intermediate_size": config["f"]}
        model["moe"] = experts
    else:
        model["dense_ffn"] = {"intermediate_size": config["f"]}
    size = row["micro_batch_size"] if is_pipeline else row["batch"]
    parallel = (
        {
            "pp": row["pp"],
            "vpp": row["vpp"],
            "schedule": SCHEDULES[row["schedule"]],
            "pipeline_buffers": "per_micro_batch",
        }
        if is_pipeline
        else {"tp": row["tp"], "sequence_parallel": row["sequence_parallel"]}
    )
    return {
        "schema_version": 1, "name": row["case"], "model": model, "cluster": {"node": "h200-x8", "num_gpus": 4},
        "parallel": parallel, "precision": {"recipe": "bf16"}, "kernels": {"autograd": "eager"}, "draws": 1,
        "data_parallel": {"grad_reduce": {"dtype": "bf16"}},
        "head": {"cross_entropy": "unfused", "vocab_padding": 1, **({} if is_pipeline else {"logits": "gathered"})},
        "training": {
            "seq_len": row["seq"], "micro_batch_size": size, "optimizer": "adamw-bf16",
            "global_batch_size": size * (row["micro_batches"] if is_pipeline else 1),
        },
    }  # fmt: skip


SOURCES: Mapping[str, str] = {
    ".csv": "SimuMax docs/b200/b200_release_v1.2_summary.json (4dcaae5): Megatron-LM 23e00ed with TE 2.11 on 8 B200",
    ".json": "H200 x4 2026-11-26: torch 2.11 pipelining and DTensor",
}
"""What was measured, by the suffix of its file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table of ERRORS: a line a rank, and behind each file's its mean and largest error."""
    print("case,pp_rank,predicted_bytes,error_frac,source")
    for path in map(Path, sys.argv[1:] if arguments is None else arguments):
        found = list(simumax_peaks(path) if path.suffix == ".csv" else torch_peaks(path))
        for peak in found:
            print(f"{peak.case},{peak.pp_rank},{peak.predicted},{peak.error_frac:.4f},{SOURCES[path.suffix]}")
        errors = [abs(peak.error_frac) for peak in found]
        print(f"# {path.name}: {len(found)} ranks, mean error {mean(errors):.2%}, largest {max(errors):.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
