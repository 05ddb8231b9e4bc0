"""Law: a GPU is one file and a node another; nothing else is edited, and what nobody measured is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprofiles.catalog import load_gpu
from hwprofiles.efficiencies import load_efficiencies
from hwprofiles.stack_choice import default_stack, load_stack, stack_names, stack_provenance
from simulator import load_scenario, simulate_run, simulate_step
from tests.hwprofiles.conftest import forget
from tests.laws.runs import changed
from tests.laws.test_power import BUSY

GPU = """\
name: x1
vendor: Somebody
family: {family}
peak_flop_per_s: {{tf32: 1000 TFLOP/s, bf16: 2000 TFLOP/s, fp16: 2000 TFLOP/s, fp8: 4000 TFLOP/s}}
hbm_bytes: 192 GB
hbm_bytes_per_s: 8 TB/s
num_sms: 160
tdp_w: 1000 W
"""
NODE = """\
name: x1-x8
gpu: x1
gpus_per_node: 8
scale_up_name: a link
scale_up_bytes_per_s: 900 GB/s
scale_up_domain_gpus: 8
nic_bytes_per_s: 400 Gb/s
nics_per_node: 8
"""


def add(root: Path, family: str) -> None:
    (root / "gpus" / "x1.yaml").write_text(GPU.format(family=family))
    (root / "nodes" / "x1-x8.yaml").write_text(NODE)
    forget()


def test_two_files_are_enough_to_run_a_scenario(own_catalogue: Path) -> None:
    add(own_catalogue, "blackwell")
    assert default_stack("x1") == "x1-transfer" and "x1-transfer" in stack_names()
    result = simulate_run(load_scenario("mixtral-8x22b", ["cluster.node=x1-x8", "draws=2"]))
    assert result.stack == "x1-transfer" and result.step.step_s > 0
    assert not [warning for warning in result.warnings if "no GEMM" in warning]


def test_the_nearest_measured_family_serves_and_a_new_one_says_so(own_catalogue: Path) -> None:
    add(own_catalogue, "blackwell")
    own = load_stack("x1-transfer")
    assert own.provenance.caveat == ""
    add(own_catalogue, "blackwel")
    far = load_stack("x1-transfer")
    assert "family blackwel (an unknown family; allowed ampere, " in far.provenance.caveat
    assert "did you mean blackwell?" in far.provenance.caveat
    eta, own_eta = far.parameters["gemm.bf16.eta"], own.parameters["gemm.bf16.eta"]
    assert eta.source.note.startswith("of the family blackwell, not blackwel") and "family" not in own_eta.source.note
    near, wide = own.parameters["gemm.bf16.residual"], far.parameters["gemm.bf16.residual"]
    assert wide.low < near.low and wide.high > near.high
    result = simulate_run(load_scenario("mixtral-8x22b", ["cluster.node=x1-x8", "draws=2"]))
    assert [warning for warning in result.warnings if "no GEMM was measured on a GPU of the family" in warning]


@pytest.mark.parametrize(
    ("gpu", "says"), [("mi355x", True), ("a100", False), ("mi300x", False), ("h100", False), ("gb300", False)]
)
def test_a_family_without_measurements_is_a_caveat(gpu: str, says: bool) -> None:
    caveat = stack_provenance(f"{gpu}-transfer").caveat
    assert bool(caveat) == says
    if says:
        assert f"of the family {load_gpu(gpu).family}:" in caveat and f"{gpu} takes the shares that mi325x" in caveat


def test_every_parameter_of_another_family_names_both() -> None:
    for name in ("a100-transfer", "mi355x-transfer"):
        family = load_gpu(name.removesuffix("-transfer")).family
        measured_on = {group.gpu for group in load_efficiencies().groups if group.gpu}
        for key, parameter in load_stack(name).parameters.items():
            where = parameter.source.where.partition(":")[0]
            if where.startswith("reached on "):
                families = {load_gpu(gpu).family for gpu in where.removeprefix("reached on ").split(" and ")}
                assert {*where.removeprefix("reached on ").split(" and ")} <= measured_on
                assert (f"not {family}" in parameter.source.note) == (family not in families), key


LOOPS = {"kernels": {"attention": "fa3"}}
"""Kernels that were measured in loops, on the usual board."""


def test_a_board_that_is_set_lower_is_the_same_chip_under_a_cap(own_catalogue: Path) -> None:
    """Waiting power and the rates of first launches are the chip's, not the board's."""
    sheet = (own_catalogue / "gpus" / "h100.yaml").read_text(encoding="utf-8")
    assert sheet.count("\ntdp_w: 700 W\n") == 1
    lower = sheet.replace("name: h100\n", "name: lower\n").replace(
        "\ntdp_w: 700 W\n", "\ntdp_w: 500 W\nusual_tdp_w: 700 W\n"
    )
    (own_catalogue / "gpus" / "lower.yaml").write_text(lower, encoding="utf-8")
    node = (own_catalogue / "nodes" / "h100-x8.yaml").read_text(encoding="utf-8")
    of_lower = node.replace("name: h100-x8\n", "name: lower-x8\n").replace("gpu: h100\n", "gpu: lower\n")
    (own_catalogue / "nodes" / "lower-x8.yaml").write_text(of_lower, encoding="utf-8")
    forget()
    capped, set_lower = (
        simulate_step(load_scenario(changed(BUSY, cluster={"node": node}, stack=stack, device=device, **LOOPS))).step
        for node, stack, device in (
            ("h100-x8", "h100-public", {"power_cap_w": 500.0}), ("lower-x8", "lower-public", {}),
        )
    )  # fmt: skip
    assert set_lower.power is not None
    assert set_lower.power.limit_w == 500.0
    assert set_lower.step_s == pytest.approx(capped.step_s, rel=1e-9)
    assert set_lower.power == capped.power
