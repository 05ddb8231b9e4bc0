"""Modules of plain torch functions: launches and bytes by hand from the library's source, what autograd keeps, conservation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from hwprofiles.hosts.own import in_a_model
from simulator import load_scenario
from simulator.costs.host_issue import issue_s
from simulator.errors import InputError
from simulator.scenario.host_rules import host_syncs
from simulator.scenario.scenario import Scenario
from simulator.step.prepared import prepare
from simulator.workload import plain_norms
from simulator.workload.counted import count_workload
from simulator.workload.host_calls import SORT_CALLS, calls_of
from simulator.workload.op import Op, Workload
from simulator.workload.plain import blocks, functions, modules
from simulator.workload.plain.tape import Launch, Tape
from validation.case import load_case

TRACED = load_case("library-qwen3-moe-2.7b-h200").scenario
T, H = 8192, 2048


def scenario(*overrides: str) -> Scenario:
    """The traced step, changed."""
    assert isinstance(TRACED, dict)
    return load_scenario(TRACED, overrides)


def work(*overrides: str) -> Workload:
    return count_workload(scenario(*overrides), 1, None)


def ops(counted: Workload) -> list[Op]:
    return [op for stage in counted.stages for unit in stage.units for op in unit.ops()]


def number(launches: tuple[Launch, ...]) -> Counter[str]:
    """Kernels by class."""
    found: Counter[str] = Counter()
    for each in launches:
        found[each.kernel] += each.kernels
    return found


def total(launches: tuple[Launch, ...]) -> tuple[int, int]:
    """Bytes read and written by kernels on more than a number a row."""
    wide = [each for each in launches if each.elements >= T * H // 2]
    return sum(each.read for each in wide), sum(each.written for each in wide)


def of_norm() -> blocks.Traced:
    t = Tape(segment="norm")
    out = modules.rms_norm(t, t.value(T * H, H))
    t.walk_back(out)
    sides = ({name: tuple(each) for name, each in side.items()} for side in (t.forward, t.backward))
    return blocks.Traced(*sides, tuple(t.kept.values()), 0, 0)


def test_a_norm_moves_what_its_eight_functions_move() -> None:
    """Forward: to FP32, square, mean, eps, root, product, to BF16, weight. The derived backward is that of plain_norms.py."""
    norm = of_norm()
    assert number(norm.forward["norm"]) == {"cast": 2, "elementwise": 3, "reduce": 1, "elementwise_broadcast": 2}
    read, written, kernels = plain_norms.FORWARD
    rows = 4 * T
    assert total(norm.forward["norm"]) == (read * T * H + rows, written * T * H + rows)
    assert sum(number(norm.forward["norm"]).values()) == kernels
    read, written, _ = plain_norms.BACKWARD
    moved = total(norm.backward["norm"])
    assert moved[0] == pytest.approx(read * T * H, rel=1e-3) and moved[1] == pytest.approx(written * T * H, rel=1e-3)


def test_a_norm_keeps_its_input_in_fp32_and_its_output() -> None:
    """What the square and the product with the root need is one tensor; the product with the weight needs its BF16 factor."""
    kept = {each.name: each.num_bytes for each in of_norm().kept}
    assert kept == {"norm.squared": 4 * T * H, "norm.inverse_root": 4 * T, "norm.normed": 2 * T * H}


def test_rotary_embedding_by_hand() -> None:
    """q * cos + cat(-q2, q1) * sin of transposed heads: three strided kernels, a broadcast one, a copy of strided halves."""
    attention = blocks.attention_block(scenario().model, T, 4096)
    width = 2 * T * 32 * 128
    assert number(attention.forward["q_rope"]) == {"elementwise_strided": 3, "elementwise_broadcast": 1, "cat": 1}
    assert sum(each.read + each.written for each in attention.forward["q_rope"]) == (2 + 1 + 2 + 2 + 3) * width
    back = number(attention.backward["q_rope"])
    assert back == {"elementwise_strided": 4, "fill": 2, "strided_copy": 2, "elementwise": 1}


def test_a_gradient_that_lies_with_tokens_first_is_copied_before_the_projections() -> None:
    copied = blocks.attention_block(scenario().model, T, 4096).backward["qkv"]
    assert [each.elements for each in copied if each.kernel == "strided_copy"] == [T * 4 * 128, T * 32 * 128]


def test_experts_launch_what_the_traced_step_launches() -> None:
    """Kernels of a layer with experts as the torch profiler lists them; a sort's fills are among its kernels."""
    moe = blocks.moe_block(scenario().model, T)
    assert number(moe.forward["expert_rows"])["gather_rows"] == 1
    assert number(moe.forward["expert_activation"]) == {"copy": 1, "elementwise_broadcast": 1, "elementwise_strided": 2}
    assert number(moe.forward["expert_results"]) == {"copy": 1, "elementwise_broadcast": 2}
    assert number(moe.forward["expert_sum"]) == {"gather_rows": 1, "reduce": 1}
    assert number(moe.backward["expert_sum"]) == {
        "strided_copy": 1, "fill": 1, "index_put": functions.INDEX_KERNELS,
    }  # fmt: skip
    rows = T * 8
    gather = next(each for each in moe.forward["expert_rows"] if each.kernel == "gather_rows")
    assert (gather.read, gather.written) == (2 * rows * H + 8 * rows, 2 * rows * H)


