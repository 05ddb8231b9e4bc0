"""python -m validation.library_steps [DIR]: predicted steps of Hugging Face transformers, beside measured ones.

The models are those of hwprofiles/library_models.py; DIR is what `python -m hwprofiles.calibration.library_steps -o DIR`
writes, without one the committed rows serve. `--write FILE.csv` keeps predictions, so that they can be committed before
anything is measured. Inputs are a model's configuration, batch and sequence length, the node and its stack: nothing of the run.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import hwprofiles
from hwprofiles.library_models import MODELS, LibraryModel
from hwprofiles.units import GIBI, MILLI
from simulator import load_scenario
from simulator.errors import InputError
from simulator.results.document import to_document
from simulator.run.training_run import simulate_run
from validation.measured_memory import allocated

FRAMEWORK: Final = "transformers@5.17"
MEASURED: Final = Path(hwprofiles.__file__).parent / "measurements/h100-library-steps-2026-11-27.csv"
LOOP: Final = {"host_other_s": {"value": 0.0, "low": 0.0, "high": 0.002}}
"""The loop reads no loss, fetches no batch and writes no log between two steps."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """One model's step, seconds and their interval; bytes that torch allocates at most. refused: why there is none."""

    name: str
    judged: bool
    stack: str
    step_s: float = 0.0
    low_s: float = 0.0
    high_s: float = 0.0
    allocated_bytes: int = 0
    refused: str = ""


def scenario_of(model: LibraryModel, node: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The scenario of a measured step: one GPU, one micro-batch. more: keys beside these."""
    return {
        "schema_version": 1, "name": model.name, "framework": FRAMEWORK, "model": model_of(model),
        "cluster": {"node": node, "num_gpus": 1},
        "training": {"seq_len": model.seq, "global_batch_size": model.batch, "micro_batch_size": model.batch},
        "recompute": {"granularity": "full" if model.checkpointing else "none"},
        "phases": [{"name": "pretrain", "steps": 1}], "assumptions": LOOP, **(more or {}),
    }  # fmt: skip


def model_of(model: LibraryModel) -> dict[str, Any]:
    """The model section of a configuration of the library, by its own names of the same things."""
    config = model.config
    layers, hidden, width = config["num_hidden_layers"], config["hidden_size"], config.get("intermediate_size")
    experts = next(
        (config[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in config), 0
    )
    dense = config.get("first_k_dense_replace", 0) if experts else layers
    found: dict[str, Any] = {
        "name": model.name, "hidden_size": hidden, "vocab_size": config["vocab_size"], "num_layers": layers,
        "num_dense_layers": dense, "tied_embeddings": config["tie_word_embeddings"], "attention": _attention(config),
    }  # fmt: skip
    if dense:
        found["dense_ffn"] = {"intermediate_size": width}
    if experts:
        found["moe"] = {
            "num_routed_experts": experts, "num_shared_experts": config.get("n_shared_experts", 0),
            "top_k": config["num_experts_per_tok"], "expert_intermediate_size": config.get("moe_intermediate_size", width),
            "score": "sigmoid" if "routed_scaling_factor" in config else "softmax",
        }  # fmt: skip
        if config["model_type"] == "gpt_oss":
            found["moe"] |= {"bias": True, "clamp": 7.0}
    return found


def _attention(config: Mapping[str, Any]) -> dict[str, Any]:
    heads = config["num_attention_heads"]
    if "kv_lora_rank" in config:
        ranks = {key: config[key] for key in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")}
        return {"kind": "mla", "num_heads": heads, "q_lora_rank": config["q_lora_rank"] or 0, **ranks}
    is_gpt_oss = config["model_type"] == "gpt_oss"
    more = (
        {"sinks": True, "bias": True, "window": config["sliding_window"], "window_pattern": "w f"} if is_gpt_oss else {}
    )
    return {
        "kind": "gqa", "num_heads": heads, "num_kv_heads": config["num_key_value_heads"],
        "head_dim": config.get("head_dim", config["hidden_size"] // heads),
        "qk_norm": config["model_type"].startswith(("qwen3", "olmoe")), **more,
    }  # fmt: skip


def predict(model: LibraryModel, node: str, more: Mapping[str, Any] | None = None) -> Predicted:
    """One model's step on a node."""
    try:
        scenario = scenario_of(model, node, more)
        document = to_document(simulate_run(load_scenario(scenario)))
    except (InputError, ValueError) as error:
        return Predicted(model.name, model.judged, "", refused=" ".join(str(error).split()))
    step = document["step"]
    interval = step["interval"]
    return Predicted(
        model.name, model.judged, document["scenario"]["stack"] or "", step["step_s"], interval["low"], interval["high"],
        max(allocated(scenario)),
    )  # fmt: skip


def measured(folder: Path | None) -> dict[str, dict[str, Any]]:
    """Measured rows by model: of a folder of JSON files; None: those that are committed."""
    if folder is not None:
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    with MEASURED.open(encoding="utf-8", newline="") as file:
        return {
            row["model"]: {key: float(row[key]) for key in ("step_s", "peak_allocated_bytes")}
            for row in csv.DictReader(file)
        }


def lines(found: Iterable[Predicted], rows: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """A line a model: predicted, measured, error of the step; the same of the memory."""
    for each in found:
        if each.refused:
            yield f"{each.name:28} refused: {each.refused}"
            continue
        row = rows.get(each.name, {})
        text = f"{each.name:28} {each.step_s / MILLI:7.1f} ms ({each.low_s / MILLI:.1f} to {each.high_s / MILLI:.1f})"
        gib = f"{each.allocated_bytes / GIBI:6.2f} GiB"
        if "step_s" in row:
            step, peak = row["step_s"], row.get("peak_allocated_bytes", 0)
            text += f", measured {step / MILLI:7.1f}: {each.step_s / step - 1:+7.1%}"
            gib += f", measured {peak / GIBI:6.2f}: {each.allocated_bytes / peak - 1:+7.1%}" if peak else ""
        yield f"{text}; {gib}{'' if each.judged else '; development'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table. Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m validation.library_steps")
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR")
    parser.add_argument("--node", default="h100-x8")
    parser.add_argument("--stack", help="default: the node's own")
    parser.add_argument("--host-costs", help="as the scenario's host.costs")
    parser.add_argument("--write", type=Path, metavar="FILE.csv")
    given = parser.parse_args(arguments)
    more: dict[str, Any] = {"stack": given.stack} if given.stack else {}
    if given.host_costs:
        more["host"] = {"costs": given.host_costs}
    found = [predict(model, given.node, more) for model in MODELS]
    for line in lines(found, measured(given.folder)):
        sys.stdout.write(f"{line}\n")
    if given.write:
        with given.write.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [each.name for each in fields(Predicted)], lineterminator="\n")
            table.writeheader()
            table.writerows(asdict(each) for each in found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
