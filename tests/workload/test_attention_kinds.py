"""Windows, biases, sinks, positions and norms: query-key pairs counted one by one, parameters and kernels written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.kernels.attention import AttentionConstants, CoreLimits, core_seconds
from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.model import DenseFfn, GqaAttention, ModelSpec
from simulator.scenario.model_catalog import load_model
from simulator.workload import counting
from simulator.workload.counting import AttentionCore
from simulator.workload.layers.attention import attention_weights
from simulator.workload.layers.part import PARTS, WHOLE, Shard
from simulator.workload.model_counts import count_parameters, model_flop_per_token
from simulator.workload.op import Op
from simulator.workload.pairs import query_key_pairs
from simulator.workload.stages import build_workload
from tests.workload.test_layers_brute_force import BATCH, GQA, SEQ, TOKENS, model, recipe

H = 32


def of_attention(**keys: object) -> ModelSpec:
    return model(GQA.model_copy(update=keys))


def ops_of(spec: ModelSpec, code: str = "d") -> dict[str, Op]:
    return {op.name: op for op in PARTS[code].units(spec, recipe("bf16"))[0].ops()}


@given(st.integers(1, 40), st.integers(1, 40))
def test_pairs_of_a_window_one_by_one(seq: int, window: int) -> None:
    """A query and the keys up to it inside the window; the convention cuts half of the diagonal of those that are cut."""
    counted = sum(1 for query in range(seq) for key in range(seq) if query - window < key <= query)
    kept = min(window, seq)
    assert query_key_pairs(seq, True, window) == counted - kept / 2
    assert query_key_pairs(seq, False, window) == seq * kept


@given(st.integers(1, 5000))
def test_a_window_of_the_whole_sequence_is_none(seq: int) -> None:
    core = AttentionCore(4, 2, 8, 8)
    for phase in ("F", "I"):
        plain = counting.attention("core", phase, 2, seq, core)  # type: ignore[arg-type]
        wide = AttentionCore(4, 2, 8, 8, window=seq)
        assert counting.attention("core", phase, 2, seq, wide) == plain  # type: ignore[arg-type]
        assert query_key_pairs(seq, True) == seq * seq / 2


def test_a_window_is_executed_and_is_the_models_work() -> None:
    """Windows of 3 in sequences of 8: 8 x 3 - 4.5 pairs of 32; a query head has 2 x 2 x 8 FLOP a pair forward."""
    ops, plain = ops_of(of_attention(window=3)), ops_of(model(GQA))
    pairs = BATCH * (SEQ * 3 - 3 * 3 / 2)
    core, back = ops["attention"], ops["attention_bwd"]
    assert core.flop == core.model_flop == core.shape.flop == pairs * 4 * 2 * (8 + 8)
    assert (back.flop, back.model_flop) == (pairs * 4 * 2 * 5 * 8, 2 * core.flop)
    assert back.shape.flop == back.flop
    for name in ("attention", "attention_bwd"):
        assert (ops[name].bytes_read, ops[name].bytes_written) == (plain[name].bytes_read, plain[name].bytes_written)
        assert plain[name].shape.flop == 0.0


def test_a_windowed_core_costs_its_flop_and_what_a_query_costs_besides() -> None:
    """128 blocks of 4 heads on 64 SMs: two each, of 248 keys a query, and the edges of a window both computed whole."""
    core, constants = AttentionCore(4, 4, 128, 128, window=256), AttentionConstants(1e-6, 600.0, 0.5, tail=0.1)
    limits = CoreLimits(peak=1e15, num_sms=64, clock_hz=1e9, rows=128, keys=128)
    shape = counting.attention("core", "F", 1, 4096, core).shape
    pair = 2 * 256 * 64 / (0.5 * 1e15)
    keys = query_key_pairs(4096, True, 256) / 4096 + 600 / 2 + 128
    assert core_seconds(constants, limits, "", shape) == pytest.approx(1e-6 + 2 * 128 * keys * pair)
    full = counting.attention("core", "F", 1, 4096, AttentionCore(4, 4, 128, 128)).shape
    longest = 4096 + 600 / 2 - 128
    assert core_seconds(constants, limits, "", full) == pytest.approx(
        1e-6 + 128 * (2 * (4096 / 2 + 600 / 2) + 0.1 * longest) * pair
    )


def test_the_pattern_says_which_layers_have_the_window() -> None:
    """Over the stages, whatever the layers' FFNs; the MTP module has what the layer behind the last would have."""
    spec = of_attention(window=3, window_pattern="w f")
    workload = build_workload(spec, (("E", "d", "m"), ("m", "m", "mtp", "L")), recipe("bf16"))
    cores = {
        unit.name: next(op.shape.flop > 0 for op in unit.ops() if op.shape.op == "attention_fwd")
        for stage in workload.stages
        for unit in stage.units
        if unit.kind != "head"
    }
    assert cores == {"layer_0": True, "layer_1": False, "layer_2": True, "layer_3": False, "mtp_0": True}
    five = GQA.model_copy(update={"window": 3, "window_pattern": "w*5 f"})
    assert [five.of_layer(layer).window for layer in range(12)] == [3] * 5 + [None] + [3] * 5 + [None]
    assert GQA.of_layer(7) is GQA


