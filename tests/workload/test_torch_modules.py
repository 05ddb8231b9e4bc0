"""kernels.modules: moesim-torch counts the functions that the torch model calls: their bytes and launches, by torch itself.

Operands are on the device `meta`, in BF16, as on a GPU; what torch calls there is counted by hwprofiles' counting/traffic.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from hwprofiles.calibration.counting.traffic import Traffic
from hwprofiles.calibration.model import config, rope
from hwprofiles.calibration.model.activation import activate
from hwprofiles.calibration.model.dispatch import permute, unpermute
from hwprofiles.calibration.model.ffn import Ffn
from hwprofiles.calibration.model.head import cross_entropy
from hwprofiles.calibration.numerics.numerics import Plain
from hwprofiles.proof_cases.layer_cases import LayerCase, small
from hwprofiles.proof_cases.sizes import gqa, mla, model, moe
from simulator.step.prepared import PreparedStep, prepare
from simulator.workload.op import Op
from validation.proof.predict import layer_operators
from validation.proof.scenarios import layer_scenario

TOKENS, HIDDEN, TOP_K, WIDTH, VOCABULARY, DIM, HEADS = 2048, 256, 4, 512, 1024, 64, 4
EXPERTS = moe(8, TOP_K, WIDTH, shared=1)
STACK, NODE = "h100-public", "h100-x8"


def operators(kind: Any, values: Mapping[str, Any], recipe: str = "bf16") -> dict[str, Op]:
    case = LayerCase(kind, recipe, values, TOKENS)
    return {op.name: op for op in layer_operators(prepare(layer_scenario(case, STACK, NODE)), case)}


MOE = model("experts", HIDDEN, gqa(2, 2, DIM), experts=EXPERTS, vocab=VOCABULARY)
DENSE = model("dense", HIDDEN, gqa(2, 2, DIM), dense_width=WIDTH, vocab=VOCABULARY)
GQA = model("grouped", HIDDEN, gqa(HEADS, 2, DIM), dense_width=WIDTH, vocab=VOCABULARY)
LATENT = model("latent", HIDDEN, mla(HEADS, 0, 128, DIM, 32, DIM), dense_width=WIDTH, vocab=VOCABULARY)


def numbers(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta").requires_grad_(dtype.is_floating_point)


def both(call: Callable[..., torch.Tensor], *operands: torch.Tensor) -> tuple[Traffic, Traffic]:
    """What a call and its gradients by all operands that have one move."""
    with Traffic() as forward:
        out = call(*operands)
    wanted = [each for each in operands if each.requires_grad]
    grad = torch.empty_like(out)
    with Traffic() as backward:
        torch.autograd.grad(out, wanted, grad)
    return forward, backward


def same(op: Op, traffic: Traffic, *, rel: float = 1e-6) -> None:
    assert op.shape.bytes == pytest.approx(traffic.bytes, rel=rel), op.name
    assert op.shape.num_kernels == traffic.launches, op.name


def test_activations_are_counted_as_torch_calls_them() -> None:
    counted = operators("moe", MOE)
    forward, backward = both(lambda x: activate(x, "swiglu"), numbers(TOKENS, 2 * WIDTH))
    same(counted["shared_swiglu"], forward)
    same(counted["shared_swiglu_bwd"], backward)
    weights = numbers(TOKENS * TOP_K, dtype=torch.float32)
    call = lambda x, w: activate(x, "swiglu", w)  # noqa: E731
    forward, backward = both(call, numbers(TOKENS * TOP_K, 2 * WIDTH), weights)
    same(counted["expert_swiglu"], forward, rel=1e-3)  # the weights themselves, four bytes a row, are left out
    same(counted["expert_swiglu_bwd"], backward, rel=1e-3)


def test_turning_heads_is_counted_as_torch_calls_it() -> None:
    counted = operators("gqa", GQA)
    tables = [numbers(TOKENS, DIM // 2, dtype=torch.float32).detach() for _ in range(2)]
    forward, backward = both(lambda x: rope.apply(x, *tables), numbers(1, TOKENS, HEADS, DIM))
    same(counted["q_rope"], forward)
    same(counted["q_rope_bwd"], backward)


def test_rows_are_spread_and_collected_as_torch_does_it() -> None:
    counted = operators("moe", MOE)
    order = torch.empty(TOKENS * TOP_K, dtype=torch.int64, device="meta")
    spread, collected = both(lambda x: permute(x, order, TOP_K), numbers(TOKENS, HIDDEN))
    same(counted["permute"], spread, rel=0.03)  # the order, 24 bytes a row, is left out
    same(counted["unpermute_bwd"], collected)
    collected, spread = both(lambda rows: unpermute(rows, order, TOP_K), numbers(TOKENS * TOP_K, HIDDEN))
    same(counted["unpermute"], collected)
    same(counted["permute_bwd"], spread, rel=0.03)


def test_the_loss_is_counted_as_torch_calls_it() -> None:
    counted = operators("head", DENSE)
    targets = torch.empty(TOKENS, dtype=torch.int64, device="meta")
    forward, backward = both(lambda logits: cross_entropy(logits, targets), numbers(TOKENS, VOCABULARY))
    same(counted["loss"], forward, rel=0.005)
    same(counted["loss_bwd"], backward, rel=0.005)


def test_a_network_launches_what_torch_launches_for_it() -> None:
    """All of a feed-forward network's functions, its products too; norm and residual are the layer's."""
    counted = operators("dense", DENSE)
    names = [name for name in counted if "norm" not in name and "residual" not in name]
    with torch.device("meta"):
        network = Ffn(config.Ffn(WIDTH), HIDDEN, Plain("bf16", torch.bfloat16))
    x = numbers(1, TOKENS, HIDDEN)
    with Traffic() as forward:
        out = network(x)
    grad = torch.empty_like(out)
    with Traffic() as backward:
        torch.autograd.grad(out, (x, *network.parameters()), grad)
    own = [counted[name] for name in names]
    for phases, traffic in (("F", forward), ("IW", backward)):
        ops = [op for op in own if op.phase in phases]
        assert sum(op.shape.num_kernels for op in ops) == traffic.launches
        assert sum(op.shape.bytes for op in ops) == pytest.approx(traffic.bytes, rel=1e-6)


@pytest.mark.parametrize("values", [MOE, DENSE, GQA, LATENT], ids=lambda values: values["name"])
def test_nothing_is_lost_or_worked_twice(values: Mapping[str, Any]) -> None:
    """FLOP and the model's own work are those of any other software; every weight has its gradient's cast."""

    def step(modules: str) -> PreparedStep:
        case = LayerCase("moe" if "moe" in values else "dense", "bf16", values, TOKENS)
        scenario = layer_scenario(case, STACK, NODE)
        kernels = scenario.kernels.model_copy(update={"modules": modules})
        return prepare(scenario.model_copy(update={"kernels": kernels}))

    own, fused = step("moesim-torch").workload, step("fused").workload
    assert own.flop == fused.flop
    work = [sum(op.model_flop for unit in each.stages[0].units for op in unit.ops()) for each in (own, fused)]
    assert work[0] == work[1]
    for unit in own.stages[0].units:
        names = {op.name for op in unit.ops()}
        for op in unit.ops():
            if op.shape.bound == "gemm" and op.shape.variant == "wgrad":
                assert op.name.replace("_wgrad", "_grad_cast") in names


def test_fp8_products_quantise_each_operand_once_and_write_fp32() -> None:
    counted = operators("moe", MOE, "fp8-blockwise")
    assert [name for name in counted if name.endswith("_quantise")] == [
        "shared_up_quantise", "shared_down_quantise", "expert_up_quantise", "expert_down_quantise",
        "shared_down_dgrad_quantise", "shared_up_dgrad_quantise", "expert_down_dgrad_quantise", "expert_up_dgrad_quantise",
    ]  # fmt: skip
    for name in ("shared_up", "shared_down", "expert_up", "expert_down"):
        wgrad = counted[f"{name}_wgrad"].shape
        assert (wgrad.dtype, wgrad.result) == ("fp8-block", "fp32") and f"{name}_grad_cast" not in counted
        assert {f"{name}_grad_turn", f"{name}_input_turn"} <= counted.keys()
    assert counted["expert_up"].shape.library == "loop" and counted["expert_up"].shape.num_kernels == 8
    assert counted["router"].shape.dtype == "bf16"


def test_gradients_are_added_up_over_micro_batches_alone() -> None:
    case = LayerCase("dense", "bf16", DENSE, TOKENS)
    scenario = layer_scenario(case, STACK, NODE)
    more = scenario.training.model_copy(update={"global_batch_size": 4})
    four = prepare(scenario.model_copy(update={"training": more}))
    sums = {op.name: op for op in four.workload.stages[0].units[0].ops() if op.name.endswith("_grad_sum")}
    assert {"ffn_up_grad_sum", "ffn_down_grad_sum", "o_grad_sum", "qkv_grad_sum"} <= sums.keys()
    assert sums["ffn_down_grad_sum"].shape.bytes == 12 * HIDDEN * WIDTH * 3 // 4
    assert not [op for op in operators("dense", DENSE).values() if op.name.endswith("_grad_sum")]


def test_every_small_layer_has_a_price() -> None:
    for case in small():
        if case.recipe == "bf16":
            step = prepare(layer_scenario(case, STACK, NODE))
            assert all(step.kernels.unshared_seconds(op).seconds > 0 for op in layer_operators(step, case))
