"""How many calls issue a layer, and which graph holds them: against torch's own counts, monotone, nothing left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hwprofiles.hosts import dispatch_range
from simulator import load_scenario
from simulator.costs.host_issue import calls_s, issue_s, preprocess_s, unit_s
from simulator.step.prepared import count
from simulator.workload import counting as c
from simulator.workload.host_calls import Calls, calls_of, graph_scope, is_backward, preprocess_calls
from simulator.workload.op import BLOCKS, AllToAll, Collective, Unit, Work

COSTS = dispatch_range("transformer_engine").value
DISPATCH = AllToAll("dispatch", "F", 4096, 4096, 1, 8, 1.0, 5.0)


def units(preset: str, *overrides: str) -> tuple[Unit, ...]:
    workload = count(load_scenario(preset, overrides)).workload
    return tuple(unit for stage in workload.stages for unit in stage.units)


def work(unit: Unit) -> Iterator[tuple[Work, str]]:
    for block in BLOCKS:
        for each in unit.blocks.get(block, ()):
            yield each, block


@pytest.fixture(scope="module")
def v3() -> dict[str, Unit]:
    return {unit.kind: unit for unit in units("deepseek-v3")}


def test_blocks_of_backwards() -> None:
    expected = {block: "_b" in block or "_w" in block for block in BLOCKS}
    assert {block: is_backward(block) for block in BLOCKS} == expected
    assert not is_backward("dispatch_r")
    assert is_backward("combine_b")


def test_every_operator_is_issued_by_something(v3: dict[str, Unit]) -> None:
    for unit in v3.values():
        assert all(calls_of(each, block).number >= 1 for each, block in work(unit))
        assert all(issue_s(each, block, COSTS) > 0 for each, block in work(unit))


def test_scopes_cover_a_layer(v3: dict[str, Unit]) -> None:
    dense = {graph_scope(each, block, "dense") for each, block in work(v3["dense"])}
    routed = {graph_scope(each, block, "moe") for each, block in work(v3["moe"])}
    assert dense == {"attn", "mlp"}
    assert routed == {"attn", "moe", "moe_router", "moe_preprocess"}
    assert {graph_scope(each, block, "head") for each, block in work(v3["head"])} == {None}
    names = {each.name: graph_scope(each, block, "moe") for each, block in work(v3["moe"])}
    assert (names["router"], names["ffn_norm"], names["expert_up"], names["permute"]) == (
        "moe_router", "moe_router", "moe", "moe",
    )  # fmt: skip
    assert {scope for name, scope in names.items() if name.startswith("shared")} == {"moe_router"}
    assert {graph_scope(each, "shared_f_up", "moe") for each, _ in work(v3["moe"])} == {"moe"}


@pytest.mark.parametrize("library", ["loop", "grouped"])
def test_grouped_layers_cost_by_the_expert(library: str) -> None:
    def seconds(groups: int, dtype: str = "bf16", variant: str = "fprop") -> float:
        op = c.wgrad("up", dtype, 512, 64, 32) if variant == "wgrad" else c.fprop("up", dtype, 512, 64, 32)
        return issue_s(c.grouped(op, groups, library), "mlp_w" if variant == "wgrad" else "mlp_f_routed", COSTS)

    one = COSTS.looped_expert_f_s if library == "loop" else COSTS.grouped_expert_f_s
    assert seconds(64) - seconds(8) == pytest.approx(56 * one)
    for dtype, casts in (("fp8-block", 1), ("mxfp8", 2)):
        assert seconds(8, dtype) - seconds(8) == pytest.approx(8 * casts * COSTS.expert_cast_s)
    hooks = COSTS.parameter_s * (8 if library == "loop" else 1)
    assert seconds(8, variant="wgrad") == pytest.approx(
        COSTS.module_b_s + hooks + 8 * (COSTS.looped_expert_b_s if library == "loop" else COSTS.grouped_expert_b_s)
    )


def test_a_forward_is_not_a_backward() -> None:
    op = c.fprop("proj", "bf16", 64, 32, 16)
    assert issue_s(op, "attn_f", COSTS) == COSTS.module_f_s
    assert issue_s(c.dgrad("proj_dgrad", "bf16", 64, 32, 16), "attn_b", COSTS) == COSTS.module_b_s
    (again,) = c.again([op])
    assert issue_s(again, "attn_b", COSTS) == COSTS.module_f_s
    assert issue_s(again, "attn_r", COSTS) == COSTS.module_f_s


def test_other_kinds_of_calls() -> None:
    assert calls_of(c.quantise("x", 64, 128), "attn_f") == Calls(False, cast=1)
    assert calls_of(c.copy("x", 64, 64, kernels=4), "attn_f") == Calls(False, launch=4)
    assert calls_of(c.rmsnorm_bwd("x", 64, 128), "attn_b") == Calls(True, function=1, parameter=1)
    assert calls_of(c.moved("x", "router_fused", "F", 8, 8, kernels=3), "attn_f") == Calls(False, function=3)
    assert calls_of(Collective("x", "all_gather", "tp", 64, "I"), "attn_b") == Calls(True, collective=1)
    assert calls_of(DISPATCH, "dispatch_b") == Calls(True, message=1)
    assert unit_s("attn_f", COSTS) == COSTS.layer_f_s
    assert unit_s("attn_b", COSTS) == COSTS.layer_b_s
    both = Calls(False, launch=1) + Calls(False, launch=2, module=1)
    assert both == Calls(False, launch=3, module=1)
    assert calls_s(both, COSTS) == pytest.approx(3 * COSTS.launch_f_s + COSTS.module_f_s)


def test_counts_are_worked_out_in_front_of_a_dispatch_alone() -> None:
    assert preprocess_s(DISPATCH, "dispatch_f", COSTS) == pytest.approx(
        preprocess_calls(DISPATCH).launch * COSTS.launch_f_s
    )
    assert preprocess_s(DISPATCH, "combine_b", COSTS) == 0
    assert preprocess_s(replace(DISPATCH, op="combine"), "combine_f", COSTS) == 0


def test_products_are_as_many_as_torch_runs() -> None:
    """A dense FFN of the torch model: its matrix products forward and backward, by torch's profiler."""
    torch = pytest.importorskip("torch")
    from hwprofiles.calibration.model import config
    from hwprofiles.calibration.model.ffn import Ffn
    from hwprofiles.calibration.numerics.recipes import numerics

    ffn = Ffn(config.Ffn(32), 16, numerics("float32"), frozenset())
    x = torch.randn(1, 4, 16, requires_grad=True)

    def products(call: object) -> int:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            call()  # type: ignore[operator]
        return sum(each.name == "aten::mm" for each in found.events())

    out = ffn(x)
    ran = products(lambda: ffn(x)), products(lambda: out.sum().backward())
    dense = next(unit for unit in units("deepseek-v3", "precision.recipe=bf16") if unit.kind == "dense")
    counted = [
        sum(calls_of(each, block).module for each, block in work(dense) if block.startswith("mlp") and test(block))
        for test in (lambda block: not is_backward(block), is_backward)
    ]
    assert tuple(counted) == ran


def test_what_a_sender_does_with_rows_is_captured_with_its_counts() -> None:
    sent = next(unit for unit in units("mixtral-8x22b", "moe.dispatcher=alltoall") if unit.kind == "moe")
    scopes = {each.name: graph_scope(each, block, "moe") for each, block in work(sent)}
    assert (scopes["permute_send"], scopes["expert_up"], scopes["unpermute_send"]) == ("moe_preprocess", "moe", "moe")


def test_counts_of_a_collective_take_more_launches() -> None:
    """31 and 17 kernels in router and preprocessing, of which four are the router's."""
    calls = [
        preprocess_calls(replace(DISPATCH, dispatcher=name)).launch for name in ("alltoall", "allgather", "deepep")
    ]
    assert calls == [31 - 4, 31 - 4, 17 - 4]


def test_casts_of_routed_rows_are_plain_launches() -> None:
    """An expert's casts are the grouped product's own calls."""
    cast = c.moved("quantise", "quantise", "F", 1, 1, kernels=2)
    assert calls_of(cast, "mlp_f_routed") == Calls(False, cast=1)
    assert calls_of(replace(cast, routed=True), "mlp_f_routed") == Calls(False, launch=2)