def test_products_and_attention_are_those_of_fused_modules() -> None:
    """Modules change what stands around them alone; the model's own FLOP stay."""

    def products(counted: Workload) -> Counter[tuple[object, ...]]:
        shapes = (op.shape for op in ops(counted) if op.shape.bound != "memory")
        return Counter(
            (each.op, each.variant, each.m, each.n, each.k, each.groups, each.seq, each.heads) for each in shapes
        )

    plain, fused = work(), work("kernels.modules=fused", "kernels.projections=separate")
    assert products(plain) == products(fused)
    assert sum(op.model_flop for op in ops(plain)) == pytest.approx(sum(op.model_flop for op in ops(fused)), rel=1e-12)


def test_weight_gradients_are_written_once_in_bf16() -> None:
    """torch's product makes a tensor of its own, which nothing is added to."""
    out = next(op for op in ops(work()) if op.name == "o_wgrad")
    assert out.bytes_written == 2 * 2048 * 4096 and out.bytes_read == 2 * T * (2048 + 4096)
    assert out.shape.result == "bf16" and out.shape.bytes == out.bytes_read + out.bytes_written


def test_bytes_grow_with_tokens() -> None:
    def moved(counted: Workload) -> int:
        return sum(op.shape.bytes for op in ops(counted) if op.shape.bound == "memory" and "embedding" not in op.name)

    once, twice = moved(work()), moved(work("training.micro_batch_size=4", "training.global_batch_size=4"))
    assert twice == pytest.approx(2 * once, rel=1e-4)


def test_gradients_of_later_micro_batches_are_added() -> None:
    """Two of three micro-batches find gradients there: 4 bytes read and 2 written of each weight of a product or embedding."""
    one, three = work(), work("training.global_batch_size=6")
    more = {op.name: op for op in ops(three)}.keys() - {op.name: op for op in ops(one)}.keys()
    assert more and all(name.endswith("_sum") for name in more)
    weights = 2702217216 - 8 * (2 * 2048 + 2 * 128) - 2048
    moved = sum(op.shape.bytes for op in ops(three) if op.name in more)
    assert moved == pytest.approx(6 * weights * 2 / 3, rel=1e-6)


def test_layers_that_are_computed_again_are_forward_operators_up_to_what_keeps_last() -> None:
    again = work("recompute.granularity=full")
    layer = again.stages[0].units[0]
    repeated = [op.name.removesuffix("_recompute") for op in layer.blocks["attn_r"] if isinstance(op, Op)]
    assert repeated == [op.name for op in layer.blocks["attn_f"] if not op.name.startswith(("embedding", "tables"))]
    routed = [op.name.removesuffix("_recompute") for op in layer.blocks["mlp_r_routed"]]
    forward = [op.name for op in layer.blocks["mlp_f_routed"]]
    assert routed == forward[: len(routed)] and forward[len(routed)] == "expert_results_elementwise_broadcast"
    assert all(op.model_flop == 0 for op in layer.blocks["mlp_r_routed"] if isinstance(op, Op))


def test_latent_attention_and_dense_layers_are_counted() -> None:
    model = {
        "name": "latent", "hidden_size": 1024, "vocab_size": 4096, "num_layers": 2, "num_dense_layers": 1,
        "dense_ffn": {"intermediate_size": 2048},
        "attention": {
            "kind": "mla", "num_heads": 8, "q_lora_rank": 256, "kv_lora_rank": 128, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128,
        },
        "moe": {
            "num_routed_experts": 8, "num_shared_experts": 1, "top_k": 2, "expert_intermediate_size": 512,
            "score": "sigmoid",
        },
    }  # fmt: skip
    assert isinstance(TRACED, dict)
    counted = count_workload(load_scenario({**TRACED, "model": model}), 1, None)
    dense, moe, _ = counted.stages[0].units
    names = [op.name for op in moe.ops()]
    assert {
        "kv_latent_norm_reduce",
        "q_latent_norm_reduce",
        "rope_cat",
        "shared_activation_elementwise",
    } <= set(names)
    # Weights of the experts' results are FP32 behind a sigmoid: their product is, too.
    mixed = next(op for op in moe.ops() if op.name == "expert_results_elementwise_mixed")
    rows = 8192 * 2
    assert mixed.bytes_written == 4 * rows * 1024
    assert not any(op.shape.op == "sort" for op in dense.ops())


