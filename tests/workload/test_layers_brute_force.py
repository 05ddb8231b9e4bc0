"""FLOP and parameter counts of every layer equal those of the layer written out plainly with matrices that count."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from simulator.scenario.model import DenseFfn, GqaAttention, MlaAttention, ModelSpec, MoeFfn, Mtp
from simulator.workload import counting, stages
from simulator.workload.casts.casts import Casts
from simulator.workload.casts.separate import SeparateCasts
from simulator.workload.layers.attention import attention_core, attention_weights
from simulator.workload.layers.part import PARTS, WHOLE, Params
from simulator.workload.op import Pass, Unit
from simulator.workload.recipe import Recipe

BATCH, SEQ = 2, 8
PASSES: tuple[Pass, Pass] = ("F", "I")
TOKENS = BATCH * SEQ


@dataclass
class Counter:
    """Multiplies real matrices and counts the multiply-adds of a forward and of the two gradients."""

    forward: int = 0
    weights: list[int] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def linear(self, x: np.ndarray, width: int) -> np.ndarray:
        w = self.rng.standard_normal((x.shape[1], width))
        self.weights.append(w.size)
        return self.multiply(x, w)

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        for _ in range(a.shape[0]):
            self.forward += 2 * b.shape[0] * b.shape[1]
        return a @ b


def run_core(counter: Counter, heads: int, qk: int, v: int) -> float:
    """Every query against every key; a causal kernel does half of the square."""
    before = counter.forward
    for _ in range(BATCH * heads):
        q, k, values = (np.ones((SEQ, width)) for width in (qk, qk, v))
        counter.multiply(counter.multiply(q, k.T), values)
    core = (counter.forward - before) / 2
    counter.forward = before
    return core


MLA = MlaAttention(
    kind="mla", num_heads=4, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8
)
NARROW = MLA.model_copy(update={"v_head_dim": 6})
"""Values narrower than the part of a key that has no place."""
GQA = GqaAttention(kind="gqa", num_heads=4, num_kv_heads=2, head_dim=8)
MOE = MoeFfn(
    num_routed_experts=8, num_shared_experts=1, top_k=2, expert_intermediate_size=12, num_expert_groups=4,
    max_groups_per_token=2, score="sigmoid", router_bias=True,
)  # fmt: skip


def model(attention: MlaAttention | GqaAttention) -> ModelSpec:
    return ModelSpec(
        name="small", hidden_size=32, num_layers=4, vocab_size=64, attention=attention,
        dense_ffn=DenseFfn(intermediate_size=40), num_dense_layers=1, moe=MOE, mtp=Mtp(num_modules=1),
    )  # fmt: skip


def recipe(dtype: str = "fp8-block", modules: tuple[str, ...] = ()) -> Recipe:
    is_fp8 = dtype == "fp8-block"
    casts = SeparateCasts() if is_fp8 else Casts()
    return Recipe(BATCH, SEQ, casts, is_fp8, frozenset(modules), is_fp8, is_fp8, 4, 2, 1.5, 1.9)


def run_attention(counter: Counter, attention: MlaAttention | GqaAttention, x: np.ndarray) -> float:
    if isinstance(attention, MlaAttention):
        heads, nope, rope, v = (
            attention.num_heads, attention.qk_nope_head_dim, attention.qk_rope_head_dim, attention.v_head_dim,
        )  # fmt: skip
        q = counter.linear(counter.linear(x, attention.q_lora_rank), heads * (nope + rope))
        latent = counter.linear(x, attention.kv_lora_rank + rope)[:, : attention.kv_lora_rank]
        counter.linear(latent, heads * (nope + v))
        core = run_core(counter, heads, nope + rope, v)
        counter.linear(np.ones((TOKENS, heads * v)), x.shape[1])
        assert q.shape[1] == heads * (nope + rope)
        return core
    heads, kv, dim = attention.num_heads, attention.num_kv_heads, attention.head_dim
    for width in (heads * dim, kv * dim, kv * dim):
        counter.linear(x, width)
    core = run_core(counter, heads, dim, dim)
    counter.linear(np.ones((TOKENS, heads * dim)), x.shape[1])
    return core


def run_ffn(counter: Counter, x: np.ndarray, width: int, num_up: int = 2) -> None:
    inner = [counter.linear(x, width) for _ in range(num_up)]
    counter.linear(np.prod(inner, axis=0), x.shape[1])


def by_pass(unit: Unit, attribute: str) -> dict[str, float]:
    totals = {"F": 0.0, "I": 0.0, "W": 0.0}
    for op in unit.ops():
        totals["W" if op.shape.variant == "wgrad" else op.phase] += getattr(op, attribute)
    return totals


@pytest.mark.parametrize("attention", [MLA, NARROW, GQA], ids=["mla", "narrow", "gqa"])
@pytest.mark.parametrize("kind", ["dense", "moe", "mtp"])
@pytest.mark.parametrize("dtype", ["fp8-block", "bf16"])
def test_model_flop_of_a_layer(attention: MlaAttention | GqaAttention, kind: str, dtype: str) -> None:
    spec, counter, x = model(attention), Counter(), np.ones((TOKENS, 32))
    if kind == "mtp":
        counter.linear(np.ones((TOKENS, 64)), 32)
    core = run_attention(counter, attention, x)
    if kind == "dense":
        run_ffn(counter, x, 40)
    else:
        counter.linear(x, MOE.num_routed_experts)
        run_ffn(counter, x, MOE.expert_intermediate_size)
        for _ in range(MOE.top_k):
            run_ffn(counter, x, MOE.expert_intermediate_size)
    unit = PARTS[{"dense": "d", "moe": "m", "mtp": "mtp"}[kind]].units(spec, recipe(dtype))[0]
    linear = counter.forward
    expected = {"F": linear + core, "I": linear + 2 * core, "W": linear}
    assert by_pass(unit, "model_flop") == pytest.approx(expected)


def test_recompute_adds_executed_but_no_model_flop() -> None:
    spec = model(MLA)
    (plain,) = PARTS["m"].units(spec, recipe())
    (again,) = PARTS["m"].units(spec, recipe(modules=("rmsnorm", "mla_up_proj")))
    up = 2 * TOKENS * (24 * 4 * 12 + 16 * 4 * 16)
    assert by_pass(again, "model_flop") == by_pass(plain, "model_flop")
    assert by_pass(again, "flop")["I"] - by_pass(plain, "flop")["I"] == up
    assert by_pass(again, "flop")["F"] == by_pass(plain, "flop")["F"]


def test_queries_without_a_latent_are_projected_again_whole() -> None:
    direct = model(MLA.model_copy(update={"q_lora_rank": 0}))
    (plain,), (again,) = (PARTS["d"].units(direct, recipe(modules=modules)) for modules in ((), ("mla_up_proj",)))
    assert by_pass(again, "flop")["I"] - by_pass(plain, "flop")["I"] == 2 * TOKENS * (32 * 4 * 12 + 16 * 4 * 16)
    assert by_pass(again, "model_flop") == by_pass(plain, "model_flop")


def test_parameters_of_a_layer() -> None:
    for attention in (MLA, NARROW, GQA):
        counter = Counter()
        run_attention(counter, attention, np.ones((TOKENS, 32)))
        norms = 24 + 16 if isinstance(attention, MlaAttention) else 0
        weights = attention_weights(model(attention))
        assert (weights.gemm, weights.other) == (sum(counter.weights), norms)


@pytest.mark.parametrize("attention", [MLA, GQA], ids=["mla", "gqa"])
@pytest.mark.parametrize("code", ["d", "m", "mtp"])
def test_parameters_of_a_part(attention: MlaAttention | GqaAttention, code: str) -> None:
    """Weights of a layer written out: held ones, all experts' and the passed ones' (two of eight experts)."""
    spec, held, expert = model(attention), Counter(), Counter()
    x = np.ones((TOKENS, 32))
    run_attention(held, attention, x)
    if code == "d":
        run_ffn(held, x, 40)
    else:
        held.linear(x, MOE.num_routed_experts)
        run_ffn(held, x, MOE.expert_intermediate_size)
        run_ffn(expert, x, MOE.expert_intermediate_size)
    others = 2 * 32 + (24 + 16 if attention is MLA else 0) + (0 if code == "d" else MOE.num_routed_experts)
    if code == "mtp":
        held.linear(np.ones((TOKENS, 64)), 32)
        others += 3 * 32
    gemm, one = sum(held.weights), sum(expert.weights)
    borrowed_head = 32 * 64 if code == "mtp" else 0
    assert PARTS[code].params(spec, WHOLE) == Params(
        dense=gemm + others, gemm=gemm + 2 * one + borrowed_head, expert=8 * one, active_expert=2 * one,
        # Every rank of a tensor-parallel group has norms, router and down-projections whole.
        replicated=others + (32 * (24 + 16 + 4) if attention is MLA else 0) + (0 if code == "d" else 32 * 8),
    )  # fmt: skip


def test_parameters_of_embedding_and_head() -> None:
    spec = model(GQA)
    tied = spec.model_copy(update={"tied_embeddings": True})
    assert PARTS["E"].params(spec, WHOLE) == PARTS["E"].params(tied, WHOLE) == Params(dense=64 * 32, gemm=0)
    assert PARTS["L"].params(spec, WHOLE) == Params(dense=64 * 32 + 32, gemm=64 * 32, replicated=32)
    assert PARTS["L"].params(tied, WHOLE) == Params(dense=32, gemm=64 * 32, replicated=32)


def test_every_gemm_reads_and_writes_its_operands_once() -> None:
    """FP8 operands one byte and a scale for each 128, BF16 two; a weight gradient is read and written in FP32."""
    four_experts = replace(recipe(), ep=2)
    for op in PARTS["m"].units(model(MLA), four_experts)[0].ops():
        shape = op.shape
        if shape.op not in ("gemm", "grouped_gemm"):
            continue
        groups = shape.groups if shape.op == "grouped_gemm" else 1
        size = 1 if shape.dtype == "fp8-block" else 2

        def operand(elements: int, size: int = size) -> int:
            return elements * size + (4 * (elements // 128) if size == 1 else 0)

        if shape.variant == "wgrad":
            read = operand(shape.m * shape.k) + operand(shape.n * shape.k) + 4 * shape.m * shape.n * groups
            written = 4 * shape.m * shape.n * groups
        else:
            read, written = operand(shape.m * shape.k) + groups * operand(shape.n * shape.k), 2 * shape.m * shape.n
        assert (op.bytes_read, op.bytes_written) == (read, written), op.name


def test_a_stage_holds_its_parameters_once() -> None:
    spec = model(MLA)
    workload = stages.build_workload(spec, (("E", "d", "m"), ("m", "m", "mtp", "L")), recipe())
    total = sum(stage.dense_params + 4 * stage.expert_params for stage in workload.stages)
    parts = [PARTS[code].params(spec, WHOLE) for code in ("E", "d", "m", "m", "m", "mtp", "L")]
    assert total == sum(part.dense + part.expert for part in parts)
    assert [unit.name for stage in workload.stages for unit in stage.units] == [
        "layer_0", "layer_1", "layer_2", "layer_3", "head", "mtp_0", "mtp_head_0"
    ]  # fmt: skip
    assert [unit.kind for unit in workload.stages[1].units] == ["moe", "moe", "head", "moe", "head"]


def test_the_embedding_runs_in_front_of_its_layer_and_its_gradient_behind_it() -> None:
    (stage,) = stages.build_workload(model(GQA), (("E", "d", "L"),), recipe()).stages
    layer = stage.units[0]
    assert layer.blocks["attn_f"][0].name == "embedding"
    assert layer.blocks["attn_w"][-1].name == "embedding_wgrad"
    assert [op.name for op in layer.ops()].count("embedding") == 1


@pytest.mark.parametrize("attention", [MLA, GQA], ids=["mla", "gqa"])
def test_a_shape_holds_the_bytes_of_its_operator(attention: MlaAttention | GqaAttention) -> None:
    """What the kernel table is asked for is what was counted."""
    workload = stages.build_workload(model(attention), (("E", "d", "m", "mtp", "L"),), recipe())
    ops = [op for unit in workload.stages[0].units for op in unit.ops()]
    assert [op.name for op in ops if op.shape.bytes != op.bytes_read + op.bytes_written] == []
    assert all(op.shape.bytes for op in ops)


@pytest.mark.parametrize("attention", [MLA, GQA], ids=["mla", "gqa"])
@pytest.mark.parametrize("causal", [True, False])
def test_flop_of_the_attention_core_and_of_its_backward(attention: MlaAttention | GqaAttention, causal: bool) -> None:
    """Forward the scores and their product with the values; backward the scores again and four gradients, written out."""
    core = attention_core(model(attention))
    qk, v = (12, 8) if attention is MLA else (8, 8)
    forward, backward = Counter(), Counter()
    for _ in range(BATCH * 4):
        q, k, values, grad = (np.ones((SEQ, width)) for width in (qk, qk, v, v))
        forward.multiply(forward.multiply(q, k.T), values)
        scores = backward.multiply(q, k.T)
        backward.multiply(scores.T, grad)  # gradient of the values
        scores_grad = backward.multiply(grad, values.T)
        backward.multiply(scores_grad, k)  # of the queries
        backward.multiply(scores_grad.T, q)  # of the keys
    share = 0.5 if causal else 1.0
    one, back = (counting.attention("core", phase, BATCH, SEQ, core, causal) for phase in PASSES)
    assert (one.flop, one.model_flop) == (share * forward.forward, share * forward.forward)
    assert (back.flop, back.model_flop) == (share * backward.forward, 2 * share * forward.forward)
    assert (one.shape.attention_flop, back.shape.attention_flop) == (one.flop, back.flop)


@pytest.mark.parametrize("attention", [MLA, GQA], ids=["mla", "gqa"])
def test_a_layer_runs_its_attention_core_once_forward_and_once_backward(attention: MlaAttention | GqaAttention) -> None:
    """With all heads, causal; keys and values are read and written for the heads that have their own."""
    (unit,) = PARTS["d"].units(model(attention), recipe())
    one, back = (next(op for op in unit.ops() if op.shape.op == f"attention_{way}") for way in ("fwd", "bwd"))
    qk, kv_heads, v = (12, 4, 8) if attention is MLA else (8, 2, 8)
    inputs, output = 2 * TOKENS * (4 * qk + kv_heads * (qk + v)), 2 * TOKENS * 4 * v
    assert (one.bytes_read, one.bytes_written) == (inputs, output)
    assert (back.bytes_read, back.bytes_written) == (inputs + 2 * output, inputs)
    for op in (one, back):
        shape = op.shape
        assert (shape.batch, shape.seq, shape.heads, shape.kv_heads) == (BATCH, SEQ, 4, kv_heads)
        assert (shape.head_dim_qk, shape.head_dim_v, shape.causal) == (qk, v, True)


@pytest.mark.parametrize("code", ["E", "d", "m", "mtp", "L"])
def test_an_operator_belongs_to_the_pass_of_its_block(code: str) -> None:
    pass_of = {"f": "F", "r": "I", "b": "I", "w": "W"}
    modules = ("rmsnorm", "mla_up_proj"), ("moe", "mlp", "attention"), ("layer",)
    for unit in (unit for each in modules for unit in PARTS[code].units(model(MLA), recipe(modules=each))):
        for name, ops in unit.blocks.items():
            assert {op.phase for op in ops} <= {pass_of[name.split("_")[1]]}, name


def test_padding_is_executed_and_no_work_of_the_model() -> None:
    """Two local experts, each with 127 rows more on average over 2."""
    (plain,), (padded,) = (PARTS["m"].units(model(MLA), replace(recipe(), row_padding=p)) for p in (1, 128))
    assert by_pass(padded, "model_flop") == pytest.approx(by_pass(plain, "model_flop"))
    one_row = 2 * 3 * 32 * MOE.expert_intermediate_size
    for each in ("F", "I", "W"):
        assert by_pass(padded, "flop")[each] - by_pass(plain, "flop")[each] == pytest.approx(127 * one_row)


@pytest.mark.parametrize(("padding", "is_uneven"), [(1, True), (2, True), (16, True), (128, False), (256, False)])
def test_only_rows_padded_to_whole_tiles_fill_them(padding: int, is_uneven: bool) -> None:
    """So that padding to a few rows, which are more, is never faster than none."""
    (unit,) = PARTS["m"].units(model(MLA), replace(recipe(), row_padding=padding, expert_rows_cv=0.3))
    found = {op.shape.rows_cv for op in unit.ops() if op.shape.op == "grouped_gemm"}
    assert found == {0.3 if is_uneven else 0.0}
