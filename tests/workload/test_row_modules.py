"""Recipe fp8-row of the torch model: what quantises is counted as torch calls it, a scenario that asks for it is answered."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("torch")

import torch

from hwprofiles.calibration.counting.traffic import Traffic
from hwprofiles.calibration.model import config
from hwprofiles.calibration.model.balance import Balancing, balance_loss
from hwprofiles.calibration.model.dispatch import expert_counts
from hwprofiles.calibration.model.router import Routing
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.rowwise import LibraryRowwise
from hwprofiles.kernels.shape import FEW
from hwprofiles.proof_cases.layer_cases import LayerCase
from hwprofiles.proof_cases.sizes import gqa, mla, model, moe
from hwprofiles.proof_cases.step_cases import StepCase
from simulator.step.prepared import prepare
from simulator.step.step import simulate_step
from simulator.workload.modules.moesim_memory import with_torch_functions
from simulator.workload.op import Op
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory, total_bytes
from validation.proof.predict import layer_operators
from validation.proof.scenarios import layer_scenario, step_scenario

TOKENS, HIDDEN, TOP_K, WIDTH, EXPERTS = 2048, 256, 4, 512, 8
MOE = model("experts", HIDDEN, gqa(2, 2, 64), experts=moe(EXPERTS, TOP_K, WIDTH, shared=1), vocab=1024)
LATENT = model("latent", HIDDEN, mla(4, 128, 128, 64, 32, 64), dense_width=WIDTH, vocab=1024)
STACK, NODE = "h100-measured", "h100-x8"
EVEN, UNEVEN = (TOKENS * TOP_K // EXPERTS,) * EXPERTS, (1025, 1023, *(1024,) * 6)


def operators(load: str = "even", tokens: int = TOKENS) -> list[Op]:
    case = LayerCase("moe", "fp8-row", MOE, tokens, load=load)  # type: ignore[arg-type]
    return list(layer_operators(prepare(layer_scenario(case, STACK, NODE)), case))


def beginning(ops: Sequence[Op], name: str, *ends: str) -> list[Op]:
    return [op for op in ops if op.name.startswith(name) and any(end in op.name.removeprefix(name) for end in ends)]


COLUMNS = ("_largest", "_scales", "_quotients", "_octets")


@pytest.mark.parametrize("groups", [(TOKENS,), EVEN], ids=["dense", "experts"])
def test_columns_are_made_by_the_functions_that_torch_calls(groups: tuple[int, ...]) -> None:
    name, width = ("shared_down_grad", HIDDEN) if len(groups) == 1 else ("expert_down_grad", HIDDEN)
    own = beginning(operators(), name, *COLUMNS)
    rows = torch.empty(sum(groups), width, dtype=torch.bfloat16, device="meta")
    LibraryRowwise().columns(rows, Groups(groups))  # which row is whose is found once for a layer
    with Traffic() as traffic:
        LibraryRowwise().columns(rows, Groups(groups))
    assert sum(op.shape.num_kernels for op in own) == traffic.launches
    of_few = 4 * sum(groups) * width if len(groups) > 1 else 0  # scales that rows look up stay in the cache
    assert sum(op.shape.bytes for op in own) == pytest.approx(
        traffic.bytes - of_few, rel=0.005
    )  # numbers a column are few


def test_each_expert_has_the_rows_that_are_given() -> None:
    case = LayerCase("moe", "fp8-row", MOE, TOKENS, load="skewed")
    found = {op.name: op.shape for op in operators("skewed")}
    for idx, rows in enumerate(case.rows):
        padded = rows + -rows % 16
        largest = found[f"expert_down_grad_largest_{idx}"]
        assert (largest.m, largest.n, largest.bytes) == (padded, HIDDEN, 6 * padded * HIDDEN)
        assert largest.library == ("torch-largest" if padded >= 1024 else "torch-largest-few")
    assert {found[f"expert_up_input_largest_{idx}"].library for idx in (0, EXPERTS - 1)} == {
        "torch-largest", "torch-largest-few"
    }  # fmt: skip


def test_rows_that_are_no_multiple_of_16_are_spread_in_front_of_columns_alone() -> None:
    assert not beginning(operators(), "", "_zeros", "_spread")
    for ops in (operators("skewed"), operators(tokens=TOKENS + 2)):
        assert sorted(op.name for op in beginning(ops, "", "_zeros")) == [
            "expert_down_grad_zeros", "expert_down_input_zeros", "expert_up_grad_zeros", "expert_up_input_zeros",
        ]  # fmt: skip


def test_operands_and_weights_are_quantised_as_often_as_torch_does_it() -> None:
    case = LayerCase("moe", "fp8-row", MOE, TOKENS)
    (unit, *_) = prepare(layer_scenario(case, STACK, NODE)).workload.stages[0].units
    ops = {op.name: op for op in unit.ops()}
    with Traffic() as of_rows:
        LibraryRowwise().operand(torch.empty(TOKENS, HIDDEN, dtype=torch.bfloat16, device="meta"))
    for name in ("shared_up_quantise", "shared_down_dgrad_quantise"):
        assert ops[name].shape.num_kernels == of_rows.launches
        assert ops[name].shape.bytes == pytest.approx(of_rows.bytes, rel=0.02)
    with Traffic() as of_weight:
        LibraryRowwise().quantised_weight(torch.empty(EXPERTS, HIDDEN, WIDTH, device="meta"))
    cast, turn = ops["expert_down_weight_cast"].shape, ops["expert_down_weight_turn"].shape
    assert cast.num_kernels + turn.num_kernels == of_weight.launches
    scales = 8 * EXPERTS * HIDDEN * WIDTH  # read again by the quotients
    assert cast.bytes + turn.bytes + scales == pytest.approx(of_weight.bytes, rel=0.02)
    assert ops["expert_up"].shape.library == "grouped" and ops["expert_up"].shape.num_kernels == 1
    for layer in ("shared_up", "expert_up", "qkv"):
        assert ops[f"{layer}_wgrad"].shape.result == "bf16" and f"{layer}_grad_cast" in ops
        assert f"{layer}_input_turn" in ops and f"{layer}_grad_turn" in ops
    phases = [(op.name, op.phase) for op in unit.ops() if op.name.endswith("_input_quotients")]
    assert ("o_input_quotients", "W") in phases and ("qkv_input_quotients", "F") in phases and "o_quantise_again" in ops
    assert len(set(phases)) == len({name for name, _ in phases})  # forward, or for wgrad from what stayed as it was
    assert (ops["expert_up_weight_turn"].phase, ops["expert_up_weight_cast"].phase) == ("F", "F")
    assert {op.shape.library for op in unit.ops() if "_largest_" in op.name and op.name.startswith("expert")} == {
        "torch-largest"
    }  # fmt: skip


def test_latents_of_one_input_are_quantised_once() -> None:
    case = LayerCase("mla", "fp8-row", LATENT, TOKENS)
    names = {op.name for op in layer_operators(prepare(layer_scenario(case, STACK, NODE)), case)}
    assert {"q_down_quantise", "q_down_input_quotients", "kv_down_grad_quotients", "kv_down_dgrad_quantise"} <= names
    assert not {"kv_down_quantise", "kv_down_input_quotients"} & names


@pytest.mark.parametrize("values", [MOE, LATENT], ids=lambda values: values["name"])
def test_a_step_in_the_recipe_is_answered(values: dict[str, object]) -> None:
    step = simulate_step(step_scenario(StepCase(values, "fp8-row", TOKENS), STACK, NODE))
    plain = simulate_step(step_scenario(StepCase(values, "bf16", TOKENS), STACK, NODE))
    assert 0.0 < plain.step.step_s < step.step.step_s  # small products: quantising costs more than they save


def test_what_a_router_counts_is_called_as_often_as_torch_calls_it() -> None:
    """The balance loss, its gradient, and the loads of a router without bias."""
    case = LayerCase("moe", "bf16", MOE, TOKENS)
    ops = {op.name: op for op in layer_operators(prepare(layer_scenario(case, STACK, NODE)), case)}
    scores = torch.empty(TOKENS, EXPERTS, device="meta").requires_grad_()
    experts = torch.empty(TOKENS, TOP_K, dtype=torch.int64, device="meta")
    weights = torch.empty(TOKENS, TOP_K, device="meta")
    sizes = config.Moe(num_experts=EXPERTS, top_k=TOP_K, expert=config.Ffn(WIDTH), num_shared=1, score="softmax")
    with Traffic() as forward:
        loss = balance_loss(Routing(experts, weights, scores), sizes, Balancing(rule="aux_loss"), 1)
    assert loss is not None
    with Traffic() as backward:
        torch.autograd.grad(loss, scores, torch.empty((), device="meta"))
    with Traffic() as loads:
        torch.zeros(EXPERTS, dtype=torch.int64, device="meta").add_(expert_counts(experts, EXPERTS))
    own = [op for name, op in ops.items() if name.startswith("balance_")]
    for phase, launches in (
        ("F", forward.launches),
        ("I", backward.launches + 1),
    ):  # one more fills the loss's own gradient
        assert sum(op.shape.num_kernels for op in own if op.phase == phase) == launches
    own = [op for name, op in ops.items() if name.startswith("router_loads")]
    assert sum(op.shape.num_kernels for op in own) == loads.launches - 1  # zeros of the loads are there already
    assert ops["expert_up_ends_2"].phase == "F" and "shared_up_ends_0" not in ops


@pytest.mark.parametrize("tokens", [TOKENS, 32_768])
def test_weights_of_few_narrow_norms_are_a_walk_down_their_rows(tokens: int) -> None:
    """torch shares rows above 65,536 out over blocks; below, a kernel of its own."""
    values = model("normed", HIDDEN, gqa(4, 2, 64, qk_norm=True), dense_width=WIDTH, vocab=1024)
    case = LayerCase("gqa", "bf16", values, tokens)
    ops = {op.name: op.shape for op in layer_operators(prepare(layer_scenario(case, STACK, NODE)), case)}
    for name, heads in (("q_norm", 4), ("k_norm", 2)):
        is_few = tokens * heads <= 65_536
        shape = ops[f"{name}_wgrad"]
        assert (shape.library, shape.variant, shape.m, shape.n) == (
            "torch-heads-weight", FEW if is_few else "", tokens * heads, 64
        )  # fmt: skip
    assert ops["attn_norm_wgrad"].library == "torch-weight" and not ops["attn_norm_wgrad"].variant


def test_what_quantising_by_columns_holds_beside_a_layer_is_counted() -> None:
    """Forward the widest operand's scales and quotients; backward, too, and a weight's gradient in BF16 beside the cast one."""
    sizes = prepare(layer_scenario(LayerCase("moe", "fp8-row", MOE, TOKENS), STACK, NODE)).scenario.model
    wide = sizes.model_copy(update={"hidden_size": 4 * HIDDEN})
    rows, weights = TOKENS * TOP_K, EXPERTS * 2 * WIDTH * 4 * HIDDEN
    peaks = {}
    for dtype in ("bf16", "fp8-block", "fp8-row"):
        (block,) = with_torch_functions([BlockMemory("moe_ffn", ())], wide, ActivationRecipe(TOKENS, act_dtype=dtype))
        peaks[dtype] = total_bytes(block.working_forward), total_bytes(block.working_backward)
    assert peaks["bf16"] == peaks["fp8-block"] == (8 * rows * WIDTH, 22 * rows * WIDTH)
    assert peaks["fp8-row"][0] == 8 * rows * 4 * HIDDEN > peaks["bf16"][0]
    few = ActivationRecipe(1, act_dtype="fp8-row")
    (block,) = with_torch_functions([BlockMemory("moe_ffn", ())], wide, few)
    assert total_bytes(block.working_backward) == 2 * weights
