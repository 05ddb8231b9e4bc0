"""Bytes and launches of every operator that is no GEMM and no attention core, written out tensor by tensor for a small layer.

16 tokens, hidden size 32; MLA of 4 heads (queries of rank 24, keys and values of rank 16, 8 + 4 wide keys, 8 wide
values), GQA of 4 query and 2 key heads 8 wide; FFN 40 wide; 8 experts 12 wide, 2 of them a token and one shared; 2
experts a rank.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest

from simulator.scenario.model import DenseFfn, GqaAttention, MlaAttention, MoeFfn
from simulator.workload import counting as c
from simulator.workload.casts.casts import Casts
from simulator.workload.layers.part import PARTS
from simulator.workload.op import Collective, Op
from simulator.workload.recipe import Recipe
from simulator.workload.stages import build_workload
from tests.workload.test_layers_brute_force import GQA, MLA, TOKENS, model, recipe

Row = tuple[float, float, int]
"""Bytes read, bytes written, launches."""
T, H, F = TOKENS, 32, 12
ROWS = 2 * T
"""A token's two experts: as many rows as a rank of an evenly loaded group receives."""


def fp8(elements: int) -> int:
    """One byte each, and FP32 for 128 of them."""
    return elements + 4 * (elements // 128)


def same(elements: int, launches: int = 1) -> Row:
    """BF16 in, as much BF16 out."""
    return 2 * elements, 2 * elements, launches


def cast(elements: int) -> Row:
    """BF16 in, FP8 out; a second kernel transposes the scales."""
    return 2 * elements, fp8(elements), 2


def turned(elements: int) -> Row:
    """BF16 in, FP8 out in the other layout."""
    return 2 * elements, fp8(elements), 1


def weight(elements: int) -> Row:
    """An FP8 weight in and out."""
    return elements, elements, 1


def norm_bwd(elements: int) -> Row:
    """Input and output gradient in, input gradient out; two small kernels for the weight's."""
    return 2 * 2 * elements, 2 * elements, 3


def loaded(elements: int) -> Row:
    """FP8 in, BF16 out."""
    return fp8(elements), 2 * elements, 1


SELECTION = 4 * T * 8
"""FP32 scores of 8 experts; the router's kernels pass over them 16 times, half of it reading."""

LATENT_UP: dict[str, Row] = {
    "q_up_quantise": cast(T * 24), "kv_up_quantise": cast(T * 16), "k_rope": same(T * 4), "k_assemble": same(T * 4 * 8),
    "k_rope_broadcast": (2 * T * 4, 2 * T * 4 * 4, 1), "q_rope": same(T * 4 * 4),
}  # fmt: skip

MLA_FORWARD: dict[str, Row] = {
    "attn_norm": same(T * H), "q_down_quantise": cast(T * H), "kv_down_quantise": cast(T * H), "q_norm": same(T * 24),
    "kv_split": same(T * 20, 4), "kv_norm": same(T * 16), **LATENT_UP,
    "attn_out_save": (2 * T * 32, T * 32 * 12 // 8, 1), "o_quantise": cast(T * 32), "attn_residual": same(T * H),
}  # fmt: skip

MLA_BACKWARD: dict[str, Row] = {
    "attn_residual_scale_bwd": same(T * H), "attn_out_load": (T * 32 * 12 // 8, 2 * T * 32, 1),
    "o_grad_quantise": cast(T * H), "o_weight_transpose": weight(H * 32), "o_input_transposed": turned(T * 32),
    "o_grad_transposed": turned(T * H), "q_norm_recompute": same(T * 24), "kv_split_recompute": same(T * 16),
    "kv_norm_recompute": same(T * 16), **{f"{name}_recompute": row for name, row in LATENT_UP.items()},
    "q_rope_bwd": same(T * 4 * 4), "q_up_grad_quantise": cast(T * 48), "q_up_weight_transpose": weight(48 * 24),
    "k_rope_grad_sum": (2 * T * 4 * 4, 2 * T * 4, 1), "k_rope_bwd": same(T * 4), "k_grad_assemble": same(T * 4 * 8),
    "v_grad_assemble": same(T * 32), "kv_up_grad_quantise": cast(T * 64), "kv_up_weight_transpose": weight(64 * 16),
    "kv_up_grad_transposed": turned(T * 64), "kv_up_input_transposed": turned(T * 16),
    "q_up_grad_transposed": turned(T * 48), "q_up_input_transposed": turned(T * 24), "kv_norm_bwd": norm_bwd(T * 16),
    "q_norm_bwd": norm_bwd(T * 24), "kv_grad_join": same(T * 20, 5), "attn_norm_recompute": same(T * H),
    "kv_down_grad_quantise": cast(T * 20), "kv_down_weight_transpose": weight(20 * H),
    "kv_down_input_transposed": turned(T * H), "kv_down_grad_transposed": turned(T * 20),
    "q_down_grad_quantise": cast(T * 24), "q_down_weight_transpose": weight(24 * H),
    "q_down_input_transposed": turned(T * H), "q_down_grad_transposed": turned(T * 24),
    "attn_input_grad": (2 * 2 * T * H, 2 * T * H, 1), "attn_norm_bwd": norm_bwd(T * H),
}  # fmt: skip

FFN_INPUT: dict[str, Row] = {
    "ffn_input_grad": (2 * 2 * T * H, 2 * T * H, 1), "ffn_norm_bwd": norm_bwd(T * H),
    "ffn_norm_recompute": same(T * H), "ffn_input_quantise_recompute": cast(T * H), "ffn_norm": same(T * H),
}  # fmt: skip


def ffn(name: str, f: int) -> dict[str, Row]:
    """SwiGLU under FP8 with its input saved: 2 f in and f out forward; backward 2 f and the gradient in, 2 f out."""
    rows: dict[str, Row] = {
        "swiglu": (2 * T * 2 * f, fp8(T * f), 2), "swiglu_save": cast(T * 2 * f), "swiglu_load": loaded(T * 2 * f),
        "down_weight_transpose": weight(H * f), "down_grad_transposed": turned(T * H),
        "down_input_transposed": turned(T * f), "swiglu_bwd": (2 * T * 3 * f, 2 * T * 2 * f, 1),
        "input_load": loaded(T * H), "up_weight_transpose": weight(2 * H * f), "up_grad_quantise": cast(T * 2 * f),
        "up_grad_transposed": turned(T * 2 * f), "up_input_transposed": turned(T * H),
    }  # fmt: skip
    return {f"{name}_{kernel}": row for kernel, row in rows.items()}


EXPERTS: dict[str, Row] = {
    "router_select": (8 * SELECTION, 8 * SELECTION, 37), "router_select_bwd": (8 * SELECTION, 8 * SELECTION, 26),
    "dispatch_quantise": cast(T * H), "combine_b_quantise": cast(T * H), "routing_map": (8 * ROWS, 8 * ROWS, 2),
    # FP8 rows with their scales in and out.
    "permute": (ROWS * fp8(H), ROWS * fp8(H), 2), "permute_bwd": (ROWS * fp8(H), ROWS * fp8(H), 2),
    "unpermute": same(ROWS * H), "unpermute_bwd": same(ROWS * H),
    "expert_up_weight_transpose": weight(2 * 2 * H * F), "expert_down_weight_transpose": weight(2 * H * F),
    "expert_swiglu": (2 * ROWS * 2 * F, fp8(ROWS * F), 3), "expert_swiglu_save": cast(ROWS * 2 * F),
    "expert_swiglu_load": loaded(ROWS * 2 * F),
    # The product again beside the gradients of both halves.
    "expert_swiglu_bwd": (2 * ROWS * 3 * F, 2 * ROWS * 3 * F, 2),
    "expert_down_input_transposed": turned(ROWS * F), "expert_up_grad_quantise": cast(ROWS * 2 * F),
    "expert_up_grad_transposed": turned(ROWS * 2 * F), "expert_down_grad_transposed": turned(ROWS * H),
    "expert_up_input_transposed": turned(ROWS * H),
}  # fmt: skip

GQA_LAYER: dict[str, Row] = {
    "attn_norm": same(T * H), "q_norm": same(T * 32), "k_norm": same(T * 16), "q_rope": same(T * 32), "k_rope": same(T * 16),
    "attn_residual": (2 * 2 * T * H, 2 * T * H, 1), "q_rope_bwd": same(T * 32), "k_rope_bwd": same(T * 16),
    "q_norm_bwd": norm_bwd(T * 32), "k_norm_bwd": norm_bwd(T * 16), "attn_norm_recompute": same(T * H),
    "attn_input_grad": (2 * 2 * T * H, 2 * T * H, 1), "attn_norm_bwd": norm_bwd(T * H), "ffn_norm": same(T * H),
    "ffn_input_grad": (2 * 2 * T * H, 2 * T * H, 1), "ffn_norm_bwd": norm_bwd(T * H), "ffn_norm_recompute": same(T * H),
    "ffn_swiglu": (2 * T * 80, 2 * T * 40, 1), "ffn_swiglu_bwd": (2 * T * 3 * 40, 2 * T * 80, 1),
}  # fmt: skip


def memory_bound(code: str, attention: MlaAttention | GqaAttention, r: Recipe) -> dict[str, Row]:
    ops = [op for unit in PARTS[code].units(model(attention), r) for op in unit.ops() if op.shape.bound == "memory"]
    assert len({op.name for op in ops}) == len(ops)
    return {op.name: (op.bytes_read, op.bytes_written, op.shape.num_kernels) for op in ops}


RECOMPUTES = ("rmsnorm", "mla_up_proj", "swiglu")


def test_a_dense_mla_layer_under_fp8() -> None:
    assert memory_bound("d", MLA, recipe(modules=RECOMPUTES)) == {
        **MLA_FORWARD, **MLA_BACKWARD, **FFN_INPUT, "ffn_quantise": cast(T * H), **ffn("ffn", 40)
    }  # fmt: skip


def test_a_moe_mla_layer_under_fp8() -> None:
    found = memory_bound("m", MLA, recipe(modules=RECOMPUTES))
    assert found == {**MLA_FORWARD, **MLA_BACKWARD, **FFN_INPUT, **ffn("shared", F), **EXPERTS}


def test_a_dense_gqa_layer_in_bf16() -> None:
    """No casts and no transposes; queries and keys have their norms."""
    normed = GQA.model_copy(update={"qk_norm": True})
    assert memory_bound("d", normed, recipe("bf16", ("rmsnorm",))) == GQA_LAYER


@pytest.mark.parametrize("code", ["d", "m"])
def test_a_kept_product_is_loaded_and_not_written_again(code: str) -> None:
    """FP8: what the down projection read is turned into its other layout by way of BF16; BF16 needs no load."""
    owners = {"ffn": T * 40} if code == "d" else {"shared": T * F, "expert": ROWS * F}
    again, kept = (memory_bound(code, MLA, recipe(modules=modules)) for modules in (RECOMPUTES, RECOMPUTES[:2]))
    plain, plain_kept = (memory_bound(code, GQA, recipe("bf16", modules)) for modules in (("swiglu",), ()))
    for owner, product in owners.items():
        assert kept[f"{owner}_down_input_load"] == loaded(product)
        read, written, launches = plain_kept[f"{owner}_swiglu_bwd"]
        assert (read, written) == (2 * 3 * product, 2 * 2 * product)
        assert plain[f"{owner}_swiglu_bwd"] == (read, written + 2 * product, launches)
    assert kept.keys() - again.keys() == {f"{owner}_down_input_load" for owner in owners}
    assert plain.keys() == plain_kept.keys()


def test_embedding_head_and_the_input_of_an_mtp_module() -> None:
    """A row a token, its gradient added to an FP32 row; logits of 64 words read and left as gradient; two halves joined."""
    gather, scatter = same(T * H), ((2 + 4) * T * H, 4 * T * H, 1)
    assert memory_bound("E", MLA, recipe()) == {"embedding": gather, "embedding_wgrad": scatter}
    head = {
        "final_norm": same(T * H), "loss": same(T * 64), "loss_bwd": same(T * 64), "final_norm_bwd": norm_bwd(T * H)
    }  # fmt: skip
    assert memory_bound("L", MLA, recipe()) == head
    module = PARTS["mtp"].units(model(MLA), recipe())[0]
    ops = {op.name: op for op in module.ops() if op.name.startswith(("mtp", "embedding"))}
    expected: dict[str, Row] = {
        "embedding": gather, "embedding_wgrad": scatter, "mtp_hidden_norm": same(T * H), "mtp_embedding_norm": same(T * H),
        "mtp_concat": same(T * 2 * H), "mtp_split": same(T * 2 * H), "mtp_proj_quantise": cast(T * 2 * H),
        "mtp_proj_grad_quantise": cast(T * H), "mtp_proj_weight_transpose": weight(2 * H * H),
        "mtp_proj_grad_transposed": turned(T * H), "mtp_proj_input_transposed": turned(T * 2 * H),
        "mtp_hidden_norm_bwd": norm_bwd(T * H), "mtp_embedding_norm_bwd": norm_bwd(T * H),
    }  # fmt: skip
    found = {name: op for name, op in ops.items() if op.shape.bound == "memory"}
    assert {n: (op.bytes_read, op.bytes_written, op.shape.num_kernels) for n, op in found.items()} == expected


def test_what_runs_over_received_rows_feels_the_load() -> None:
    """The experts' own kernels and no others: weights are transposed whatever arrives."""
    (unit,) = PARTS["m"].units(model(MLA), recipe(modules=RECOMPUTES))
    inside = {name for name in EXPERTS if name.startswith(("expert", "permute", "unpermute", "routing_map"))}
    gemms = {f"expert_{layer}{end}" for layer in ("up", "down") for end in ("", "_dgrad", "_wgrad")}
    still = {"expert_up_weight_transpose", "expert_down_weight_transpose"}
    assert {op.name for op in unit.ops() if op.routed} == inside - still | gemms


def test_attention_cores_launch_one_kernel_forward_and_three_backward() -> None:
    """Backward: the product of output and gradient first, then the core, then the queries' gradient out of FP32."""
    (unit,) = PARTS["d"].units(model(MLA), recipe())
    assert [op.shape.num_kernels for op in unit.ops() if op.shape.bound == "attention"] == [1, 3]


def test_the_payloads_of_the_four_exchanges() -> None:
    """FP8 with scales to the experts, BF16 back; the backward reuses the layout; distinct nodes are not distinct ranks."""
    wide = model(MLA).model_copy(update={"hidden_size": 256})
    (unit,) = PARTS["m"].units(wide, recipe())
    sent = {
        name: (it.op, it.direction, it.bytes_per_token, it.cached_layout) for name, it in unit.all_to_all.items()
    }  # fmt: skip
    assert sent == {
        "dispatch_f": ("dispatch", "F", 256 + 2 * 4, False), "combine_f": ("combine", "F", 512, False),
        "combine_b": ("dispatch", "B", 256 + 2 * 4, True), "dispatch_b": ("combine", "B", 512, True),
    }  # fmt: skip
    for it in unit.all_to_all.values():
        assert (it.tokens, it.num_nodes, it.ranks, it.nodes_per_token, it.ranks_per_token) == (T, 2, 4, 1.5, 1.9)
    assert PARTS["m"].units(wide, replace(recipe(), ep=1))[0].all_to_all == {}


def test_a_padded_expert_pads_the_rank_s_own_experts() -> None:
    """Two of eight experts are here, each with 127/2 rows more on average."""
    (unit,) = PARTS["m"].units(model(MLA), replace(recipe(), row_padding=128))
    up = next(op for op in unit.ops() if op.name == "expert_up")
    assert up.shape.m == ROWS + 127


def op_bytes(op: Op) -> tuple[int, int]:
    return op.bytes_read, op.bytes_written


def test_a_grouped_weight_is_read_once_for_each_expert() -> None:
    one = c.fprop("up", "bf16", 6, 4, 5)
    assert op_bytes(c.grouped(one, 3)) == (2 * 6 * 5 + 3 * 2 * 4 * 5, 2 * 6 * 4)
    gradient = c.wgrad("up_wgrad", "bf16", 6, 4, 5)
    assert op_bytes(c.grouped(gradient, 3)) == (2 * 6 * 4 + 2 * 6 * 5 + 3 * 4 * 4 * 5, 3 * 4 * 4 * 5)


@pytest.mark.parametrize(("fp8_dispatch", "row"), [(True, 32), (False, 64)])
def test_rows_are_permuted_in_the_format_in_which_they_are_sent(fp8_dispatch: bool, row: int) -> None:
    moe = MoeFfn(num_routed_experts=8, num_shared_experts=0, top_k=2, expert_intermediate_size=12)
    spec = model(MLA).model_copy(update={"moe": moe})
    (unit,) = PARTS["m"].units(spec, replace(recipe("bf16"), dispatch_fp8=fp8_dispatch))
    ops = {op.name: op for op in unit.ops()}
    assert op_bytes(ops["permute"]) == (ROWS * row, ROWS * row)
    assert unit.all_to_all["dispatch_f"].bytes_per_token == row
    assert ("dispatch_quantise" in ops) == ("combine_b_quantise" in ops) == fp8_dispatch


def test_plain_modules_move_what_fused_ones_keep_in_registers() -> None:
    """silu and product apart: 3 reads and 2 writes of the width for 2 and 1; backward 6 and 3 for 3 and 2. The experts'
    outputs are weighted by a kernel of their own: read and written; backward the gradient twice and the outputs once.
    """
    bf16 = replace(
        recipe(), casts=Casts(), dispatch_fp8=False, save_swiglu_fp8=False, save_attn_out_e5m6=False, row_padding=1
    )
    plain = replace(bf16, is_eager=True, splits_activation=True)
    moved: dict[str, tuple[int, int]] = {}
    for code in ("d", "m"):
        fused, apart = (
            {op.name: (op.bytes_read, op.bytes_written) for op in PARTS[code].units(model(GQA), r)[0].ops()}
            for r in (bf16, plain)
        )
        assert set(fused) < set(apart) and all(apart[name] == fused[name] for name in fused)
        moved |= {name: bytes_ for name, bytes_ in apart.items() if name not in fused}
        for owner in ("ffn", "shared", "expert"):
            if f"{owner}_swiglu" in fused:
                width = fused[f"{owner}_swiglu"][1]
                assert moved[f"{owner}_first_activation"] == (width, width)
                assert fused[f"{owner}_swiglu_bwd"][0] + moved[f"{owner}_first_activation_bwd"][0] == 6 * width
                assert fused[f"{owner}_swiglu_bwd"][1] + moved[f"{owner}_first_activation_bwd"][1] == 3 * width
    rows, _ = fused["unpermute"]
    assert (moved["expert_weigh"], moved["expert_weigh_bwd"]) == ((rows, rows), (3 * rows, rows))


def test_relu_and_its_square_apart() -> None:
    """Forward each reads and writes the width. Backward of relu(x)^2 as torch derives it: relu(x)^1, times 2, times the
    gradient, relu's own: 6 reads and 4 writes for 2 and 1. One function has nothing to take apart.
    """
    bf16 = replace(recipe(), casts=Casts(), save_swiglu_fp8=False)
    for activation, moved in (("relu2", ((1, 1), (6, 4))), ("gelu", ((0, 0), (2, 1)))):
        ffn = DenseFfn(intermediate_size=F, activation=activation)
        spec = model(GQA).model_copy(update={"dense_ffn": ffn})
        fused, apart = (
            {op.name: (op.bytes_read, op.bytes_written) for op in PARTS["d"].units(spec, r)[0].ops()}
            for r in (bf16, replace(bf16, splits_activation=True))
        )
        width = fused["ffn_swiglu"][1]
        assert apart.get("ffn_first_activation", (0, 0)) == tuple(n * width for n in moved[0])
        more = apart.get("ffn_first_activation_bwd", (0, 0))
        assert tuple(a + b for a, b in zip(fused["ffn_swiglu_bwd"], more, strict=True)) == tuple(
            n * width for n in moved[1]
        )


def test_norms_of_plain_modules_are_their_functions() -> None:
    """Forward: to FP32, square, mean, product, to BF16, weight. Backward as torch's derivatives of these, from the last to the
    first. A layer norm is one kernel of torch.
    """
    forward = [(2, 4), (4, 4), (4, 0), (4, 4), (4, 2), (2, 2)]
    backward = [
        (2, 2), (4, 2), (2, 0), (2, 4), (4, 4), (8, 4), (4, 0), (0, 4), (4, 4), (4, 4), (8, 4), (8, 4), (4, 2)
    ]  # fmt: skip
    bf16 = replace(recipe(), casts=Casts())
    for norm, splits in (("rmsnorm", True), ("layernorm", False)):
        spec = model(GQA).model_copy(update={"norm": norm})
        fused, plain = (
            {op.name: op for op in build_workload(spec, [["d"]], r).stages[0].units[0].ops()}
            for r in (bf16, replace(bf16, splits_norms=True))
        )
        assert set(fused) == set(plain)
        for name, op in fused.items():
            passes = {"rmsnorm": forward, "rmsnorm_bwd": backward}.get(op.shape.op) if splits else None
            numbers = op.bytes_written // 2
            want = tuple(numbers * sum(each) for each in zip(*passes, strict=True)) if passes else op_bytes(op)
            assert op_bytes(plain[name]) == want and plain[name].shape.bytes == sum(want)


def test_separate_projections_do_the_same_products_and_add_up_their_gradients() -> None:
    """Queries, keys and values; gate and up: each reads the input; forward and weight gradients have its columns, input
    gradients are as many products and a sum.
    """
    bf16 = replace(recipe(), casts=Casts(), recompute=frozenset())
    joint, apart = (
        {op.name: op for op in build_workload(model(GQA), [["d"]], r).stages[0].units[0].ops()}
        for r in (bf16, replace(bf16, splits_projections=True))
    )
    assert sum(op.flop for op in apart.values()) == sum(op.flop for op in joint.values())
    assert sum(op.model_flop for op in apart.values()) == sum(op.model_flop for op in joint.values())
    d, width = GQA.head_dim, model(GQA).dense_ffn.intermediate_size
    for layer, widths in (("qkv", (4 * d, 2 * d, 2 * d)), ("ffn_up", (width, width))):
        for ending, side in (("", "n"), ("_dgrad", "k"), ("_wgrad", "m")):
            names = [f"{layer}{ending}{f'_{i}' if i else ''}" for i in range(len(widths))]
            assert tuple(getattr(apart[name].shape, side) for name in names) == widths
            assert getattr(joint[names[0]].shape, side) == sum(widths)
        assert op_bytes(apart[f"{layer}_dgrad_sum"]) == (2 * len(widths) * T * H, 2 * T * H)
    assert set(apart) - set(joint) == {
        f"{layer}{ending}_{i}" for layer, n in (("qkv", 3), ("ffn_up", 2)) for ending in ("", "_dgrad", "_wgrad")
        for i in range(1, n)
    } | {"qkv_dgrad_sum", "ffn_up_dgrad_sum"}  # fmt: skip


def test_what_batch_first_ranks_exchange_is_laid_out_by_a_copy_of_the_whole() -> None:
    """Behind every gather, in front of every reduce-scatter, in the format that is sent."""
    cut = replace(recipe(), casts=Casts(), tp=2, shards_sequence=True, recompute=frozenset())
    (plain,), (copied,) = (PARTS["d"].units(model(GQA), replace(cut, copies_gathers=on)) for on in (False, True))
    sent = {each.name: each.num_bytes for each in plain.collectives()}
    assert {each.name: each.num_bytes for each in copied.collectives()} == sent
    more = {op.name: op_bytes(op) for op in copied.ops() if op.name.endswith("_layout")}
    assert more == {f"{name}_layout": (size, size) for name, size in sent.items()}
    assert len(list(copied.ops())) == len(list(plain.ops())) + len(sent)
    for block in copied.blocks.values():
        names = [each.name for each in block]
        for each in block:
            if isinstance(each, Collective):
                step = 1 if each.op == "all_gather" else -1
                assert names[names.index(each.name) + step] == f"{each.name}_layout"


@pytest.mark.parametrize("cp", [1, 2])
def test_repeated_heads_are_copied_in_front_of_the_core_and_summed_behind(cp: int) -> None:
    """K and V of 2 heads to 4; context parallelism then gathers twice as many bytes. Heads that are as many are left alone."""
    own = replace(recipe(), casts=Casts(), cp=cp, cp_comm="all_gather")
    few, many = (
        {each.name: each for each in PARTS["d"].units(model(GQA), r)[0].work()}
        for r in (own, replace(own, repeats_heads=True))
    )
    width = own.tokens * GQA.head_dim * 2 * 2
    assert op_bytes(many["kv_heads_repeat"]) == (2 * width, 4 * width)
    assert op_bytes(many["kv_heads_sum"]) == (4 * width, 2 * width)
    sent = [sum(each.num_bytes for each in of.values() if isinstance(each, Collective)) for of in (few, many)]
    assert sent[1] == 2 * sent[0] and (sent[0] > 0) == (cp > 1)
    alike = model(GQA.model_copy(update={"num_kv_heads": GQA.num_heads}))
    assert PARTS["d"].units(alike, own) == PARTS["d"].units(alike, replace(own, repeats_heads=True))


def test_a_combine_in_8_bits_is_cast_where_the_experts_are() -> None:
    """Each token that came is sent back once: the sum over the rank's experts, in the backward its input's gradient."""
    wide = model(MLA).model_copy(update={"hidden_size": 256})
    (plain,), (cast_unit,) = (PARTS["m"].units(wide, replace(recipe(), combine_fp8=on)) for on in (False, True))
    assert {key: it.bytes_per_token for key, it in cast_unit.all_to_all.items() if it.op == "combine"} == {
        "combine_f": 256 + 2 * 4, "dispatch_b": 256 + 2 * 4,
    }  # fmt: skip
    names = {op.name for op in plain.ops()}
    added = {op.name: op for op in cast_unit.ops() if op.name not in names}
    came = ceil(T * 1.9)
    moved = (2 * came * 256, came * (256 + 2 * 4), True)
    assert {name: (op.bytes_read, op.bytes_written, op.routed) for name, op in added.items()} == {
        "combine_quantise": moved, "dispatch_b_quantise": moved,
    }  # fmt: skip
    assert added["combine_quantise"] in cast_unit.blocks["mlp_f_routed"]
    assert added["dispatch_b_quantise"] in cast_unit.blocks["mlp_b_routed"]
