"""Laws of memory: bytes by closed form; more recompute or sharding never more, longer sequences never less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.scenario.model import ModelSpec
from simulator.workload import counting, memory
from simulator.workload.counted import recipe_of
from simulator.workload.layers.head import head_block
from simulator.workload.layers.part import PARTS
from simulator.workload.memory import MemoryAssumptions
from simulator.workload.model_state import (
    StageParams,
    StateRecipe,
    rank_states,
    stage_params,
)
from simulator.workload.op import ParamGroup, StageWorkload, Unit, Workload
from simulator.workload.recompute import Checkpoint
from simulator.workload.saved import ActivationRecipe
from simulator.workload.stages import build_workload, stage_blocks
from simulator.workload.tensors import BlockMemory, tensor_bytes, total_bytes, weight_bytes
from simulator.workload.vocabulary import VocabularyCopy, vocabulary_copies, with_copies
from tests.workload.memory_cases import ASSUMED, DENSE, FP8, MODULES, V3, scenario


def layer_blocks(model: ModelSpec, is_moe: bool, recipe: ActivationRecipe) -> tuple[BlockMemory, ...]:
    return PARTS["m" if is_moe else "d"].saved(model, recipe)


def named(block: BlockMemory) -> dict[str, int]:
    return {tensor.name: tensor.num_bytes for tensor in block.saved}


def test_formats_take_their_bits_and_scales() -> None:
    assert tensor_bytes("bf16", 1000) == 2000
    assert tensor_bytes("fp8-block", 128 * 10) == 1280 + 40
    assert tensor_bytes("e5m6", 256) == 384 + 8
    assert tensor_bytes("mxfp8", 64) == 66
    assert weight_bytes("fp8-block", 128 * 128) == 128 * 128 + 4
    with pytest.raises(KeyError):
        tensor_bytes("fp4", 1)


def test_a_bf16_dense_layer_keeps_its_closed_form() -> None:
    """16 h + 6 f bytes a token (input 2, norm 2, q k v 6, attention output 2, again 2 + 2) and the log-sum-exp."""
    t, h, f, heads = 256, 512, 1536, 4
    saved = sum(total_bytes(block.saved) for block in layer_blocks(DENSE, False, ActivationRecipe(tokens=t)))
    assert saved == t * (16 * h + 6 * f + 4 * heads)


def test_full_recompute_keeps_only_the_input_of_a_layer() -> None:
    for model, is_moe in ((DENSE, False), (V3, True)):
        blocks = layer_blocks(model, is_moe, ActivationRecipe(tokens=256, recompute=frozenset({"layer"})))
        assert sum(total_bytes(block.saved) for block in blocks) == 2 * 256 * model.hidden_size


def test_a_layer_of_deepseek_v3_keeps_what_its_report_says() -> None:
    """Section 3.2.3 and 3.3.3 of the report: latents, E5M6 attention output, FP8 expert input and SwiGLU input."""
    attention, ffn = layer_blocks(V3, True, FP8)
    assert set(named(attention)) == {
        "attn.input", "attn.q_latent", "attn.kv_latent", "attn.k_rope", "attn.log_sum_exp", "attn.out"
    }  # fmt: skip
    assert named(attention)["attn.input"] == 2 * 4096 * 7168
    assert named(attention)["attn.out"] == 4096 * 16384 * 3 // 2 + 4096 * 128 * 4
    rows = 4096 * 8
    assert named(ffn)["expert.input"] == rows * (7168 + 4 * 56)
    assert named(ffn)["expert.swiglu_in"] == rows * (4096 + 4 * 32)
    assert named(ffn)["shared.swiglu_in"] == 4096 * (4096 + 4 * 32)
    assert "expert.swiglu_out" not in named(ffn)
    waiting = {tensor.name for tensor in ffn.deferred}
    assert waiting == {
        f"{owner}.{what}" for owner in ("expert", "shared") for what in ("swiglu_out", "up_grad", "down_grad")
    }


def test_logits_of_one_deepseek_v3_micro_batch_take_1_06_gb() -> None:
    logits = named(head_block(V3, FP8))["head.logits"]
    assert logits == 4096 * 129280 * 2 == 1_059_061_760
    last = stage_blocks(V3, ("m", "mtp", "L"), FP8)
    assert [block.name for block in last] == [
        "attention", "moe_ffn", "head", "mtp_input", "attention", "moe_ffn", "head"
    ]  # fmt: skip
    assert sum(named(block).get("head.logits", 0) for block in last) == 2 * logits


@pytest.mark.parametrize(
    ("codes", "states"),
    [(("m", "mtp", "L"), [1]), (("mtp", "mtp", "L"), [1, 1]), (("m", "mtp"), [2]), (("mtp", "mtp"), [2, 1])],
)
@pytest.mark.parametrize("modules", [frozenset(), frozenset({"rmsnorm"})])
def test_a_hidden_state_that_a_head_keeps_is_not_kept_for_the_module_behind_it(
    codes: tuple[str, ...], states: list[int], modules: frozenset[str]
) -> None:
    """The main head's, or that of the module before; a module that stands first takes one that nobody else has."""
    for checkpoint in (None, Checkpoint()):
        blocks = stage_blocks(V3, codes, replace(FP8, recompute=modules, checkpoint=checkpoint))
        kept = [named(block)["mtp.input"] for block in blocks if block.name == "mtp_input"]
        assert kept == [count * 2 * 4096 * 7168 for count in states]


