"""What a call takes in a model over what it takes in a loop: the catalogue's figure follows from the committed measurement."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import hwprofiles
from hwprofiles.calibration.machine import host_fit
from hwprofiles.hosts import KEYS, DispatchCosts, known_in_a_model, load_dispatch
from simulator import load_scenario
from simulator.costs.host_issue import issue_s
from simulator.workload.counted import count_workload
from simulator.workload.host_calls import is_backward

TABLE = Path(hwprofiles.__file__).parent / "measurements/h100-host-dispatch-2026-11-27.csv"
LAYER = {
    "schema_version": 1, "name": "layer", "cluster": {"node": "h100-x8", "num_gpus": 1},
    "model": {
        "name": "layer", "hidden_size": 512, "vocab_size": 256, "num_layers": 1, "num_dense_layers": 1,
        "dense_ffn": {"intermediate_size": 1024},
        "attention": {"kind": "gqa", "num_heads": 8, "num_kv_heads": 2, "head_dim": 64},
    },
    "kernels": {"modules": "moesim-torch"}, "training": {"seq_len": 16, "global_batch_size": 1},
    "phases": [{"name": "pretrain", "steps": 1}],
}  # fmt: skip
"""The dense layer of hwprofiles/calibration/host/layers.py."""


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return [
        {**row, "call": row["name"], "device": "cuda",
         "name": " ".join(filter(None, (row["name"], row["variant"], row["phase"])))}
        for row in found
    ]  # fmt: skip


def test_a_whole_layer_over_its_calls_in_loops() -> None:
    measured = rows()
    found = host_fit.parameters(measured, "here", "2026-11-27")
    tables, ratio = load_dispatch("eager"), found["host.seconds"].value
    costs = DispatchCosts(
        *(
            found[f"host.eager.{key}"].value if f"host.eager.{key}" in found else tables[key].value * ratio
            for key in KEYS
        )
    )
    layer = count_workload(load_scenario(LAYER), 1, None).stages[0].units[0]
    counted = {"forward": 0.0, "backward": 0.0}
    for block, ops in layer.blocks.items():
        for op in ops:
            if not op.name.startswith("embedding"):
                counted["backward" if is_backward(block) else "forward"] += issue_s(op, block, costs)
    whole = {row["phase"]: float(row["host_s"]) for row in measured if row["name"].startswith("dense_layer bf16")}
    for phase, seconds in counted.items():
        assert whole[phase] / seconds == pytest.approx(known_in_a_model().value, rel=0.03), phase