def test_model_flop_count_the_keys_inside_the_window() -> None:
    plain, windowed = load_model("mixtral-8x7b"), load_model("gpt-oss-120b")
    without = windowed.model_copy(update={"attention": windowed.attention.model_copy(update={"window": None})})
    seq = 4096
    for convention, share in (("causal", (seq - 64) * 128 / seq), ("noncausal", 128)):
        less = 3 * 18 * (4 * 64 * 64) * ((seq / 2 if convention == "causal" else seq) - share)
        found = getattr(model_flop_per_token(without, seq), convention) - getattr(
            model_flop_per_token(windowed, seq), convention
        )
        assert found == pytest.approx(less)
    same = plain.model_copy(update={"attention": plain.attention.model_copy(update={"window": seq})})
    assert model_flop_per_token(same, seq) == model_flop_per_token(plain, seq)


def test_biases_and_sinks_are_parameters_and_biases_have_sums() -> None:
    """q, k and v: 32 + 16 + 16 columns, cut over tp as the heads are; o: 32, whole on each rank; a logit a head."""
    plain, biased, sunk = (attention_weights(of_attention(**keys)) for keys in ({}, {"bias": True}, {"sinks": True}))
    assert (biased.other - plain.other, sunk.other - plain.other) == (64 + H, 4)
    assert (biased.replicated, sunk.replicated) == (H, 0)
    cut = attention_weights(of_attention(bias=True, sinks=True), 2)
    assert (cut.other, cut.replicated, cut.gemm) == (32 + H + 2, H, plain.gemm // 2)
    added = {name: op for name, op in ops_of(of_attention(bias=True)).items() if "bias" in name}
    assert {name: (op.bytes_read, op.bytes_written) for name, op in added.items()} == {
        "qkv_bias_grad": (2 * TOKENS * 64 + 4 * 64, 4 * 64), "o_bias_grad": (2 * TOKENS * H + 4 * H, 4 * H)
    }  # fmt: skip


def test_learned_positions_take_the_place_of_rotary_ones() -> None:
    spec = of_attention(rope=False).model_copy(update={"learned_positions": 100})
    assert [name for name in ops_of(model(GQA)) if name not in ops_of(spec)] == [
        "q_rope", "k_rope", "q_rope_bwd", "k_rope_bwd"
    ]  # fmt: skip
    for shard in (WHOLE, Shard(tp=2)):
        found = PARTS["E"].params(spec, shard)
        assert (found.dense, found.replicated) == (64 // shard.tp * H + 100 * H, 100 * H)
    embedding = ops_of(spec, "E")
    assert embedding["positions"].bytes_written == 2 * TOKENS * H
    assert embedding["positions_grad"].bytes_read == 2 * TOKENS * H + 4 * SEQ * H


def test_a_layer_norm_has_a_bias() -> None:
    rms = model(GQA)
    layer = rms.model_copy(update={"norm": "layernorm"})
    for code, norms in (("d", 2), ("m", 2), ("L", 1), ("mtp", 5)):
        extra = PARTS[code].params(layer, WHOLE).dense - PARTS[code].params(rms, WHOLE).dense
        assert extra == norms * H, code
    head = [PARTS["L"].params(spec, WHOLE).replicated for spec in (rms, layer)]
    assert head == [H, 2 * H]


def test_gpt_3_has_its_published_parameters() -> None:
    """175 B (arXiv:2005.14165, table 2.1): GELU, biases, LayerNorm, learned positions, tied embeddings."""
    gpt3 = ModelSpec(
        name="gpt-3", hidden_size=12288, num_layers=96, vocab_size=50257, tied_embeddings=True, learned_positions=2048,
        norm="layernorm", num_dense_layers=96, dense_ffn=DenseFfn(intermediate_size=49152, activation="gelu", bias=True),
        attention=GqaAttention(kind="gqa", num_heads=96, num_kv_heads=96, head_dim=128, bias=True, rope=False),
    )  # fmt: skip
    h = 12288
    exact = 96 * (12 * h * h + 13 * h) + (50257 + 2048) * h + 2 * h
    assert count_parameters(gpt3).num_parameters == exact
    assert exact / 1e9 == pytest.approx(175, rel=0.005)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["model.attention.window=8192"],
            "model.attention.window: 8192 tokens in sequences of 4096: every query attends",
        ),
        (
            ["model.learned_positions=2048"],
            "model.learned_positions: 2048 positions for sequences of 4096; allowed at least",
        ),
        (['model.attention.window_pattern="w f"'], "window_pattern: is given without a window; give window"),
        (['model.attention={window: 128, window_pattern: "w"}'], "needs both w and f"),
        (['model.attention={window: 128, window_pattern: "w d"}'], "is no pattern of w and f"),
    ],
)
def test_windows_that_cannot_be_are_refused_with_a_way_out(options: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("llama-3.1-70b", ["training.seq_len=4096", *options])
    assert words in str(caught.value)
