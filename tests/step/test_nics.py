"""NICs in a whole step: shared where all GPUs of a host send, the nearest one's alone where one does."""

from __future__ import annotations

import pytest

from hwprofiles.catalog import load_node
from simulator import load_scenario, simulate_step
from simulator.results.step_result import CollectiveTime
from tests.laws.runs import changed
from tests.laws.scenarios import Document

NODE = load_node("h100-x8").model_dump(mode="json")
PIPELINE: Document = {
    "model": "llama-3.1-8b",
    "cluster": {"node": NODE, "num_gpus": 16, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 16, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 16},
    "draws": 1,
}


def rate(name: str, **changes: object) -> float:
    """GB/s of the slowest of a name: of a pipeline's hops one that leaves its host."""
    rows: tuple[CollectiveTime, ...] = simulate_step(load_scenario(changed(PIPELINE, **changes))).step.collectives
    return min(row.gb_per_s for row in rows if row.name == name)


def test_a_pipeline_inside_its_hosts_has_a_whole_nic_however_few_there_are() -> None:
    whole = rate("pipeline_send")
    for nics in (1, 2, 4):
        assert rate("pipeline_send", cluster={"node": NODE | {"nics_per_node": nics}}) == whole
    assert rate("pipeline_send", cluster={"node": NODE | {"nics_per_node": 16}}) > 1.8 * whole


def test_stages_as_wide_as_a_host_share_its_nics() -> None:
    wide = {"parallel": {"pp": 2}, "training": {"global_batch_size": 16}}
    whole = rate("pipeline_send", **wide)
    assert whole == pytest.approx(rate("pipeline_send"))
    half = rate("pipeline_send", **wide, cluster={"node": NODE | {"nics_per_node": 4}})
    assert half == pytest.approx(whole / 2, rel=0.02)
    few = NODE | {"nics_per_node": 4, "nic_bytes_per_s": "800 Gb/s"}
    ports = {"node": few, "fabric": "ib-800g-rail"}
    assert rate("pipeline_send", **wide, cluster=ports) == pytest.approx(whole, rel=1e-9)
