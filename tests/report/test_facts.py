"""What the head of every report says of how a run was asked for."""

from __future__ import annotations

from simulator import load_scenario, simulate_run
from simulator.report.facts import machines_line


def test_the_frameworks_release_stands_beside_the_layout() -> None:
    """It sets keys that the reader has not written."""
    small = ["cluster.num_gpus=16", "parallel.pp=2", "model.num_layers=4", "model.num_dense_layers=4", "draws=1"]
    plain = machines_line(simulate_run(load_scenario("llama-3.1-70b", small)))
    told = machines_line(simulate_run(load_scenario("llama-3.1-70b", [*small, "framework=nemo@24.07"])))
    assert told.endswith(" · nemo@24.07")
    assert "nemo" not in plain
    assert not plain.endswith("· ")
