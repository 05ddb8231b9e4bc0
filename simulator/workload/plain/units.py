"""A unit's operators where its modules are plain torch functions: GEMMs and attention cores as they are counted anyway, and
around them, in place of everything that memory bounds, what the tapes of its blocks launch. Kernels of a class in a segment are
one operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.layers.part import Blocks
from simulator.workload.op import BlockName, Op, Pass, Unit, Work
from simulator.workload.plain import blocks as b
from simulator.workload.plain.functions import EMBEDDING_KERNELS
from simulator.workload.plain.tape import Launch
from simulator.workload.recipe import Recipe

_RESULTS: Final = ("expert_results", "expert_sum", "shared_sum", "residual")
EMBEDDING: Final = "embedding"
PREAMBLE: Final = 20
"""Kernels on a few numbers in front of the first layer: positions, the look for packed sequences, cosines and sines
(huggingface/transformers v5.17.0 masking_utils.py, find_packed_sequence_indices; Qwen3MoeRotaryEmbedding.forward)."""
CORE: Final = "core"
"""Segment of what stands in an attention core's place."""


def with_plain_modules(unit: Unit, model: ModelSpec, r: Recipe) -> Unit:
    """The unit as the modules of a library of plain torch functions run it."""
    if unit.name == EMBEDDING:
        made: Blocks = {name: tuple(_embedding(work, model)) for name, work in unit.blocks.items()}
        return _with_sums(replace(unit, blocks=made), r.accumulated)
    if unit.kind == "head":
        return _with_sums(replace(unit, blocks=_head(unit, model, r)), r.accumulated)
    of_moe = unit.kind == "moe"
    made = _layer(
        unit, b.attention_block(model, r.tokens, r.seq), (b.moe_block if of_moe else b.ffn_block)(model, r.tokens)
    )
    if "attn_r" in unit.blocks:
        needed = [*made["mlp_f_routed"], *made["mlp_f_local"]]
        last = max((i for i, work in enumerate(needed) if _keeps_last(work, model, of_moe)), default=len(needed))
        kept = {id(work) for work in needed[:last]}
        made |= {
            "attn_r": c.again(made["attn_f"]),
            "mlp_r_local": c.again(work for work in made["mlp_f_local"] if id(work) in kept),
            "mlp_r_routed": c.again(work for work in made["mlp_f_routed"] if id(work) in kept),
        }
    return _with_sums(replace(unit, blocks=made), r.accumulated)


def _keeps_last(work: Work, model: ModelSpec, of_moe: bool) -> bool:
    """Whether it is the function of a layer that keeps last: torch's checkpoint computes again up to where that keeps, which is
    before its kernel (torch/utils/checkpoint.py, early stop). The down projection; of a layer without shared experts the
    product of the experts' results with their weights.
    """
    if of_moe and model.moe is not None and not model.moe.num_shared_experts:
        return isinstance(work, Op) and work.name.startswith("expert_results") and not work.shape.library
    return work.name in ("ffn_down", "shared_down")


def _with_sums(unit: Unit, share: float) -> Unit:
    """The unit with the sum of each weight's gradient and those of earlier micro-batches, of which a share of all has any."""
    if not share:
        return unit
    return replace(
        unit,
        blocks={
            name: tuple(each for work in block for each in (work, *_sum(work, share)))
            for name, block in unit.blocks.items()
        },
    )


def _sum(work: Work, share: float) -> Iterator[Op]:
    """Of a weight gradient's product, or of the embedding's: read both, write one, BF16."""
    if not isinstance(work, Op):
        return
    shape, count = work.shape, 0
    if shape.variant == "wgrad":
        count = round(share * shape.m * shape.n * shape.groups)
    elif shape.op == "fill" and work.phase == "W":
        count = round(share * shape.m)
    if count:
        yield _op(f"{work.name}_sum", "W", Launch("elementwise", count, 4 * count, 2 * count))


