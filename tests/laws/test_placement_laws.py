"""Laws of where ranks lie: more NICs and larger scale-up domains are never slower, nor are parts that are more even."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hwprofiles.catalog import load_node
from tests.laws.runs import ROUNDING, changed, simulate
from tests.laws.scenarios import Document

NODE = load_node("gb200-nvl72").model_dump(mode="json") | {"scale_up_domain_gpus": 4}
PLAN: Document = {
    "model": "deepseek-v2-lite",
    "cluster": {"node": NODE, "num_gpus": 64, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 2, "ep": 8, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 128},
    "moe": {"balance": "forced"},
    "device": {"speed_cv": 0.0},
    "draws": 1,
}


def step_s(**node: object) -> float:
    domain = node.pop("gpus_per_domain", None)
    cluster = {"node": NODE | node, "gpus_per_domain": domain}
    return simulate(changed(PLAN, cluster=cluster)).step_s


def test_more_nics_are_never_slower() -> None:
    steps = [step_s(nics_per_node=nics) for nics in (1, 2, 4, 8, 16)]
    assert all(after <= before * (1 + ROUNDING) for before, after in pairwise(steps))
    assert steps[2] < 0.8 * steps[0]


def test_as_many_bits_a_host_take_as_long_in_one_nic_as_in_many() -> None:
    ways = [step_s(nics_per_node=nics, nic_bytes_per_s=f"{400 // nics * 4} Gb/s") for nics in (4, 8, 16)]
    assert ways == pytest.approx([ways[0]] * 3, rel=1e-9)


def test_a_larger_domain_is_never_slower_at_equal_groups() -> None:
    steps = [step_s(scale_up_domain_gpus=size) for size in (4, 8, 16, 32, 64, 72)]
    assert all(after <= before * (1 + ROUNDING) for before, after in pairwise(steps))
    assert steps[1] < steps[0] and steps[-1] == steps[-2], "64 of 72 are used"


def test_the_default_is_never_slower_than_a_filled_domain() -> None:
    """Slower where a group of eight straddles two filled domains; in one of 72 all 64 GPUs lie together."""
    for size in (12, 20, 36):
        assert step_s(scale_up_domain_gpus=size) < step_s(scale_up_domain_gpus=size, gpus_per_domain=size)
    assert step_s(scale_up_domain_gpus=72) == step_s(scale_up_domain_gpus=72, gpus_per_domain=72)
