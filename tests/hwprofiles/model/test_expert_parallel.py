"""Experts on several processes: the same results and gradients as one process, and as many copies as the routing rule says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.parallel import check
from hwprofiles.calibration.parallel.layout import Spread
from hwprofiles.calibration.parallel.wire import pack, unpack
from simulator.workload.routing_model import routing_statistics
from simulator.workload.routing_rule import RoutingRule
from tests.hwprofiles.model import expert_parallel_checks as checks
from tests.hwprofiles.model.processes import run_ranks

pytestmark = pytest.mark.slow

LAYOUTS = [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4)]
"""Ranks, and those of a node."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What 2 and 4 processes found, by their number."""
    return {ranks: run_ranks(checks.check, ranks, tmp_path_factory.mktemp("ranks"))[0] for ranks in (2, 4)}


@pytest.mark.parametrize("ranks", [2, 4])
def test_all_to_all_takes_uneven_and_empty_parts_in_every_format(results: dict[int, Any], ranks: int) -> None:
    assert results[ranks]["all_to_all"]["wrong"] == []
    assert "are to be sent" in results[ranks]["all_to_all"]["refusal"]


@pytest.mark.parametrize(("ranks", "per_node"), LAYOUTS)
def test_a_group_gives_what_one_process_gives(results: dict[int, Any], ranks: int, per_node: int) -> None:
    """Outputs, and gradients of tokens, weights and experts; the first rank has no token, and nobody chooses one expert."""
    assert max(results[ranks][f"float64 {per_node}"].values()) < 1e-12
    assert max(results[ranks][f"bf16 {per_node}"].values()) < 0.01
    assert results[ranks][f"fp8 {per_node}"]["weights"] < 0.1
    assert 0.01 < results[ranks][f"fp8 {per_node}"]["out"] < 0.05, "E4M3 has three bits after the point"


def test_ranks_may_be_divided_into_several_groups(results: dict[int, Any]) -> None:
    assert max(results[4]["halves"].values()) < 1e-12


@pytest.mark.parametrize(("ranks", "per_node"), LAYOUTS)
def test_one_copy_a_node_and_a_rank(results: dict[int, Any], ranks: int, per_node: int) -> None:
    got = results[ranks][f"counted bf16 {per_node}"]
    assert got["tokens"] == ranks * checks.TOKENS
    assert got["node_copies"] == (got["nodes"] if per_node < ranks else got["tokens"])
    assert got["rank_copies"] == got["ranks"]
    assert got["loads"], "experts' rows are not the group's loads"
    beside = 4 * checks.ROUTED.top_k  # the weights, FP32
    assert got["dispatch across"] == got["away"] * (2 * checks.HIDDEN + beside)
    assert got["dispatch inside"] == got["handed_on"] * (2 * checks.HIDDEN + beside)
    assert got["combine across"] == got["away"] * 2 * checks.HIDDEN
    assert got["combine inside"] == got["handed_on"] * 2 * checks.HIDDEN


@pytest.mark.parametrize("ranks", [2, 4])
def test_fp8_halves_what_is_dispatched_but_for_scales(results: dict[int, Any], ranks: int) -> None:
    got = results[ranks]["counted fp8"]
    a_copy = checks.HIDDEN + 4 * checks.HIDDEN // 128 + 4 * checks.ROUTED.top_k
    assert got["dispatch across"] == got["away"] * a_copy
    assert got["combine across"] == got["away"] * 2 * checks.HIDDEN, "what is combined stays in BF16"


def test_scales_on_the_wire_are_powers_of_two() -> None:
    """As DeepSeek-V3's (report 3.3.3). E4M3 is off by a sixteenth at most; a row need not be whole tiles wide."""
    x = torch.randn(5, 200, generator=torch.Generator().manual_seed(2))
    values, scales = pack(x, "fp8")
    assert (values.dtype, tuple(scales.shape)) == (torch.uint8, (5, 2))
    assert torch.equal(scales.log2(), scales.log2().round())
    assert torch.allclose(unpack((values, scales), "fp8", 200, torch.float32), x, rtol=1 / 16, atol=2.0**-10)


@pytest.mark.parametrize(("ranks", "per_node"), LAYOUTS)
def test_copies_a_token_are_the_simulators(results: dict[int, Any], ranks: int, per_node: int) -> None:
    """The simulator's routing model draws 8,192 tokens of its own; 5 standard errors of both, a token's spread below 0.9."""
    moe, got = checks.ROUTED, results[ranks][f"counted bf16 {per_node}"]
    rule = RoutingRule(
        moe.num_experts, moe.top_k, ranks, ranks // per_node, 1, 1000, moe.num_groups, moe.max_groups, moe.group_top,
        balance="forced",
    )  # fmt: skip
    expected = routing_statistics(rule, 1)
    error = 5 * 0.9 * (1 / 8192 + 1 / got["tokens"]) ** 0.5
    assert got["nodes"] / got["tokens"] == pytest.approx(expected.nodes_per_token, abs=error)
    assert got["rank_copies"] / got["tokens"] == pytest.approx(expected.ranks_per_token, abs=error)


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_model_on_a_group_gives_what_one_process_gives(results: dict[int, Any], ranks: int) -> None:
    """A step of two micro-batches: losses, gradients of experts (their rank's) and of all else (summed), loads, biases."""
    exact = results[ranks]["model"]["float64"]
    assert max(exact["losses"], exact["plain"]) < 1e-10
    assert exact["loads"]