def _embedding(work: Iterable[Work], model: ModelSpec) -> Iterator[Work]:
    """The look-up; its gradient: zeros of the whole matrix, then the rows of tokens, sorted and added."""
    for each in work:
        if each.name == "embedding":
            yield each
            yield _op("tables", "F", Launch("elementwise", 0, 0, 0, PREAMBLE))
            continue
        if not isinstance(each, Op) or each.name != "embedding_wgrad":
            yield each
            continue
        matrix, tokens = model.vocab_size * model.hidden_size, each.bytes_written // 4
        yield _op("embedding_zeros", "W", Launch("fill", matrix, 0, 2 * matrix))
        rows = Launch("embedding_bwd", tokens, 2 * tokens, 2 * tokens, EMBEDDING_KERNELS, "torch")
        yield _op(each.name, "W", rows)


def _head(unit: Unit, model: ModelSpec, r: Recipe) -> Blocks:
    found = b.head_block(model.hidden_size, model.vocab_size, r.tokens)
    products = _products(unit)
    return {
        "mlp_f_local": (*_ops(found.forward, "F", "final_norm"), *products["mlp_f_local"], *_ops(found.forward, "F", "loss")),
        "mlp_b_local": (
            *_ops(found.backward, "I", "loss"), *products["mlp_b_local"], *_ops(found.backward, "I", "head", "final_norm"),
        ),
        "mlp_w": products["mlp_w"],
    }  # fmt: skip


def _layer(unit: Unit, attention: b.Traced, ffn: b.Traced) -> Blocks:
    """The blocks of a layer from those of its attention and its feed-forward network."""
    products = _products(unit)
    core, output = _split(products["attn_f"], "attention")
    behind = [each for each in output if each.name != "router"]
    outside = ("attn_norm", "residual", CORE)
    inner = tuple(name for name in {**attention.forward, **attention.backward} if name not in outside)
    back_core, back_rest = _split(products["attn_b"], "attention_bwd")
    router = [each for each in back_core if each.name.startswith("router")]
    back_core = [each for each in back_core if not each.name.startswith("router")]
    forward, backward = ffn.forward, ffn.backward
    return {
        "attn_f": (
            *_ops(attention.forward, "F", "attn_norm"), *core[:-1], *_ops(attention.forward, "F", *inner),
            *_core(core[-1:], attention.forward, "F"),
            *behind, *_ops(attention.forward, "F", "residual"), *_ops(forward, "F", "ffn_norm"),
            *(each for each in output if each.name == "router"), *_ops(forward, "F", "router"),
        ),
        "mlp_f_local": _around(
            products["mlp_f_local"], _ops(forward, "F", "ffn_activation", "shared_activation"), "_down",
            _ops(forward, "F", "residual") if unit.kind == "dense" else (),
        ),
        "mlp_f_routed": (
            *_ops(forward, "F", "expert_rows"),
            *_around(
                products["mlp_f_routed"], _ops(forward, "F", "expert_up", "expert_activation"), "expert_down",
                _ops(forward, "F", *_RESULTS) if unit.kind == "moe" else (),
            ),
        ),
        "mlp_b_routed": (
            *_ops(backward, "I", "shared_sum", "expert_sum", "expert_results", "expert_down"),
            *_around(
                products["mlp_b_routed"], _ops(backward, "I", "expert_activation"), "expert_up_dgrad",
                _ops(backward, "I", "expert_up", "expert_rows"),
            ),
        ),
        "mlp_b_local": (
            *_ops(backward, "I", "ffn_down", "shared_down"),
            *_around(
                products["mlp_b_local"], _ops(backward, "I", "ffn_activation", "shared_activation"), "_up_dgrad",
                _ops(backward, "I", "ffn_up", "shared_up"),
            ),
        ),
        "mlp_w": products["mlp_w"],
        "attn_b": (
            *_ops(backward, "I", "router"), *router, *_ops(backward, "I", "ffn_norm", "residual"),
            *_core(back_core, attention.backward, "I"),
            *_ops(attention.backward, "I", *inner), *back_rest, *_ops(attention.backward, "I", "attn_norm", "residual"),
        ),
        "attn_w": products["attn_w"],
    }  # fmt: skip


