"""Every tensor that a small layer keeps or works on, with its bytes, written out: the layer of test_layers_brute_force.

16 tokens, hidden size 32; MLA of 4 heads (queries of rank 24, keys and values of rank 16, 8 + 4 wide keys, 8 wide values), GQA
of 4 query and 2 key heads 8 wide; FFN 40 wide; 8 experts 12 wide, 2 of them a token and one shared; vocabulary of 64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from simulator.workload import memory
from simulator.workload.layers.part import PARTS
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory, Tensor
from tests.workload.memory_cases import DENSE, scenario
from tests.workload.test_layers_brute_force import GQA, MLA, model

T, H, F, FFN = 16, 32, 12, 40
ROWS, PEAK = 2 * T, 3 * T
"""Rows of a rank's experts: two a token in the mean micro-batch, half as many again in the fullest."""

BF16 = ActivationRecipe(tokens=T, ep=4, expert_rows_peak_frac=1.5)
FP8 = replace(
    BF16, act_dtype="fp8-block", dispatch_dtype="fp8-block", attn_out_dtype="e5m6", swiglu_in_dtype="fp8-block",
    recompute=frozenset({"swiglu"}),
)  # fmt: skip


def fp8(elements: int) -> int:
    """A byte each, and an FP32 scale for every 128 begun."""
    return elements + 4 * -(-elements // 128)


def sizes(tensors: Iterable[Tensor]) -> dict[str, int]:
    return {tensor.name: tensor.num_bytes for tensor in tensors}


def waits(block: BlockMemory) -> set[str]:
    return {tensor.name for tensor in block.saved if tensor.until == "W"}


def test_mla_under_fp8() -> None:
    block = PARTS["d"].saved(model(MLA), FP8)[0]
    assert sizes(block.saved) == {
        "attn.input": 2 * T * H, "attn.norm_out": fp8(T * H), "attn.q_latent": 2 * T * 24, "attn.q_latent_norm": fp8(T * 24),
        "attn.kv_latent": 2 * T * 16, "attn.kv_latent_norm": fp8(T * 16), "attn.k_rope": 2 * T * 4,
        "attn.q": 2 * T * 4 * 12, "attn.k": 2 * T * 4 * 12, "attn.v": 2 * T * 4 * 8, "attn.log_sum_exp": 4 * T * 4,
        # E5M6: 12 bits each, scales as of FP8.
        "attn.out": T * 32 * 12 // 8 + 4 * (T * 32 // 128),
    }  # fmt: skip
    assert waits(block) == {"attn.norm_out", "attn.q_latent_norm", "attn.kv_latent_norm"}
    assert sizes(block.deferred) == {
        "attn.down_grad": fp8(T * (24 + 16 + 4)), "attn.q_up_grad": fp8(T * 4 * 12), "attn.kv_up_grad": fp8(T * 4 * (8 + 8)),
        "attn.o_input": fp8(T * 32), "attn.o_grad": fp8(T * H),
    }  # fmt: skip
    assert sizes(block.working_forward) == {"attn.o_input": fp8(T * 32), "attn.out_bf16": 2 * T * 32}
    # The queries' gradient is added up in FP32; two residuals' worth of gradient beside it.
    assert sizes(block.working_backward) == {
        "attn.out_bf16": 2 * T * 32, "attn.out_grad": 2 * T * 32, "attn.q_grad_accumulator": 4 * T * 48,
        "attn.qkv_grad": 2 * T * (48 + 48 + 32), "attn.residual_grad": 2 * 2 * T * H,
    }  # fmt: skip


def test_gqa_and_a_dense_ffn_in_bf16() -> None:
    normed = model(GQA.model_copy(update={"qk_norm": True}))
    attention, ffn = PARTS["d"].saved(normed, BF16)
    assert sizes(attention.saved) == {
        "attn.input": 2 * T * H, "attn.norm_out": 2 * T * H, "attn.qk_before_norm": 2 * T * (32 + 16), "attn.q": 2 * T * 32,
        "attn.k": 2 * T * 16, "attn.v": 2 * T * 16, "attn.log_sum_exp": 4 * T * 4, "attn.out": 2 * T * 32,
    }  # fmt: skip
    assert sizes(attention.deferred) == {"attn.qkv_grad": 2 * T * (32 + 16 + 16), "attn.o_grad": 2 * T * H}
    assert attention.working_forward == ()
    assert sizes(ffn.saved) == {
        "ffn.input": 2 * T * H, "ffn.norm_out": 2 * T * H, "ffn.swiglu_in": 2 * 2 * T * FFN, "ffn.swiglu_out": 2 * T * FFN
    }  # fmt: skip
    assert waits(ffn) == {"ffn.norm_out", "ffn.swiglu_out"}
    assert sizes(ffn.deferred) == {"ffn.up_grad": 2 * 2 * T * FFN, "ffn.down_grad": 2 * T * H}
    assert sizes(ffn.working_forward) == {"ffn.out": 2 * T * H}
    assert sizes(ffn.working_backward) == {
        "ffn.swiglu_out_grad": 2 * T * FFN, "ffn.swiglu_in_grad": 2 * 2 * T * FFN, "ffn.residual_grad": 2 * 2 * T * H
    }  # fmt: skip


def test_experts_under_fp8() -> None:
    block = PARTS["m"].saved(model(MLA), FP8)[1]
    assert sizes(block.saved) == {
        "ffn.input": 2 * T * H, "router.input": 2 * T * H, "ffn.norm_out": fp8(T * H), "router.scores": 4 * T * 8,
        # An int64 index and an FP32 weight of each choice; an int64 place and an FP32 weight of each row.
        "router.top_k": (8 + 4) * T * 2, "expert.row_map": 8 * ROWS, "expert.row_weight": 4 * ROWS,
        "expert.input": fp8(ROWS * H), "expert.swiglu_in": fp8(ROWS * 2 * F), "shared.swiglu_in": fp8(T * 2 * F),
    }  # fmt: skip
    assert waits(block) == {"ffn.norm_out", "expert.input"}
    products = {"expert.swiglu_out": fp8(ROWS * F), "shared.swiglu_out": fp8(T * F)}
    assert sizes(block.deferred) == {
        **products, "expert.up_grad": fp8(ROWS * 2 * F), "expert.down_grad": fp8(ROWS * H), "shared.up_grad": fp8(T * 2 * F),
        "shared.down_grad": fp8(T * H),
    }  # fmt: skip
    # Widest behind the down projection: results in expert order and in the order sent, of the fullest micro-batch.
    assert sizes(block.working_forward) == {
        **products, "expert.out": 2 * PEAK * H, "expert.sent_back": 2 * PEAK * H
    }  # fmt: skip
    assert sizes(block.working_backward) == {
        "expert.input_grad": 2 * PEAK * H, "expert.sent_back_grad": 2 * PEAK * H, "ffn.residual_grad": 2 * 2 * T * H
    }  # fmt: skip


def test_a_combine_in_8_bits_holds_what_it_casts_beside_its_cast() -> None:
    plain, cast = (
        PARTS["m"].saved(model(MLA), replace(FP8, combine_dtype=dtype))[1] for dtype in ("bf16", FP8.dispatch_dtype)
    )
    for before, after, name in (
        (plain.working_forward, cast.working_forward, "expert.sent_back"),
        (plain.working_backward, cast.working_backward, "expert.sent_back_grad"),
    ):
        assert sizes(after) == {**sizes(before), f"{name}_cast": fp8(PEAK * H)}


def test_where_experts_are_wide_the_fullest_instant_is_between_their_projections() -> None:
    """40 wide and 32 hidden: SwiGLU's input in BF16, the gradients of its product and of its input."""
    assert model(MLA).moe is not None
    wide = model(MLA).model_copy(update={"moe": model(MLA).moe.model_copy(update={"expert_intermediate_size": FFN})})
    block = PARTS["m"].saved(wide, FP8)[1]
    assert sizes(block.working_backward) == {
        "expert.swiglu_in_bf16": 2 * 2 * PEAK * FFN, "expert.swiglu_out_grad": 2 * PEAK * FFN,
        "expert.swiglu_in_grad": 2 * 2 * PEAK * FFN, "ffn.residual_grad": 2 * 2 * T * H,
    }  # fmt: skip


def test_without_shared_experts_in_bf16_the_router_keeps_the_norm() -> None:
    assert model(MLA).moe is not None
    routed = model(MLA).model_copy(update={"moe": model(MLA).moe.model_copy(update={"num_shared_experts": 0})})
    kept = sizes(PARTS["m"].saved(routed, BF16)[1].saved)
    assert kept["router.input"] == 2 * T * H and "ffn.norm_out" not in kept
    assert "router.input" not in sizes(PARTS["m"].saved(model(MLA), BF16)[1].saved)


def test_the_dispatched_payload_is_kept_whatever_is_recomputed() -> None:
    """Under FP8 it serves the weight gradients of shared experts and FFN; in BF16 the norm gives it again."""
    for code in ("d", "m"):
        for recipe, is_kept in ((FP8, True), (BF16, False)):
            again = replace(recipe, recompute=frozenset({"rmsnorm"}))
            assert ("ffn.norm_out" in sizes(PARTS[code].saved(model(MLA), again)[1].saved)) == is_kept


@pytest.mark.parametrize("autograd", ["fused", "eager"])
def test_experts_computed_again_keep_the_rows_that_came_alone(autograd: str) -> None:
    """Beside what leaves them, a message's tensor, which plain modules keep."""
    plain, again = (
        sizes(PARTS["m"].saved(model(MLA), replace(BF16, autograd=autograd, recompute=frozenset(modules)))[1].saved)
        for modules in ((), ("experts",))
    )
    inside = {"expert.swiglu_in", "expert.swiglu_out"} | ({"expert.silu_out"} if autograd == "eager" else set())
    assert plain.keys() - again.keys() == inside
    assert again == {name: size for name, size in plain.items() if name not in inside}
    assert "expert.input" in again


def test_expert_tensor_parallelism_halves_experts_and_gathers_their_rows() -> None:
    one, two = (sizes(PARTS["m"].saved(model(MLA), replace(BF16, etp=etp))[1].saved) for etp in (1, 2))
    assert two["expert.input"] == 2 * one["expert.input"]
    assert two["expert.swiglu_in"] == one["expert.swiglu_in"]


def test_tensor_parallelism_divides_heads_as_long_as_there_are_some() -> None:
    """Two key heads over 4 ranks: one on each, beside one query head."""
    block = PARTS["d"].saved(model(GQA), replace(BF16, tp=4))[0]
    kept, working = sizes(block.saved), sizes(block.working_backward)
    assert (kept["attn.q"], kept["attn.k"], kept["attn.v"]) == (2 * T * 8, 2 * T * 8, 2 * T * 8)
    assert working["attn.qkv_grad"] == 2 * T * (8 + 8 + 8)


@pytest.mark.parametrize(("tp", "columns"), [(1, 64), (2, 32), (4, 16)])
def test_the_head_works_on_the_ranks_logits_in_its_own_format(tp: int, columns: int) -> None:
    """64 words are shared by the ranks; logits are BF16 under an FP8 recipe too."""
    (block,) = PARTS["L"].saved(model(MLA), replace(FP8, tp=tp))
    assert sizes(block.saved) == {
        "head.input": 2 * T * H, "head.norm_out": 2 * T * H, "head.logits": 2 * T * columns
    }  # fmt: skip
    assert sizes(block.working_backward) == {"head.norm_out_grad": 2 * T * H}


def test_an_mtp_module_joins_two_hidden_states() -> None:
    block = PARTS["mtp"].saved(model(MLA), FP8)[0]
    assert sizes(block.saved) == {"mtp.input": 2 * 2 * T * H, "mtp.norm_out": fp8(2 * T * H)}
    assert sizes(block.deferred) == {"mtp.projection_grad": fp8(T * H)}
    assert sizes(block.working_backward) == {"mtp.input_grad": 2 * 2 * T * H}


def test_a_recomputed_layer_has_its_attention_there_when_the_ffn_goes_back() -> None:
    plain, again = (PARTS["d"].saved(model(GQA), replace(BF16, recompute=frozenset(r))) for r in ((), ("layer",)))
    waiting = [tensor for tensor in plain[0].saved if tensor.name != "attn.input"]
    behind = sizes(again[1].working_backward)
    assert behind.items() >= sizes(waiting).items()
    assert sizes(again[1].working_forward).items() >= sizes(plain[1].saved).items()


@pytest.mark.parametrize(
    ("parallel", "communicators"),
    [({"pp": 16, "ep": 64}, 3), ({"pp": 16, "ep": 128}, 2), ({"pp": 1, "ep": 64}, 2), ({"pp": 1024, "ep": 2}, 2)],
)
def test_an_axis_of_one_rank_needs_no_communicator(parallel: dict[str, int], communicators: int) -> None:
    """Pipeline, replicas of dense parameters, replicas of experts: 2,048 GPUs in 16 stages hold an expert twice at ep 64."""
    assert memory.num_communicators(scenario(parallel=parallel)) == communicators


def test_a_dense_model_has_no_replicas_of_experts() -> None:
    assert memory.num_communicators(scenario(model=DENSE, parallel={"pp": 2, "ep": 1})) == 2


def test_plain_modules_keep_what_each_function_needs() -> None:
    """silu's output beside its input, and what goes into the product with the router's weights."""
    eager = replace(BF16, autograd="eager")
    _, fused = PARTS["d"].saved(model(GQA), BF16)
    _, plain = PARTS["d"].saved(model(GQA), eager)
    assert sizes(plain.saved) == sizes(fused.saved) | {"ffn.silu_out": 2 * T * FFN}
    _, again = PARTS["d"].saved(model(GQA), replace(eager, recompute=frozenset({"swiglu"})))
    assert "ffn.silu_out" not in sizes(again.saved)
    assert sizes(again.working_backward)["ffn.silu_out"] == 2 * T * FFN
    _, routed = PARTS["m"].saved(model(MLA), BF16)
    _, plainly = PARTS["m"].saved(model(MLA), eager)
    assert sizes(plainly.saved) == sizes(routed.saved) | {
        "expert.silu_out": 2 * ROWS * F, "shared.silu_out": 2 * T * F, "expert.out": 2 * ROWS * H
    }  # fmt: skip


def test_plain_modules_keep_the_gathered_input_of_a_tensor_parallel_gemm() -> None:
    shared = replace(BF16, tp=2, shards_sequence=True)
    for r, tokens in ((shared, T // 2), (replace(shared, autograd="eager"), T)):
        attention, ffn = (sizes(block.saved) for block in PARTS["d"].saved(model(GQA), r))
        assert (attention["attn.norm_out"], ffn["ffn.norm_out"]) == (2 * tokens * H, 2 * tokens * H)
        assert (attention["attn.input"], ffn["ffn.input"]) == (2 * T // 2 * H, 2 * T // 2 * H)


def test_the_gradient_of_a_vocabulary_matrix_is_a_tensor_of_its_own_unless_it_is_added_in_place() -> None:
    for autograd, expected in (("fused", 0), ("transformer_engine", 2 * 64 * H), ("eager", 2 * 64 * H)):
        r = replace(BF16, autograd=autograd)
        (head,) = PARTS["L"].saved(model(GQA), r)
        assert sizes(head.working_backward).get("head.weight_grad", 0) == expected
        embedding = PARTS["E"].saved(model(GQA), r)
        assert [sizes(block.working_backward) for block in embedding] == (
            [{"embedding.weight_grad": expected}] if expected else []
        )


def test_an_unfused_loss_makes_its_gradient_beside_the_probabilities() -> None:
    unfused = replace(BF16, is_loss_fused=False)
    (head,) = PARTS["L"].saved(model(GQA), unfused)
    assert sizes(head.working_backward)["head.logits_grad"] == 2 * T * 64
    (plain,) = PARTS["L"].saved(model(GQA), replace(unfused, autograd="eager"))
    assert sizes(plain.working_backward)["head.logits_grad_fp32"] == 4 * T * 64


def test_logits_that_stay_to_the_end_are_outputs() -> None:
    (head,) = PARTS["L"].saved(model(GQA), replace(BF16, keeps_outputs=True))
    assert sizes(head.outputs) == {"head.logits": 2 * T * 64}
    assert "head.logits" not in sizes(head.saved)


def test_gathered_logits_are_of_the_whole_vocabulary() -> None:
    """Of the rank's 32 columns or of all 64; the matrix and its gradient stay the rank's."""
    for gathers, columns in ((False, 32), (True, 64)):
        r = replace(BF16, tp=2, autograd="eager", is_loss_fused=False, gathers_logits=gathers)
        (head,) = PARTS["L"].saved(model(GQA), r)
        kept, working = sizes(head.saved), sizes(head.working_backward)
        assert (kept["head.logits"], kept["head.probabilities"]) == (2 * T * columns, 4 * T * columns)
        assert (working["head.logits_grad"], working["head.weight_grad"]) == (2 * T * columns, 2 * 32 * H)


def test_an_output_gradient_in_bf16_is_the_one_that_a_full_backward_works_on() -> None:
    """In FP8 it is a quantised copy, which is there beside it."""
    for r, expected in ((BF16, True), (FP8, False)):
        deferred = [tensor for block in PARTS["m"].saved(model(MLA), r) for tensor in block.deferred]
        gradients = [tensor for tensor in deferred if tensor.name.endswith("_grad")]
        assert gradients and {tensor.is_working for tensor in gradients} == {expected}
        assert not any(tensor.is_working for tensor in deferred if tensor not in gradients)
