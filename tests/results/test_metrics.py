"""Parameters and model FLOP counted from a model's shape equal the published ones, and closed forms of small models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.results.metrics import count_parameters, mfu, model_flop_per_token, tflops, tokens_per_s_per_gpu
from simulator.scenario.model import DenseFfn, GqaAttention, ModelSpec
from simulator.scenario.model_catalog import load_model

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


def test_tflops_and_mfu_of_the_published_throughput() -> None:
    """272.80 B tokens a day on 2,048 H800: 385 and 432 TFLOPS, 38.94 and 43.73 % (arXiv:2505.09343, table 4).

    The paper's own count a token is 0.3 % below ours, and so are its rates.
    """
    flop = model_flop_per_token(DEEPSEEK_V3, 4096)
    rate = 272.80e9 / 86400 / 2048
    assert tflops(flop, rate).causal == pytest.approx(385, rel=0.005)
    assert tflops(flop, rate).noncausal == pytest.approx(432, rel=0.005)
    assert mfu(flop, rate, 989e12).bf16_dense_causal == pytest.approx(0.3894, rel=0.005)
    assert mfu(flop, rate, 989e12).bf16_dense_noncausal == pytest.approx(0.4373, rel=0.005)


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


@given(tokens=st.integers(1, 10**9), step_s=st.floats(1e-3, 1e3), num_gpus=st.integers(1, 10**5))
def test_rates_scale_with_throughput(tokens: int, step_s: float, num_gpus: int) -> None:
    flop = model_flop_per_token(LLAMA_31_8B, 4096)
    one = tokens_per_s_per_gpu(tokens, step_s, num_gpus)
    assert one * step_s * num_gpus == pytest.approx(tokens)
    assert tflops(flop, 2 * one).causal == pytest.approx(2 * tflops(flop, one).causal)
    assert mfu(flop, one, 1e15).bf16_dense_causal == pytest.approx(tflops(flop, one).causal / 1e3)