def test_an_unfused_loss_keeps_fp32_probabilities_and_works_on_fp32_logits() -> None:
    fused, unfused = head_block(V3, FP8), head_block(V3, replace(FP8, is_loss_fused=False))
    assert total_bytes(unfused.saved) - total_bytes(fused.saved) == 4096 * 129280 * 4
    assert total_bytes(unfused.working_forward) - total_bytes(fused.working_forward) == 4096 * 129280 * 4


@settings(max_examples=60, deadline=None)
@given(
    modules=st.frozensets(st.sampled_from(MODULES)),
    extra=st.sampled_from(MODULES),
    fp8=st.booleans(),
    is_moe=st.booleans(),
    tokens=st.integers(1, 600),
)
def test_more_recompute_never_saves_more_and_longer_sequences_never_less(
    modules: frozenset[str], extra: str, fp8: bool, is_moe: bool, tokens: int
) -> None:
    recipe = replace(FP8, recompute=modules) if fp8 else ActivationRecipe(tokens=1, ep=64, recompute=modules)
    less, more, longer = (
        sum(total_bytes(block.saved) for block in layer_blocks(V3, is_moe, each))
        for each in (
            replace(recipe, tokens=tokens, recompute=modules | {extra}),
            replace(recipe, tokens=tokens),
            replace(recipe, tokens=tokens + 128),
        )
    )
    assert less <= more < longer


def test_expert_rows_follow_load_and_padding() -> None:
    assert V3.moe is not None
    assert FP8.expert_rows(V3.moe, 1.25) == 40960
    assert replace(FP8, row_padding=129).expert_rows(V3.moe, 1.0) == 32768 + 4 * 128 // 2


def test_tensor_parallelism_divides_the_gemms_and_sequence_parallelism_the_rest() -> None:
    alone, tp, both = (
        named(layer_blocks(V3, False, recipe)[0])
        for recipe in (FP8, replace(FP8, tp=4), replace(FP8, tp=4, shards_sequence=True))
    )
    assert tp["attn.out"] * 4 == both["attn.out"] * 4 == alone["attn.out"]
    assert tp["attn.input"] == both["attn.input"] * 4 == alone["attn.input"]


def state_bytes(recipe: StateRecipe, params: StageParams, holders: int = 1) -> tuple[int, int, int]:
    state = rank_states([params], recipe, [(0,)] * holders)[0]
    return total_bytes(state.weights), total_bytes(state.gradients), total_bytes(state.optimizer)


def test_state_of_a_bf16_model_takes_2_4_and_12_bytes_a_parameter() -> None:
    params = StageParams(1000, 0, 600, 0)
    assert state_bytes(StateRecipe(zero_stage=0), params) == (3200, 6400, 19200)
    sharded = StateRecipe(zero_stage=1, dense_replicas=10, expert_replicas=2)
    assert state_bytes(sharded, params) == (3200, 6400, 12 * (100 + 300))
    assert state_bytes(replace(sharded, moment_dtype="bf16"), params)[2] == 8 * (100 + 300)


