"""`kernels.attention`: what a library pads is executed, moved and kept, and a library that cannot run is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.workload.layers.attention import attention_block
from simulator.workload.layers.part import PARTS
from simulator.workload.op import Op
from simulator.workload.saved import ActivationRecipe
from tests.workload.test_layers_brute_force import BATCH, GQA, MLA, SEQ, TOKENS, model, recipe

HEADS, QK, V = 4, 12, 8


def ops_of(library: str, modules: tuple[str, ...] = (), attention: object = MLA) -> dict[str, Op]:
    given = replace(recipe("bf16", modules), attention=library)
    return {op.name: op for op in PARTS["d"].units(model(attention), given)[0].ops()}  # type: ignore[arg-type]


def test_flashattention_2_computes_values_as_wide_as_keys() -> None:
    """12-wide keys, 8-wide values: two GEMMs of 12 + 12 a pair forward, five of 12 backward; the model's own stay 12 + 8."""
    plain, padded = ops_of(""), ops_of("fa2")
    pairs = BATCH * SEQ * SEQ / 2 * HEADS
    assert padded["attention"].flop == padded["attention"].shape.attention_flop == pairs * 2 * (QK + QK)
    assert padded["attention_bwd"].flop == pairs * 2 * 5 * QK
    for name in ("attention", "attention_bwd"):
        assert padded[name].model_flop == plain[name].model_flop
        assert (padded[name].shape.head_dim_v, padded[name].shape.library) == (QK, "fa2")
    assert plain["attention"].flop == pairs * 2 * (QK + V)


def test_values_are_padded_and_the_output_is_cut() -> None:
    padded, new = ops_of("fa2"), set(ops_of("fa2")) - set(ops_of(""))
    assert new == {"v_pad", "attn_out_cut", "out_grad_pad"}
    assert padded["v_pad"].bytes_read == padded["out_grad_pad"].bytes_read == 2 * TOKENS * HEADS * V
    assert padded["v_pad"].bytes_written == 2 * TOKENS * HEADS * QK
    again = set(ops_of("fa2", ("mla_up_proj",))) - set(ops_of("", ("mla_up_proj",)))
    assert again == {*new, "v_pad_recompute"}


@pytest.mark.parametrize("library", ["fa3", "cudnn-2024", "cudnn"])
def test_other_libraries_take_two_head_sizes(library: str) -> None:
    for attention in (MLA, GQA):
        plain, named = ops_of("", attention=attention), ops_of(library, attention=attention)
        assert list(named) == list(plain)
        for name, op in named.items():
            assert replace(op, shape=replace(op.shape, library="")) == plain[name]


def test_equal_heads_are_padded_by_nobody() -> None:
    assert list(ops_of("fa2", attention=GQA)) == list(ops_of("", attention=GQA))


@pytest.mark.parametrize(("modules", "kept"), [((), QK - V + QK), (("mla_up_proj",), QK), (("attention",), 0)])
def test_padding_is_kept_unless_it_is_computed_again(modules: tuple[str, ...], kept: int) -> None:
    """4 columns of zeros a value, and an output of 12 beside the one of 8 that the projection keeps, in BF16."""
    plain = ActivationRecipe(tokens=TOKENS, recompute=frozenset(modules))
    blocks = [attention_block(model(MLA), replace(plain, attention=name)) for name in ("", "fa2")]
    sizes = [sum(tensor.num_bytes for tensor in block.saved) for block in blocks]
    assert sizes[1] - sizes[0] == 2 * TOKENS * HEADS * kept


A100 = ("cluster.node=a100-x8", "cluster.fabric=ib-200g-rail", "kernels.attention=unfused")

REFUSED = [
    (("llama-3.1-70b", "cluster.node=b200-x8", "kernels.attention=fa3"), "runs on hopper, b200 is blackwell"),
    (("llama-3.1-70b", "kernels.attention=fa4"), "must be unfused, fa1, fa2, fa3, cudnn-2024, cudnn, aiter or null"),
    (("deepseek-v3", "kernels.attention=fa3"), "stack h800-deepseek-2024 has no rates of fa3"),
    (("llama-3.1-70b", "kernels.attention=fa2", "model.attention.head_dim=512"), "takes heads of up to 256"),
    (("llama-3.1-70b", *A100, "recompute.granularity=none"), "unfused keeps every pair's scores for the backward"),
]


@pytest.mark.parametrize(("scenario", "said"), REFUSED)
def test_a_library_that_cannot_run_is_refused(scenario: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_scenario(scenario[0], scenario[1:])
    assert "kernels.attention" in str(caught.value)


def test_null_is_the_stack_s_own() -> None:
    assert load_scenario("deepseek-v3", ["kernels.attention=null"]).kernels.attention is None


@pytest.mark.parametrize("again", ["full", "selective"])
def test_scores_that_are_computed_again_need_not_be_kept(again: str) -> None:
    modules = ["recompute.modules=[attention]"] if again == "selective" else ["recompute.modules=[]"]
    plain = [each for each in A100 if "attention" not in each]
    taken = load_scenario(
        "llama-3.1-70b", [*plain, "framework=megatron-lm@2022", f"recompute.granularity={again}", *modules]
    )
    assert taken.kernels.attention == "unfused"
