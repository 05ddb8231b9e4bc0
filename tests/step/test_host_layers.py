"""What layers of the torch model take the host: composed of measured parts, shared out to operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import fsum
from typing import Any

import pytest

from hwprofiles.hosts import dispatch_range
from hwprofiles.hosts.torch_model import PARTS, PASSES, key
from hwprofiles.proof_cases.sizes import gqa, mla, model, moe
from hwprofiles.proof_cases.step_cases import StepCase
from hwprofiles.provenance import Source
from hwprofiles.stack_records import Parameter
from simulator.scenario.scenario import Scenario
from simulator.step.host_layers import TorchLayers, torch_layers
from simulator.step.prepared import prepare
from simulator.workload.op import Unit
from validation.proof.scenarios import step_scenario

SOURCE = Source(kind="measurement", where="made up", date="2026-11-28")
SECONDS = {f"{part}_{way}": (idx + 3) * (1.0 + (way == "b")) * 1e-3 for idx, part in enumerate(PARTS) for way in PASSES}
COSTS = dispatch_range("eager").value
GROUPED = model("grouped", 512, gqa(8, 2, 64), layers=2, dense=1, dense_width=1024, experts=moe(40, 4, 256), vocab=1024)
LATENT = model(
    "latent", 512, mla(4, 128), layers=1, experts=moe(16, 4, 256, shared=1, score="sigmoid"), vocab=1024, num_mtp=1
)


def own(recipe: str) -> dict[str, Parameter]:
    """Parameters of a stack."""
    return {
        key(recipe, *name.rsplit("_", 1)): Parameter(
            value=value, low=value, high=value, unit="s", basis="measured", source=SOURCE
        )
        for name, value in SECONDS.items()
    }  # fmt: skip


def units(values: dict[str, Any], **ways: Any) -> tuple[Scenario, TorchLayers, list[Unit]]:
    case = StepCase(values, tokens=2048, **ways)
    scenario = step_scenario(case, "h100-public", "h100-x8")
    layers = torch_layers(scenario, own(case.recipe), 1.0)
    assert layers is not None
    return scenario, layers, list(prepare(scenario).workload.stages[0].units)


def taken(layers: TorchLayers, unit: Unit) -> Iterator[tuple[str, str, float]]:
    """Name of each operator, its block, its seconds."""
    blocks = layers.blocks(unit, COSTS)
    for block, work in unit.blocks.items():
        for op in work:
            yield op.name, block, blocks[block][id(op)]


def total(layers: TorchLayers, unit: Unit, way: str, *, beside: bool = False) -> float:
    ends = {"b": ("_b", "_w", "_b_local", "_b_routed")}.get(way, (f"_{way}", f"_{way}_local", f"_{way}_routed"))
    return fsum(
        seconds for name, block, seconds in taken(layers, unit)
        if block.endswith(ends) and name.startswith(("mtp_", "embedding")) == beside
        and not name.endswith(("_weight_cast", "_weight_turn", "_grad_sum"))
    )  # fmt: skip


def test_a_layer_takes_what_its_parts_do() -> None:
    _, layers, (dense, sparse, head) = units(GROUPED)
    experts = SECONDS["experts_f"] + 24 / 48 * (SECONDS["more_experts_f"] - SECONDS["experts_f"])
    assert total(layers, dense, "f") == pytest.approx(SECONDS["dense_f"])
    assert total(layers, sparse, "f") == pytest.approx(experts)
    assert total(layers, sparse, "b") == pytest.approx(2 * experts)
    assert total(layers, head, "f") == pytest.approx(SECONDS["head_f"] + SECONDS["chunk_f"])


def test_kinds_of_attention_and_experts_add_up() -> None:
    _, layers, found = units(LATENT)
    of = {name.removesuffix("_f"): value for name, value in SECONDS.items() if name.endswith("_f")}
    whole = (
        of["latent_q"] + (of["experts"] - of["dense"]) + (of["biased"] - of["experts"]) + (of["shared"] - of["experts"])
    )
    layer, _, ahead, _ = found
    assert total(layers, layer, "f") == pytest.approx(whole)
    assert total(layers, ahead, "f") == pytest.approx(whole)
    assert total(layers, ahead, "f", beside=True) > 0


def test_a_layer_computed_again_takes_its_forward_twice_and_more() -> None:
    _, layers, (dense, *_) = units(GROUPED, recompute=("layer",))
    dense_f, more = SECONDS["dense_f"], SECONDS["again_f"] / SECONDS["shared_f"]
    assert total(layers, dense, "f") == pytest.approx(dense_f * more)
    assert total(layers, dense, "b") == pytest.approx(SECONDS["dense_b"])
    again = (SECONDS["again_b"] - SECONDS["shared_b"]) / SECONDS["shared_f"]
    assert total(layers, dense, "r") == pytest.approx(dense_f * again)
    _, layers, (dense, *_) = units(GROUPED, recompute=("rmsnorm", "swiglu"))
    assert total(layers, dense, "b") == pytest.approx(
        SECONDS["dense_b"] * SECONDS["parts_again_b"] / SECONDS["shared_b"]
    )


def test_weights_are_made_anew_once_a_step() -> None:
    _, layers, (dense, *_) = units(GROUPED, recipe="fp8-blockwise", micro_batches=4)
    casts = [seconds for name, _, seconds in taken(layers, dense) if name.endswith("_weight_cast")]
    turns = [seconds for name, _, seconds in taken(layers, dense) if name.endswith("_weight_turn")]
    assert casts == pytest.approx([SECONDS["weight_f"] / 4] * 4)
    assert turns == pytest.approx([SECONDS["weight_b"] / 4] * 4)


def test_only_that_software_and_whole_measurements_have_them() -> None:
    scenario, _, _ = units(GROUPED)
    assert torch_layers(scenario, None, 1.0) is None
    assert torch_layers(scenario, own("fp8-row"), 1.0) is None
    assert (
        torch_layers(scenario, {name: each for name, each in own("bf16").items() if "biased" not in name}, 1.0) is None
    )
    assert torch_layers(scenario, {name: each for name, each in own("bf16").items() if ".weight" not in name}, 1.0)
    other = scenario.model_copy(update={"kernels": scenario.kernels.model_copy(update={"modules": "fused"})})
    assert torch_layers(other, own("bf16"), 1.0) is None


def test_a_layer_of_no_seconds_divides_none() -> None:
    scenario, _, _ = units(GROUPED)
    none = own("bf16")[key("bf16", "shared", "f")].model_copy(update={"value": 0.0, "low": 0.0})
    assert torch_layers(scenario, own("bf16"), 1.0)
    assert torch_layers(scenario, {**own("bf16"), key("bf16", "shared", "f"): none}, 1.0) is None


def test_a_slower_host_takes_longer_in_proportion() -> None:
    scenario, layers, (dense, *_) = units(GROUPED)
    slow = torch_layers(scenario, own("bf16"), 3.0)
    assert slow is not None
    assert total(slow, dense, "b") == pytest.approx(3 * total(layers, dense, "b"))
    assert replace(slow, first=1.0) == slow


def test_what_calls_more_takes_no_less_whatever_was_disturbed() -> None:
    """A dense layer measured on a slow core, and experts with a bias on a fast one."""
    scenario, _, units_of = units(LATENT)
    name, known = key("bf16", "biased", "f"), own("bf16")
    disturbed = {**known, name: known[name].model_copy(update={"value": 1e-6})}
    layers = torch_layers(scenario, disturbed, 1.0)
    assert layers is not None
    of = {name.removesuffix("_f"): value for name, value in SECONDS.items() if name.endswith("_f")}
    assert total(layers, units_of[0], "f") == pytest.approx(of["latent_q"] + of["shared"] - of["dense"])