def test_without_zero_every_rank_holds_all_of_the_state_and_zero_2_the_gradients_of_the_unit_at_work() -> None:
    params = StageParams(1000, 0, 600, 0, units=(200, 100), bucket=300)
    shared = StateRecipe(zero_stage=0, dense_replicas=10, expert_replicas=2)
    assert state_bytes(shared, params) == (2 * 1600, 4 * 1600, 12 * 1600)
    assert state_bytes(replace(shared, zero_stage=2), params) == (2 * 1600, 4 * (100 + 300) + 4 * 300, 12 * (100 + 300))


def test_the_fullest_micro_batch_is_kept_apart_from_the_mean_one() -> None:
    assumed = replace(ASSUMED, expert_rows_frac=1.05, expert_rows_peak_frac=1.35)
    found = memory.activation_recipe(scenario(moe={"balance": "natural"}), assumed)
    assert (found.expert_rows_frac, found.expert_rows_peak_frac) == (1.05, 1.35)


def test_pure_bf16_holds_no_master_weights() -> None:
    params = StageParams(1000, 0, 600, 0)
    pure = StateRecipe(zero_stage=0, moment_dtype="bf16", gradient_dtype="bf16", keeps_master=False)
    assert state_bytes(pure, params) == (3200, 3200, 2 * 2 * 1600)
    assert memory.state_recipe(scenario(training={"optimizer": "adamw-bf16"}), ASSUMED) == replace(
        memory.state_recipe(
            scenario(training={"optimizer": "adamw-bf16-moments"}), ASSUMED
        ), keeps_master=False,
    )  # fmt: skip


def test_placeholders_are_one_of_each_shape_of_a_rank_in_bf16() -> None:
    stages = [StageParams(0, 0, 0, 0, shapes=frozenset(shapes)) for shapes in ({(2, 3), (4, 5)}, {(4, 5), (6, 7)})]
    recipe = StateRecipe(keeps_placeholders=True)
    (state,) = rank_states(stages, recipe, [(0, 1)])
    assert {tensor.name: tensor.num_bytes for tensor in state.gradients} == {
        "gradients.placeholders": 2 * (2 * 3 + 4 * 5 + 6 * 7)
    }  # fmt: skip
    (without,) = rank_states(stages, replace(recipe, keeps_placeholders=False), [(0, 1)])
    assert without.gradients == ()


def test_two_holders_of_a_stage_share_its_optimizer_state() -> None:
    """DualPipe: stage s stands on two ranks, so dense parameters have twice the data-parallel group's holders."""
    params = StageParams(1000, 0, 600, 0)
    recipe = StateRecipe(dense_replicas=5, expert_replicas=2)
    one, two = state_bytes(recipe, params), state_bytes(recipe, params, holders=2)
    assert two[:2] == one[:2]
    assert 2 * two[2] == one[2]


@given(stage=st.integers(0, 2), dense=st.integers(1, 10**9), expert=st.integers(0, 10**9))
def test_more_zero_never_holds_more_of_what_it_shards(stage: int, dense: int, expert: int) -> None:
    recipe = StateRecipe(zero_stage=stage, dense_replicas=8, expert_replicas=2)
    params = StageParams(dense, 0, expert, 0)
    less, more = state_bytes(replace(recipe, zero_stage=stage + 1), params), state_bytes(recipe, params)
    assert all(smaller <= larger for smaller, larger in zip(less, more, strict=True))


def test_fsdp_holds_two_gathered_units_and_the_gradient_of_one() -> None:
    """The fullest neighbours; with no_sync whole gradients; without resharding all that the rank gathers."""
    params = StageParams(1000, 0, 0, 0, units=(300, 50, 250, 400))
    recipe = StateRecipe(zero_stage=3, dense_replicas=10)
    assert state_bytes(recipe, params) == (2 * 650, 4 * 100 + 4 * 400, 12 * 100)
    assert state_bytes(replace(recipe, reduces_each=False), params)[1] == 4 * 1000
    assert state_bytes(replace(recipe, reshards=False), params)[0] == 2 * 1000
    assert state_bytes(replace(recipe, gathered_dtype="fp32"), params)[0] == 4 * 650
    assert state_bytes(replace(recipe, gradient_dtype="bf16"), params)[1] == 2 * 100 + 2 * 400
    first, second = replace(params, units=(300, 50)), replace(params, units=(250, 400))
    (state,) = rank_states([first, second], recipe, [(0, 1)])
    assert total_bytes(state.weights) == 2 * 650, "of all of a rank's stages two units are gathered at a time"


