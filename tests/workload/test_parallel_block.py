"""A layer whose attention and FFN stand side by side: the same GEMMs, half of the collectives, one norm."""

from __future__ import annotations

from collections import Counter

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.model import ModelSpec
from simulator.step.step import simulate_step
from simulator.workload.layers.dense import saved
from simulator.workload.layers.part import PARTS
from simulator.workload.model_counts import count_parameters
from simulator.workload.op import Unit
from simulator.workload.saved import ActivationRecipe
from tests.workload.test_layers_brute_force import GQA, MLA, model, recipe
from tests.workload.test_tensor_parallel import WIDE, cut, flop

ATTENTIONS = pytest.mark.parametrize("attention", [WIDE, MLA], ids=["gqa", "mla"])


def parallel(spec: ModelSpec) -> ModelSpec:
    return spec.model_copy(update={"parallel_block": True})


def collectives(unit: Unit) -> Counter[tuple[str, str]]:
    return Counter((each.phase, each.op) for each in unit.collectives())


@ATTENTIONS
@pytest.mark.parametrize("dtype", ["bf16", "fp8-block"])
def test_the_gemms_are_the_same_and_one_norm_goes(attention: object, dtype: str) -> None:
    spec = model(attention)
    (plain,), (side,) = (PARTS["d"].units(each, recipe(dtype)) for each in (spec, parallel(spec)))
    assert flop(side) == flop(plain)
    gone = Counter(op.name for op in plain.ops()) - Counter(op.name for op in side.ops())
    assert set(gone) == {"ffn_norm", "ffn_norm_bwd"} | ({"ffn_quantise"} if dtype != "bf16" else set())
    assert not Counter(op.name for op in side.ops()) - Counter(op.name for op in plain.ops())


@ATTENTIONS
@pytest.mark.parametrize("shards", [True, False])
def test_one_gather_and_one_reduction_a_pass(attention: object, shards: bool) -> None:
    spec = model(attention)
    (plain,), (side,) = (PARTS["d"].units(each, cut(2, shards)) for each in (spec, parallel(spec)))
    before, after = collectives(plain), collectives(side)
    reduction = "reduce_scatter" if shards else "all_reduce"
    assert after["F", reduction] == 1 < before["F", reduction]
    if shards:
        assert after["I", "all_gather"] < before["I", "all_gather"]
        assert any(each.name == "ffn_down_grad_gather" for each in side.collectives())


def test_with_sequence_parallelism_a_layer_of_plain_attention_has_half_of_them() -> None:
    (plain,), (side,) = (PARTS["d"].units(each, cut(2, True)) for each in (model(WIDE), parallel(model(WIDE))))
    assert {key: 2 * n for key, n in collectives(side).items()} == dict(collectives(plain))


def test_parameters_and_kept_tensors_lose_one_norm() -> None:
    spec = model(GQA)
    whole, side = count_parameters(spec), count_parameters(parallel(spec))
    assert whole.num_parameters - side.num_parameters == spec.num_layers * spec.norm_params
    kept = [
        {tensor.name for block in saved(each, ActivationRecipe(tokens=64)) for tensor in block.saved}
        for each in (spec, parallel(spec))
    ]
    assert kept[0] - kept[1] == {"ffn.input", "ffn.norm_out"}


def test_a_step_is_faster_and_the_more_so_with_tensor_parallelism() -> None:
    def gain(*options: str) -> float:
        given = [
            "model.num_layers=4",
            "model.num_dense_layers=4",
            "cluster.num_gpus=8",
            "parallel.pp=1",
            "draws=1",
            *options,
        ]
        steps = [
            simulate_step(load_scenario("llama-3.1-70b", [*given, f"model.parallel_block={value}"])).step.step_s
            for value in ("false", "true")
        ]
        return steps[0] / steps[1]

    alone = gain("parallel.tp=1")
    shared = gain("parallel.tp=8", "parallel.sequence_parallel=true")
    assert 1.0 < alone < shared < 1.5


def test_experts_have_no_parallel_block() -> None:
    with pytest.raises(InputError, match=r"model\.parallel_block: is of dense models"):
        load_scenario("mixtral-8x22b", ["model.parallel_block=true"])