def test_attention_with_sinks_is_made_of_matrices() -> None:
    """gpt-oss: two products forward and four backward of all pairs; the model's work is that of the causal core."""
    window = (
        "model.attention.sinks=true",
        "model.attention.qk_norm=false",
        "model.moe.clamp=7.0",
        "model.moe.bias=true",
    )
    plain = work(*window)
    layer = plain.stages[0].units[0]
    heads, seq, size = 2 * 32, 4096, 128
    products = [op for op in layer.ops() if op.name.startswith("core_gemm")]
    assert [op.phase for op in products] == ["F"] * 2 + ["I"] * 4
    assert all(op.flop == 2.0 * heads * seq * seq * size for op in products)
    fused = work(*window, "framework=null", "kernels.modules=fused").stages[0].units[0]
    assert sum(op.model_flop for op in layer.ops()) == pytest.approx(
        sum(op.model_flop for op in fused.ops()), rel=1e-12
    )
    kept = {each.name: each.num_bytes for each in blocks.attention_block(scenario(*window).model, T, seq).kept}
    assert kept["core.shares"] == 2 * heads * seq * (seq + 1)
    assert kept["core.right"] == 2 * heads * seq * size, "keys and values of few heads are copied to all"
    assert not any(op.shape.op.startswith("attention") for op in layer.ops())


def test_a_sort_of_many_kernels_is_few_calls() -> None:
    found = {op.shape.op: op for op in ops(work()) if op.shape.op in ("sort", "index_put")}
    assert {name: calls_of(op, "mlp_f_routed").launch for name, op in found.items()} == dict.fromkeys(found, SORT_CALLS)


def test_two_readers_of_a_value_add_their_gradients_once() -> None:
    """Planted fault: an accumulation that is forgotten."""
    t = Tape(segment="x")
    x = t.value(100, 10)
    t.walk_back(functions.plus(t, functions.activated(t, x), functions.activated(t, x)))
    # Two derivatives of the activation, and the sum of both gradients.
    assert number(tuple(t.backward["x"])) == {"elementwise": 3}


REFUSED: Mapping[str, tuple[str, ...]] = {
    "parallel.tp": ("cluster.num_gpus=2", "parallel.tp=2"),
    "precision.recipe": ("precision.recipe=fp8-tensor",),
    "recompute.granularity": ("recompute.granularity=selective", "recompute.modules=[swiglu]"),
    "head.chunk_tokens": ("head.chunk_tokens=1024",),
    "model.attention.window": ("model.attention.window=128",),
    "model.norm": ("model.norm=layernorm",),
    "model.moe": ("model.moe.bias=true",),
}


@pytest.mark.parametrize(("key", "overrides"), REFUSED.items(), ids=REFUSED.keys())
def test_what_is_not_modelled_is_refused(key: str, overrides: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as told:
        scenario("framework=null", "kernels.modules=transformers", *overrides)
    assert f"{key}: not modelled yet (transformers with" in str(told.value)


def test_keys_that_the_modules_answer_are_told() -> None:
    assert any("kernels.norm" in str(each) for each in scenario("kernels.norm=eager").warnings)


def test_calls_of_functions_take_longer_in_a_model_and_are_all_that_a_layer_does() -> None:
    prepared = prepare(scenario())
    assert (
        prepared.host is not None
        and prepared.host.costs is not None
        and prepared.host.in_model == in_a_model(None).value
    )
    layer = prepared.workload.stages[0].units[1]
    issued = sum(sum(block.values()) for block in prepared.host.unit(layer).blocks.values())
    calls = sum(issue_s(each, name, prepared.host.costs) for name, block in layer.blocks.items() for each in block)
    assert issued == pytest.approx(in_a_model(None).value * calls, rel=1e-12)


def test_no_layer_waits_for_its_experts_rows() -> None:
    """Offsets of the grouped products stay on the device."""
    assert host_syncs(scenario()) == 0 < host_syncs(scenario("framework=null"))