def test_fp8_weights_are_kept_by_the_recipes_cache() -> None:
    params = StageParams(2 * 128 * 128, 128 * 128, 0, 0)
    fp8 = StateRecipe(weight_dtype="fp8-block", keeps_quantised=True, bf16_copy_frac=0.0)
    one = 128 * 128
    assert state_bytes(fp8, params)[0] == 2 * one + one + 4
    assert state_bytes(replace(fp8, keeps_transposed=True), params)[0] == 2 * one + 2 * (one + 4)
    assert state_bytes(replace(fp8, bf16_copy_frac=1.0), params)[0] == 2 * 2 * one + one + 4
    assert state_bytes(replace(fp8, keeps_quantised=False), params)[0] == 2 * 2 * one


def test_parameters_are_counted_from_the_forward_gemms() -> None:
    linear, router = counting.fprop("up", "fp8-block", 9, 4, 5), counting.fprop("router", "bf16", 9, 2, 5)
    experts, again = counting.grouped(linear, 3), replace(linear, phase="I")
    unit = Unit("layer", "moe", {"mlp_f_local": (linear, router), "mlp_f_routed": (experts,), "attn_b": (again,)})
    shapes = frozenset({(4, 5), (2, 5)})
    assert stage_params(StageWorkload(0, (unit,), 50, 60)) == StageParams(50, 20, 60, 60, shapes=shapes)


def test_a_rank_holds_copies_of_vocabulary_matrices_that_stand_elsewhere() -> None:
    """Tied embeddings and MTP modules; where a rank holds both ends (DualPipe) there is no copy."""
    matrix, tied = V3.vocab_size * V3.hidden_size, V3.model_copy(update={"tied_embeddings": True})
    line, layout = [(0,), (1,)], [("E", "d"), ("m", "mtp", "L")]
    assert vocabulary_copies(V3, layout, line) == (VocabularyCopy("embedding", matrix, (0, 1), (1,)),)
    assert vocabulary_copies(V3, layout, [(0, 1), (0, 1)]) == ()
    assert vocabulary_copies(V3, [("E", "d"), ("m", "L")], line) == ()
    assert vocabulary_copies(tied, [("E", "d"), ("m", "L")], line, tp=2)[0].parameters == matrix // 2
    three, spread = [(0,), (1,), (2,)], [("E", "d"), ("m", "mtp"), ("m", "L")]
    assert vocabulary_copies(V3, spread, three) == (
        VocabularyCopy("embedding", matrix, (0, 1), (1,)), VocabularyCopy("head", matrix, (1, 2), (1,)),
    )  # fmt: skip
    assert vocabulary_copies(tied, spread, three) == (VocabularyCopy("embedding", matrix, (0, 1, 2), (1, 2)),)
    mirrored = [(0, 3), (1, 2), (1, 2), (0, 3)]
    folded = vocabulary_copies(V3, [("E", "d"), ("m",), ("m", "mtp"), ("m", "L")], mirrored)
    assert [(copy.matrix, copy.ranks, copy.stages) for copy in folded] == [
        ("embedding", (0, 1), (2,)),
        ("head", (0, 1), (2,)),
    ]


def test_a_copy_counts_among_the_parameters_of_the_first_stage_that_uses_it() -> None:
    layout = [("E", "d"), ("m", "m", "mtp", "L")]
    plan = scenario(parallel={"pp": 2})
    workload = build_workload(V3, layout, recipe_of(plan, 1, None))
    copies = vocabulary_copies(V3, layout, [(0,), (1,)])
    found = with_copies(workload, V3, layout, copies)
    assert found.stages[0] == workload.stages[0]
    assert found.stages[1].dense_params - workload.stages[1].dense_params == copies[0].parameters
    assert found.stages[1].groups[-1] == ParamGroup(3, copies[0].parameters), "the MTP module runs behind the head"


