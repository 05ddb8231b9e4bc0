"""FFNs of two and three matrices, with and without biases: parameters, FLOP, bytes and what is kept, written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulator.scenario.model import DenseFfn, ModelSpec
from simulator.workload.layers.part import PARTS, WHOLE, Shard
from simulator.workload.op import Op
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import total_bytes
from tests.workload.test_layers_brute_force import (
    GQA,
    MOE,
    TOKENS,
    Counter,
    by_pass,
    model,
    recipe,
    run_attention,
    run_ffn,
)

T, H, F, FFN, ROWS = TOKENS, 32, 12, 40, 2 * TOKENS
GATED = {"swiglu": 2, "geglu": 2, "gelu": 1, "relu2": 1}


def of_kind(activation: str, *, bias: bool = False) -> ModelSpec:
    """The small model with FFNs of a kind."""
    changes = {"activation": activation, "bias": bias}
    ffn = DenseFfn(intermediate_size=FFN).model_copy(update=changes)
    return model(GQA).model_copy(update={"dense_ffn": ffn, "moe": MOE.model_copy(update=changes)})


@pytest.mark.parametrize("activation", GATED)
@pytest.mark.parametrize("code", ["d", "m"])
def test_flop_and_parameters_of_every_activation(activation: str, code: str) -> None:
    """Attention, the router, and the FFNs that a token passes: one dense, or the shared expert and two routed ones."""
    spec, counter, x, num_up = of_kind(activation), Counter(), np.ones((T, H)), GATED[activation]
    core = run_attention(counter, GQA, x)
    if code == "d":
        run_ffn(counter, x, FFN, num_up)
    else:
        counter.linear(x, MOE.num_routed_experts)
        for _ in range(1 + MOE.top_k):
            run_ffn(counter, x, F, num_up)
    for dtype in ("bf16", "fp8-block"):
        (unit,) = PARTS[code].units(spec, recipe(dtype))
        linear = counter.forward
        assert by_pass(unit, "model_flop") == pytest.approx({"F": linear + core, "I": linear + 2 * core, "W": linear})
    params, gated = PARTS[code].params(spec, WHOLE), PARTS[code].params(of_kind("swiglu"), WHOLE)
    assert params.gemm == sum(counter.weights)
    assert gated.dense - params.dense == (2 - num_up) * H * (FFN if code == "d" else F)
    assert params.expert == (0 if code == "d" else 8 * (num_up + 1) * H * F)


@pytest.mark.parametrize("activation", GATED)
def test_the_activation_reads_its_inputs_and_writes_its_product(activation: str) -> None:
    """BF16: num_up f in, f out; backward num_up f and the gradient in, num_up f out, and the product where it is made again."""
    num_up = GATED[activation]
    for modules in ((), ("swiglu",)):
        product = len(modules)
        for code, owners in (("d", {"ffn": T * FFN}), ("m", {"shared": T * F, "expert": ROWS * F})):
            ops = {op.name: op for op in PARTS[code].units(of_kind(activation), recipe("bf16", modules))[0].ops()}
            for owner, size in owners.items():
                one, back = ops[f"{owner}_swiglu"], ops[f"{owner}_swiglu_bwd"]
                assert (one.bytes_read, one.bytes_written) == (2 * num_up * size, 2 * size)
                assert (back.bytes_read, back.bytes_written) == (2 * (num_up + 1) * size, 2 * (num_up + product) * size)


@pytest.mark.parametrize("activation", GATED)
def test_kept_are_the_inputs_of_the_activation_and_its_product(activation: str) -> None:
    num_up, plain = GATED[activation], ActivationRecipe(tokens=T, ep=4)
    kept = {
        tensor.name: tensor.num_bytes
        for code in ("d", "m")
        for tensor in PARTS[code].saved(of_kind(activation), plain)[1].saved
        if "swiglu" in tensor.name
    }
    assert kept == {
        "ffn.swiglu_in": 2 * num_up * T * FFN, "ffn.swiglu_out": 2 * T * FFN, "expert.swiglu_in": 2 * num_up * ROWS * F,
        "expert.swiglu_out": 2 * ROWS * F, "shared.swiglu_in": 2 * num_up * T * F, "shared.swiglu_out": 2 * T * F,
    }  # fmt: skip
    (_, block) = PARTS["d"].saved(of_kind(activation), plain)
    working = {tensor.name: tensor.num_bytes for tensor in (*block.working_backward, *block.deferred)}
    assert working["ffn.swiglu_in_grad"] == working["ffn.up_grad"] == 2 * num_up * T * FFN
    fp8 = replace(plain, act_dtype="fp8-block", swiglu_in_dtype="fp8-block")
    saved = {tensor.name: tensor.num_bytes for tensor in PARTS["d"].saved(of_kind(activation), fp8)[1].saved}
    assert saved["ffn.swiglu_in"] == num_up * T * FFN + 4 * (num_up * T * FFN // 128)
    assert total_bytes(block.saved) == 2 * (2 * T * H + (num_up + 1) * T * FFN)


@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
def test_biases_are_parameters_and_sums_of_gradients(activation: str) -> None:
    """A bias a column of every projection; up ones are cut over tp with their columns, down ones are whole on each rank."""
    num_up = GATED[activation]
    plain, biased = of_kind(activation), of_kind(activation, bias=True)
    for shard in (WHOLE, Shard(tp=2, etp=2)):
        dense = [PARTS["d"].params(spec, shard) for spec in (plain, biased)]
        moe = [PARTS["m"].params(spec, shard) for spec in (plain, biased)]
        assert dense[1].dense - dense[0].dense == num_up * FFN // shard.tp + H
        assert dense[1].replicated - dense[0].replicated == H
        assert moe[1].dense - moe[0].dense == num_up * F // shard.tp + H
        assert moe[1].expert - moe[0].expert == 8 * (num_up * F // shard.etp + H)
        assert (dense[1].gemm, moe[1].gemm) == (dense[0].gemm, moe[0].gemm)
    rows = {"ffn": T, "shared": T, "expert": ROWS}
    widths = {"ffn": FFN, "shared": F, "expert": F}
    for code, owners in (("d", ("ffn",)), ("m", ("shared", "expert"))):
        (unit,) = PARTS[code].units(biased, recipe("bf16"))
        sums: dict[str, Op] = {op.name: op for op in unit.ops() if "bias_grad" in op.name}
        assert sums.keys() == {f"{owner}_{end}_bias_grad" for owner in owners for end in ("up", "down")}
        assert all(op in unit.blocks["mlp_w"] for op in sums.values())
        for owner in owners:
            for end, width in (("up", num_up * widths[owner]), ("down", H)):
                op = sums[f"{owner}_{end}_bias_grad"]
                assert (op.bytes_read, op.bytes_written) == (2 * rows[owner] * width + 4 * width, 4 * width)
                assert op.routed == (owner == "expert")
