"""Code E of a layout: the embedding. It runs as a piece of the layer behind it and keeps only token numbers, not counted.

Under tensor parallelism a rank has its share of the vocabulary's rows and adds nothing for the tokens of the others'
(Megatron-LM core/tensor_parallel/layers.py, VocabParallelEmbedding): what it looks up is summed over the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.layers.part import PARTS, Params, Part, Shard
from simulator.workload.layers.tensor_parallel import gather_output_grad, reduce_output
from simulator.workload.op import Unit, Work
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe, bf16
from simulator.workload.tensors import BlockMemory


def forward(hidden: int, r: Recipe) -> Iterator[Work]:
    """Looks up one row a token."""
    yield c.moved("embedding", "embedding", "F", 2 * r.tokens * hidden, 2 * r.tokens * hidden)
    yield from reduce_output("embedding", hidden, r, chunked=False)


def backward(hidden: int, r: Recipe) -> Iterator[Work]:
    """Adds the gradient to one FP32 row a token."""
    yield from gather_output_grad("embedding", hidden, r, phase="W", chunked=False, is_cast=False)
    yield c.moved("embedding_wgrad", "embedding_bwd", "W", 6 * r.tokens * hidden, 4 * r.tokens * hidden)


def params(model: ModelSpec, shard: Shard) -> Params:
    """The matrix, and that of learned positions, which is not cut; a look-up is no GEMM."""
    matrix, positions = model.vocab_size // shard.tp * model.hidden_size, model.learned_positions * model.hidden_size
    return Params(dense=matrix + positions, gemm=0, replicated=positions)


def units(model: ModelSpec, r: Recipe) -> tuple[Unit, ...]:
    """Look-up and gradient, for the unit behind it; learned positions are added to every sequence alike."""
    h, looked_up, back = model.hidden_size, list(forward(model.hidden_size, r)), list(backward(model.hidden_size, r))
    if model.learned_positions:
        looked_up.append(c.add("positions", r.sequence_tokens * h))
        back.append(c.bias_grad("positions_grad", r.batch, r.sequence_tokens // r.batch * h))
    return (Unit("embedding", "dense", {"attn_f": tuple(looked_up), "attn_w": tuple(back)}),)


def saved(model: ModelSpec, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """Nothing; where weight gradients are tensors of their own, the whole matrix's, which the look-up's backward writes."""
    if not r.makes_weight_gradients:
        return ()
    gradient = bf16("embedding.weight_grad", model.vocab_size // r.tp * model.hidden_size)
    return (BlockMemory("embedding", (), working_backward=(gradient,)),)


EMBEDDING = PARTS.add(
    "E",
    Part(
        params, units, saved, lambda model: frozenset(("embedding",)), holds=frozenset(("embedding",)),
        joins_next=True,
    ),
)  # fmt: skip