def test_copies_of_vocabulary_matrices_stay_in_bf16() -> None:
    """Under FP8 weights too: 2 bytes each, 4 of gradient and 12 of optimizer state, which nobody shares with ZeRO 0."""
    fp8 = StateRecipe(weight_dtype="fp8-block", keeps_quantised=True, keeps_transposed=True, zero_stage=0)
    matrix = VocabularyCopy("embedding", V3.vocab_size * V3.hidden_size, (0, 1), (0,))
    empty = Workload((StageWorkload(0, (), 0, 0),), 0)
    (stage,) = with_copies(empty, V3, [("mtp",)], [matrix, matrix]).stages
    (state,) = rank_states([stage_params(stage)], fp8, [(0,)])
    copies = 2 * V3.vocab_size * V3.hidden_size
    held = total_bytes(state.weights), total_bytes(state.gradients), total_bytes(state.optimizer)
    assert held == (2 * copies, 4 * copies, 12 * copies)


def test_a_micro_batch_of_several_sequences_keeps_all_of_them() -> None:
    plan = scenario(training={"seq_len": 2048, "micro_batch_size": 3, "global_batch_size": 15360})
    assert memory.activation_recipe(plan, ASSUMED).tokens == 3 * 2048


def test_recipes_follow_the_scenario() -> None:
    plan = scenario(
        recompute={
            "granularity": "selective", "modules": ["rmsnorm"], "saved": {"attn_out": "e5m6", "swiglu_in": "fp8"}
        },
        training={"global_batch_size": 15360, "optimizer": "adamw-bf16-moments"},
        moe={"dispatch_dtype": "fp8", "balance": {"load_imbalance": 1.5}},
    )  # fmt: skip
    recipe = memory.activation_recipe(plan, ASSUMED)
    assert (recipe.act_dtype, recipe.attn_out_dtype, recipe.swiglu_in_dtype) == ("fp8-block", "e5m6", "fp8-block")
    assert recipe.recompute == {"rmsnorm"}
    assert (recipe.expert_rows_frac, recipe.expert_rows_peak_frac) == (1.5, 1.5)
    state = memory.state_recipe(plan, ASSUMED)
    assert (state.keeps_quantised, state.keeps_transposed, state.moment_dtype) == (True, False, "bf16")
    assert (state.dense_replicas, state.expert_replicas) == (128, 2)
    forced = scenario(moe={"balance": "forced"})
    assert memory.activation_recipe(forced, ASSUMED).recompute == frozenset()
    assert memory.expert_loads(forced, replace(ASSUMED, expert_rows_frac=2.0)) == (1.0, 1.0)


def test_rows_of_the_fullest_rank_are_at_least_what_the_router_leaves() -> None:
    """A well balanced model has those of the assumptions; a rank that holds all experts has the even load."""
    plan = scenario(moe={"balance": "natural"})
    assumed = replace(ASSUMED, expert_rows_frac=1.05, expert_rows_peak_frac=1.35)
    assert memory.expert_loads(plan, assumed) == memory.expert_loads(plan, assumed, (1.01, 1.02)) == (1.05, 1.35)
    assert memory.expert_loads(plan, assumed, (1.4, 2.0)) == (1.4, 2.0 * 1.35 / 1.05)
    alone = scenario(moe={"balance": "learned"}, parallel={"ep": 1})
    assert memory.expert_loads(alone, assumed) == (1.0, 1.0)
    even = scenario(moe={"balance": "natural"}, mechanisms={"imbalance": False})
    assert memory.expert_loads(even, assumed, (1.4, 2.0)) == (1.0, 1.0)


def test_pipeline_buffers_are_two_a_boundary_of_a_stage() -> None:
    """58.7 MB a boundary in DeepSeek-V3; each inner end of a held stage has a send and a receive."""
    boundary = 2 * 4096 * 7168
    assert boundary == 58_720_256
    assert memory.pipeline_buffer(boundary, (7, 8), 16, 16).num_bytes == 8 * boundary
    assert memory.pipeline_buffer(boundary, (0, 15), 16, 16).num_bytes == 4 * boundary
    assert memory.pipeline_buffer(boundary, (0,), 1, 1).num_bytes == 0