def test_a_model_on_a_group_in_bf16(results: dict[int, Any]) -> None:
    coarse = results[2]["model"]["bf16"]
    assert coarse["losses"] < 0.02
    assert coarse["plain"] < coarse["rounding"] < 0.2, "further apart than BF16 is from float64"
    assert coarse["paired beside plain"] < 1e-6


@pytest.mark.parametrize("ranks", [2, 4])
def test_two_micro_batches_in_turn_give_the_same(results: dict[int, Any], ranks: int) -> None:
    """The overlapped one recomputes norms and activations too."""
    exact = results[ranks]["model"]["float64"]
    assert exact["paired"] < 1e-10
    assert exact["paired beside plain"] < 1e-14
    assert exact["infer beside train"] == 0


def test_the_order_in_a_pair_is_deepseeks(results: dict[int, Any]) -> None:
    """A transfer begins as soon as it can, and is waited for after a piece of the other micro-batch; of two layers."""
    layer = [
        "start combine(B)", "end combine(F)", "start dispatch(F)", "end combine(B)", "experts B", "start dispatch(B)",
        "end dispatch(F)", "experts F", "start combine(F)", "end dispatch(B)",
    ]  # fmt: skip
    told, pair = ";".join(results[2]["model"]["order"]), [*layer, *layer]
    pair.remove("end combine(F)")  # the first has no layer with experts below it
    assert told.count(";".join(pair)) == 1


def test_a_layer_is_not_recomputed_across_its_transfers(results: dict[int, Any]) -> None:
    assert results[2]["model"]["refused"].startswith("recompute: 'moe' would send all rows again")


def test_groups_that_cannot_be(results: dict[int, Any]) -> None:
    experts, nodes, groups = results[4]["refused"]
    assert "num_experts: 9 experts cannot be spread evenly over 4 ranks" in experts
    assert "ranks_per_node: nodes of 3 ranks do not divide an expert group of 4" in nodes
    assert "size: expert groups of 3 ranks do not divide the 4 ranks" in groups


def test_a_layer_of_other_experts_than_its_groups(results: dict[int, Any]) -> None:
    assert results[2]["unlike"] == "num_experts: the router has 32, the expert group was made for 8"


def test_a_rank_that_waits_alone_is_told(results: dict[int, Any]) -> None:
    assert "Timed out waiting 300ms" in results[2]["left alone"]


def test_copies_are_summed_in_fp32() -> None:
    """In BF16 each of the small ones would be lost beside the first; 1 + 255 / 512 is a BF16 number."""
    way = Spread.of(torch.zeros(256, dtype=torch.int64), torch.tensor([256]))
    copies = torch.full((256, 8), 2.0**-9, dtype=torch.bfloat16)
    copies[0] = 1
    found = way.sums(copies)
    assert found.dtype is torch.bfloat16 and torch.equal(found, torch.full((1, 8), 1 + 255 / 512).bfloat16())


def test_a_group_needs_processes() -> None:
    with pytest.raises(CalibrationError, match="call init_process_group first"):
        checks.expert_group(8, 1)


def test_a_format_that_is_unknown() -> None:
    with pytest.raises(CalibrationError, match="wire: 'fp9' is unknown; allowed as_is, bf16, fp8"):
        checks.ExpertDispatch(None, "fp9")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_check_of_a_device_rehearsed_on_processors(tmp_path: Path) -> None:
    """Two ranks as one node and as two: equality in every format, copies, and a step overlapped beside a plain one."""
    assert check.main(["-o", str(tmp_path / "found.json"), "--device", "cpu", "--small"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ranks"] == 2
    assert [(row["recipe"], row["wire"]) for row in found["equality"][:4]] == [
        ("float64", "as_is"), ("bf16", "bf16"), ("bf16", "fp8"), ("fp8-blockwise", "fp8"),
    ]  # fmt: skip
    assert {row["ranks_per_node"] for row in found["equality"]} == {1, 2}
    assert all(row["dispatch_s"] > 0 and row["combine_s"] > 0 for row in found["transfers"])
    assert all(row["gradient_norms_apart"] < 1e-6 and row["paired_s"] > 0 for row in found["steps"])
