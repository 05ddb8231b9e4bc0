"""The output head under tensor parallelism: the loss of a rank's columns, reduced, or of gathered logits."""

from dataclasses import replace

from simulator.workload.layers.head import head_block, head_unit
from simulator.workload.op import Collective, Op
from simulator.workload.recipe import Recipe
from tests.workload.memory_cases import FP8, V3
from tests.workload.test_layers_brute_force import GQA, model, recipe

T, V = 16, 64


def parts(r: Recipe) -> dict[str, Op | Collective]:
    blocks = head_unit(model(GQA), "head", r).blocks
    return {each.name: each for name in ("mlp_f_local", "mlp_b_local") for each in blocks[name]}


def test_gathered_logits_cross_the_group_once_and_every_rank_takes_the_whole_loss() -> None:
    sharded, gathered = parts(replace(recipe(), tp=2)), parts(replace(recipe(), tp=2, gathers_logits=True))
    gather = gathered["logits_gather"]
    assert isinstance(gather, Collective)
    assert (gather.op, gather.num_bytes) == ("all_gather", 2 * T * V)
    assert {"logits_max_reduce", "target_logit_reduce", "sum_exp_reduce"} & set(gathered) == set()
    assert "logits_gather" not in sharded
    for name in ("loss", "loss_bwd"):
        whole, share = gathered[name], sharded[name]
        assert isinstance(whole, Op) and isinstance(share, Op)
        assert (whole.bytes_read, whole.bytes_written) == (2 * T * V, 2 * T * V)
        assert share.bytes_read == T * V
    assert "logits_grad_slice" in gathered and "logits_grad_slice" not in sharded


def test_one_rank_gathers_nothing() -> None:
    assert parts(recipe()) == parts(replace(recipe(), gathers_logits=True))


def test_an_unfused_loss_passes_over_fp32_logits_function_by_function() -> None:
    """Forward: BF16 in, FP32 out; then maximum, difference, exponential, sum, division. Backward: product, conversion."""
    unfused = parts(replace(recipe(), loss="unfused"))
    forward, backward = unfused["loss"], unfused["loss_bwd"]
    assert isinstance(forward, Op) and isinstance(backward, Op)
    passes = [(2, 4), (4, 0), (4, 4), (4, 4), (4, 0), (4, 4)]
    assert forward.bytes_read == T * V * sum(read for read, _ in passes)
    assert forward.bytes_written == T * V * sum(written for _, written in passes)
    assert forward.shape.num_kernels == len(passes)
    assert (backward.bytes_read, backward.bytes_written, backward.shape.num_kernels) == (8 * T * V, 6 * T * V, 2)


def test_a_compiled_loss_reads_each_function_s_input_once() -> None:
    """Forward: BF16 in, FP32 out with the maximum; exponentials with their sum; quotients. Backward: product, conversion."""
    kinds = {loss: parts(replace(recipe(), loss=loss)) for loss in ("fused", "compiled", "unfused")}
    forward, backward = kinds["compiled"]["loss"], kinds["compiled"]["loss_bwd"]
    assert isinstance(forward, Op) and isinstance(backward, Op)
    passes = [(2, 4), (4, 4), (4, 4)]
    assert forward.bytes_read == T * V * sum(read for read, _ in passes)
    assert forward.bytes_written == T * V * sum(written for _, written in passes)
    assert (backward.bytes_read, backward.bytes_written) == (4 * T * V, 6 * T * V)
    assert (forward.shape.num_kernels, backward.shape.num_kernels) == (3, 2)
    for name in ("loss", "loss_bwd"):
        moved = [each.shape.bytes for kind in kinds.values() if isinstance(each := kind[name], Op)]
        assert len(moved) == 3 and moved == sorted(set(moved)), "fused, compiled, unfused: more bytes each"


def test_chunks_do_the_same_products_with_their_gradients_in_the_forward() -> None:
    whole = head_unit(model(GQA), "head", replace(recipe(), tp=2))
    cut = head_unit(model(GQA), "head", replace(recipe(), tp=2, head_chunk=6))
    assert sum(op.flop for op in cut.ops()) == sum(op.flop for op in whole.ops())
    assert sum(op.model_flop for op in cut.ops()) == sum(op.model_flop for op in whole.ops())
    forward = [each for each in cut.blocks["mlp_f_local"] if isinstance(each, Op)]
    assert [op.shape.m for op in forward if op.shape.variant == "fprop"] == [6, 6, 4], "the last chunk is what is left"
    assert [op.shape.k for op in forward if op.shape.variant == "wgrad"] == [6, 6, 4]
    assert {op.phase for op in forward} == {"F"}
    assert [each.name for each in cut.blocks["mlp_b_local"]] == ["head_input_grad_reduce", "final_norm_bwd"]
    assert not cut.blocks["mlp_w"]
    one, three = (sum(op.bytes_written for op in u.ops() if op.shape.variant == "wgrad") for u in (whole, cut))
    assert three == 3 * one, "the FP32 gradient of the matrix is written once a chunk"
    sums = [each.num_bytes for each in cut.blocks["mlp_f_local"] if isinstance(each, Collective)]
    assert sums == [4 * 6] * 6 + [4 * 4] * 3


def test_one_chunk_of_logits_is_there_at_a_time_and_the_input_s_gradient_stays() -> None:
    whole, cut = head_block(V3, FP8), head_block(V3, replace(FP8, head_chunk=512))
    saved = {tensor.name: tensor.num_bytes for tensor in cut.saved}
    assert saved == {"head.input": 2 * 4096 * 7168, "head.input_grad": 2 * 4096 * 7168}
    assert {t.name: t.num_bytes for t in cut.working_forward}["head.logits"] == 2 * 512 * 129280
    assert {tensor.name: tensor.num_bytes for tensor in whole.saved}["head.logits"] == 2 * 4096 * 129280
    unfused = head_block(V3, replace(FP8, head_chunk=512, is_loss_fused=False))
    assert {t.name: t.num_bytes for t in unfused.working_forward}["head.probabilities"] == 4 * 512 * 129280
    assert unfused.saved == cut.saved
