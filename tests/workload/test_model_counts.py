"""Parameters and model FLOP counted from a model's shape equal the published ones, and closed forms of small models."""

from typing import get_args

import pytest

from simulator.scenario.layout import UnitCode
from simulator.scenario.model import AnyAttention, DenseFfn, GqaAttention, ModelSpec
from simulator.scenario.model_catalog import load_model, model_names
from simulator.workload.casts.casts import Casts
from simulator.workload.layers.attention import ATTENTIONS
from simulator.workload.layers.part import PARTS
from simulator.workload.model_counts import count_parameters, model_flop_per_token
from simulator.workload.recipe import Recipe
from simulator.workload.stages import build_workload

DEEPSEEK_V3 = load_model("deepseek-v3")
QWEN3_30B_A3B = load_model("qwen3-30b-a3b")
LLAMA_31_8B = load_model("llama-3.1-8b")
DEEPSEEK_V2_LITE = load_model("deepseek-v2-lite")


def test_deepseek_v3_parameters_are_the_published_ones() -> None:
    """671 B (arXiv:2412.19437), 37 B active, MTP module 11.5 B unique (README_WEIGHTS); recounted by hand."""
    counts = count_parameters(DEEPSEEK_V3)
    assert counts.num_parameters / 1e9 == pytest.approx(671.03, abs=0.005)
    assert counts.num_active_parameters / 1e9 == pytest.approx(37.55, abs=0.005)
    assert counts.num_mtp_parameters == 11_507_286_272 + 14336 * 7168 + 3 * 7168


@pytest.mark.parametrize(
    ("model", "num_parameters"),
    [(LLAMA_31_8B, 8_030_261_248), (QWEN3_30B_A3B, 30_532_122_624), (DEEPSEEK_V2_LITE, 15_706_484_224)],
    ids=lambda value: value.name if isinstance(value, ModelSpec) else "",
)
def test_parameters_equal_the_released_weights(model: ModelSpec, num_parameters: int) -> None:
    """The sum of the tensor sizes in the released weights."""
    assert count_parameters(model).num_parameters == num_parameters


def test_a_dense_model_activates_all_its_parameters() -> None:
    counts = count_parameters(LLAMA_31_8B)
    assert counts.num_active_parameters == counts.num_parameters
    assert counts.num_mtp_parameters == 0


def test_tied_embeddings_are_counted_once() -> None:
    tied = LLAMA_31_8B.model_copy(update={"tied_embeddings": True})
    difference = count_parameters(LLAMA_31_8B).num_parameters - count_parameters(tied).num_parameters
    assert difference == 128256 * 4096
    assert model_flop_per_token(tied, 4096) == model_flop_per_token(LLAMA_31_8B, 4096)


def test_deepseek_v3_flop_per_token() -> None:
    """250.45 causal and 281.15 non-causal GFLOP at 4K; with MTP 260.64 and 291.85. arXiv:2505.09343 prints 250."""
    without, with_mtp = (model_flop_per_token(DEEPSEEK_V3, 4096, mtp=mtp) for mtp in (False, True))
    assert without.causal / 1e9 == pytest.approx(250.45, abs=0.005)
    assert without.noncausal / 1e9 == pytest.approx(281.15, abs=0.005)
    assert with_mtp.causal / 1e9 == pytest.approx(260.64, abs=0.005)
    assert with_mtp.noncausal / 1e9 == pytest.approx(291.85, abs=0.005)


@pytest.mark.parametrize(("seq_len", "gflop"), [(32768, 465.4), (131072, 1202.2)])
def test_deepseek_v3_flop_per_token_of_long_sequences(seq_len: int, gflop: float) -> None:
    assert model_flop_per_token(DEEPSEEK_V3, seq_len).causal / 1e9 == pytest.approx(gflop, abs=0.05)


def test_flop_of_a_tiny_model_by_hand() -> None:
    """hidden 4, one head of 4, FFN 8, vocabulary 16, sequences of 2."""
    model = ModelSpec(
        name="tiny",
        hidden_size=4,
        num_layers=1,
        vocab_size=16,
        attention=GqaAttention(kind="gqa", num_heads=1, num_kv_heads=1, head_dim=4),
        dense_ffn=DenseFfn(intermediate_size=8),
        num_dense_layers=1,
    )
    gemm = 6 * (4 * 4 * 4 + 3 * 4 * 8 + 16 * 4)
    attention = 3 * 2 * 2 * (4 + 4)
    flop = model_flop_per_token(model, 2)
    assert flop.noncausal == gemm + attention
    assert flop.causal == gemm + attention / 2


def test_every_code_of_a_layout_and_every_kind_of_attention_has_its_file() -> None:
    assert set(PARTS.names()) == set(get_args(UnitCode))
    kinds = {get_args(section.model_fields["kind"].annotation)[0] for section in get_args(AnyAttention)}
    assert set(ATTENTIONS.names()) == kinds


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("mtp", [False, True])
def test_flop_per_token_are_those_of_the_operators(name: str, mtp: bool) -> None:
    """The closed form equals what the counted operators execute as the model's own work, over the tokens."""
    model = load_model(name)
    recipe = Recipe(2, 512, Casts(), False, frozenset(), False, False, 1, 1, 1.0, 1.0)
    modules = ("mtp",) * (model.mtp.num_modules if mtp else 0)
    codes = ("E", *model.layers, *modules, "L")
    units = build_workload(model, [codes], recipe).stages[0].units
    executed = sum(op.model_flop for unit in units for op in unit.ops())
    assert model_flop_per_token(model, 512, mtp=mtp).causal == pytest.approx(executed / recipe.tokens, rel=1e-12)
