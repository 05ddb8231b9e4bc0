"""Scenarios with a pipeline that folds to a V: chunks that follow from the schedule, layouts, and what contradicts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario import derived
from simulator.step.graph import order_of_actions

DENSE = ("cluster.num_gpus=32", "parallel.pp=4", "model.num_layers=16", "model.num_dense_layers=16")
V3 = "deepseek-v3"


def refused(*overrides: str, preset: str = "llama-3.1-70b", base: tuple[str, ...] = DENSE) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario(preset, [*base, *overrides])
    return str(caught.value)


@pytest.mark.parametrize("name", ["zb_v", "dualpipe_v"])
def test_chunks_left_out_are_the_schedule_s(name: str) -> None:
    scenario = load_scenario("llama-3.1-70b", [*DENSE, f"parallel.schedule={name}"])
    assert (scenario.parallel.vpp, derived.num_stages(scenario)) == (2, 8)
    assert order_of_actions(scenario).placement == ((0, 7), (1, 6), (2, 5), (3, 4))
    assert scenario == load_scenario("llama-3.1-70b", [*DENSE, f"parallel.schedule={name}", "parallel.vpp=2"])
    back = load_scenario("llama-3.1-70b", [*DENSE, f"parallel.schedule={name}", "parallel.schedule=zb_h1"])
    assert back.parallel.vpp == 1
    assert load_scenario(scenario.model_dump(by_alias=True)).parallel == scenario.parallel


def test_another_number_of_chunks_is_one_error() -> None:
    found = refused("parallel.schedule=zb_v", "parallel.vpp=4")
    assert "parallel.vpp: vpp 4, but zb_v has 2 chunks a rank, one each way; use vpp: 2, or leave it out" in found
    assert len(found.splitlines()) == 1
    assert "vpp 1, but dualpipe_v has 2 chunks" in refused("parallel.schedule=dualpipe_v", "parallel.vpp=1")


def test_a_layout_of_other_stages_goes_with_the_schedule() -> None:
    """The preset's 16 stages are DualPipe's; inherited chunks of interleaving fit a V where there are two."""
    below = "phases.pretrain.batch_ramp.schedule_below=zb_v"
    scenario = load_scenario(V3, ["parallel.schedule=dualpipe_v", below])
    assert scenario.parallel.layers_per_stage == (1, *(2,) * 30, 0), "the rank of both ends has the heads as well"
    assert derived.layout(scenario)[31] == ("mtp", "L")
    text = "parallel.layers_per_stage=E d | d*2 | (m*2)*29 | mtp L"
    assert derived.layout(load_scenario(V3, ["parallel.schedule=dualpipe_v", below, text]))[31] == ("mtp", "L")
    chunks = [
        "parallel.schedule=interleaved_1f1b",
        "parallel.vpp=2",
        "parallel.layers_per_stage=[1, 3, 2, 2, 2, 2, 3, 1]",
    ]
    kept = load_scenario("llama-3.1-70b", [*DENSE, *chunks, "parallel.schedule=zb_v"])
    assert kept.parallel.layers_per_stage == (1, 3, 2, 2, 2, 2, 3, 1)
    assert load_scenario("llama-3.1-405b").parallel.vpp > 2
    assert load_scenario("llama-3.1-405b", ["parallel.schedule=zb_v"]).parallel.vpp == 2


def test_an_inherited_layout_stays_where_the_number_of_chunks_does(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "schema_version: 1\nextends: llama-3.1-70b\nparallel: {layers_per_stage: [19, 20, 20, 21], pp: 4}\n"
    )
    for name, layout in {"zb_h1": (19, 20, 20, 21), "dualpipe": (19, 20, 20, 21), "zb_v": None}.items():
        assert load_scenario(path, [f"parallel.schedule={name}"]).parallel.layers_per_stage == layout


def test_small_batches_run_a_schedule_with_the_same_stages() -> None:
    """Parameters do not move between ranks within a run."""
    found = refused("parallel.schedule=dualpipe_v", preset=V3, base=())
    assert "1f1b cannot run the chunks of dualpipe_v: a rank holds other stages; use zb_v, or leave it out" in found
    ramp = "phases=[{name: a, tokens: 1e9, batch_ramp: {from: 32, over_tokens: 1e8, schedule_below: interleaved_1f1b}}]"
    found = refused("parallel.schedule=dualpipe_v", "training.global_batch_size=256", ramp)
    assert "interleaved_1f1b has its chunks on other ranks than dualpipe_v; use zb_v" in found
    scenario = load_scenario(V3, ["parallel.schedule=dualpipe_v", "phases.pretrain.batch_ramp.schedule_below=zb_v"])
    small = order_of_actions(scenario, 3072, "zb_v")
    assert small.placement == order_of_actions(scenario).placement


def test_the_split_is_a_switch_where_a_schedule_can_do_without() -> None:
    off = "parallel.split_backward=false"
    kinds = {action.kind for actions in order_of_actions(load_scenario(V3, [off])).ranks for action in actions}
    assert kinds == {"F", "B", "FB"}
    found = refused("parallel.schedule=zb_v", off)
    assert (
        "parallel.split_backward: false, but zb_v is made of weight gradients apart; use split_backward: true" in found
    )
    plain = load_scenario("llama-3.1-70b", [*DENSE, "parallel.schedule=1f1b", off])
    assert any("split_backward: false has no meaning in 1f1b" in warning for warning in plain.warnings)
    ramp = load_scenario(V3, ["parallel.schedule=dualpipe_v", "phases.pretrain.batch_ramp.schedule_below=zb_v", off])
    assert {action.kind for action in order_of_actions(ramp, 3072, "zb_v").ranks[0]} == {"F", "I", "W"}