@pytest.mark.parametrize(("held", "ends"), [((0, 4, 8), 2), ((3, 7, 11), 2), ((1, 5, 9), 2)])
def test_a_rank_of_several_chunks_has_one_of_them_in_flight(held: tuple[int, ...], ends: int) -> None:
    assert memory.pipeline_buffer(100, held, 12, 4).num_bytes == 2 * ends * 100


def test_torch_receives_every_micro_batch_into_a_buffer_of_its_own() -> None:
    """Two ends of an inner stage, one of the first and last; 16 micro-batches."""
    assert memory.receive_buffers(10, (1,), 4, 16).num_bytes == 2 * 10 * 16
    assert memory.receive_buffers(10, (0,), 4, 16).num_bytes == memory.receive_buffers(10, (3,), 4, 16).num_bytes == 160
    torch = scenario(parallel={"pp": 16, "ep": 64, "schedule": "1f1b", "pipeline_buffers": "per_micro_batch"})
    (buffer,) = [
        each for each in memory.buffer_tensors(torch, ASSUMED, 10, (1,), 8, 5) if each.name == "buffers.pipeline"
    ]
    assert buffer.num_bytes == 2 * 10 * 5
    assert memory.activation_recipe(torch, ASSUMED).keeps_outputs
    assert not memory.activation_recipe(scenario(), ASSUMED).keeps_outputs


def test_dispatch_buffers_are_those_of_the_library() -> None:
    """DeepEP's size hints: queues a channel (two SMs) of 8 GPUs and, over RDMA, of 8 nodes in both directions."""
    slot = 2 * 7168 + 2064
    nvl, rdma = 10 * 8 * 288 * slot, 10 * 8 * 128 * 2 * slot
    assert memory.dispatch_buffer(scenario(), ASSUMED, 8).num_bytes == nvl + rdma
    rounded = replace(ASSUMED, dispatch_granularity_bytes=2**29)
    assert memory.dispatch_buffer(scenario(), rounded, 8).num_bytes == nvl + 2**29
    one_node = scenario(parallel={"pp": 16, "ep": 8})
    assert memory.dispatch_buffer(one_node, ASSUMED, 8).num_bytes == nvl
    shared = scenario(parallel={"pp": 16, "ep": 8, "etp": 2})
    # Four of the eight peers are on the node, and there are two nodes.
    assert memory.dispatch_buffer(shared, ASSUMED, 8).num_bytes == nvl // 2 + rdma // 4
    assert memory.dispatch_buffer(scenario(parallel={"pp": 16}), ASSUMED, 8).num_bytes == 0


def test_buffers_of_a_rank_and_usable_bytes() -> None:
    held = memory.buffer_tensors(scenario(), ASSUMED, 100, (0, 15), 8, 120)
    tensors = {tensor.name: tensor.num_bytes for tensor in held}
    assert tensors["buffers.communicators"] == 3 * 600_000_000  # pp, dense replicas, expert replicas
    cut = scenario(parallel={"pp": 16, "tp": 2, "ep": 8, "etp": 2, "sequence_parallel": True})
    assert memory.num_communicators(cut) == 5
    assert tensors["buffers.context"] == 600_000_000
    assert memory.usable_bytes(100.0, 0.25) == 80


def test_a_margin_holds_fragments_the_error_of_estimates_and_what_libraries_take_more_or_less() -> None:
    """A peak of 1,000 MB with 3 communicators of 600 MB and a context of as much."""
    lower = replace(ASSUMED, fragmentation_frac=0.1, real_over_estimate=0.9, communicator_bytes=5e8, context_bytes=4e8)
    assert memory.margin(scenario(), 10**9, ASSUMED, ASSUMED) == pytest.approx(0.25e9)
    assert memory.margin(scenario(), 10**9, ASSUMED, lower) == pytest.approx(-0.01e9 - 3 * 1e8 - 2e8)
    assert replace(ASSUMED, real_over_estimate=1.2).needed_frac == pytest.approx(0.5)


def test_assumptions_come_by_key() -> None:
    values = {key: float(idx) for idx, key in enumerate(MemoryAssumptions.keys())}
    assert MemoryAssumptions.of({**values, "another": 1.0}).fragmentation_frac == values["memory_fragmentation_frac"]
    del values["memory_context_bytes"]
    with pytest.raises(KeyError, match="memory_context_bytes"):
        MemoryAssumptions.of(values)