def _products(unit: Unit) -> dict[BlockName, tuple[Op, ...]]:
    """GEMMs and attention cores of each block."""
    names: tuple[BlockName, ...] = (
        "attn_f", "mlp_f_local", "mlp_f_routed", "mlp_b_local", "mlp_b_routed", "mlp_w", "attn_b", "attn_w"
    )  # fmt: skip
    return {
        name: tuple(_written(each) for each in unit.blocks.get(name, ()) if isinstance(each, Op) and _is_product(each))
        for name in names
    }


def _written(op: Op) -> Op:
    """A weight gradient as plain torch makes it: in BF16, added to nothing. Grouped ones are asked for as the stack's library
    of that name has them, whatever that writes.
    """
    shape = op.shape
    if shape.variant != "wgrad" or shape.op != "gemm":
        return op
    numbers = shape.m * shape.n
    read, size = op.bytes_read - 4 * numbers, 2 * numbers
    return replace(
        op, shape=replace(shape, result="bf16", bytes=read + size), bytes_read=read, bytes_written=size
    )  # fmt: skip


def _is_product(op: Op) -> bool:
    """Or the sum of a bias's gradient, which is beside one; experts' are picked by row, as their tapes say."""
    return op.shape.bound != "memory" or (op.name.endswith("_bias_grad") and not op.routed)


def _split(ops: tuple[Op, ...], last: str) -> tuple[list[Op], list[Op]]:
    """Up to the operator of that name, it included, and what is behind it."""
    at = next(i for i, each in enumerate(ops) if each.name == last) + 1
    return list(ops[:at]), list(ops[at:])


def _around(ops: tuple[Op, ...], middle: tuple[Op, ...], before: str, behind: tuple[Op, ...]) -> tuple[Op, ...]:
    """`middle` in front of the first operator whose name has `before` in it, `behind` at the end."""
    at = next((i for i, each in enumerate(ops) if before in each.name), len(ops))
    return (*ops[:at], *middle, *ops[at:], *behind)


def _ops(side: Mapping[str, tuple[Launch, ...]], phase: Pass, *segments: str) -> tuple[Op, ...]:
    """Operators of segments, the launches of a kernel class, library and width in each summed."""
    return tuple(
        _op(f"{segment}_{launch.kernel}{'' if phase == 'F' else '_bwd'}", phase, launch)
        for segment in segments
        for launch in _summed(side.get(segment, ()))
    )


def _summed(launches: Iterable[Launch]) -> list[Launch]:
    found: dict[tuple[object, ...], Launch] = {}
    for number, each in enumerate(launches):
        if each.sizes is not None:
            found[number,] = each
            continue
        key = each.kernel, each.library, each.width
        so_far = found.get(key, Launch(each.kernel, 0, 0, 0, 0))
        found[key] = Launch(
            each.kernel, so_far.elements + each.elements, so_far.read + each.read, so_far.written + each.written,
            so_far.kernels + each.kernels, each.library, width=each.width,
        )  # fmt: skip
    return list(found.values())


def _op(name: str, phase: Pass, launch: Launch) -> Op:
    if launch.sizes is not None:
        return replace(c.fprop(name, "bf16", *launch.sizes, phase=phase), model_flop=0.0)
    made = c.moved(name, launch.kernel, phase, launch.read, launch.written, kernels=launch.kernels)
    rows = launch.elements // launch.width if launch.width else launch.elements
    return replace(made, shape=replace(made.shape, m=rows, n=launch.width, library=launch.library))


def _core(whole: list[Op], side: Mapping[str, tuple[Launch, ...]], phase: Pass) -> list[Op]:
    """The attention core, which stands last: its kernel, or the functions in its place, to the first of which the model's work
    is counted.
    """
    functions = _ops(side, phase, CORE)
    if not functions:
        return whole
    kernel = whole[-1]
    first = next(i for i, op in enumerate(functions) if op.flop)
    counted = [replace(op, model_flop=kernel.model_flop) if i == first else op for i, op in enumerate(functions)]
    return [*whole[:-1], *counted]
