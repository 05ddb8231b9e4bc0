"""Projections of one input that are linear layers of their own (kernels.projections: separate), as modules of plain torch have
them: queries, keys and values; gate and up.

Each is a GEMM that reads the input, or its weight gradient; the input's gradient is the sum of as many products, which one more
kernel adds up (autograd adds pair by pair, compiled code all at once: counted as the latter). What is gathered or cast of the
input is so once. The largest keeps the name of all, and with it what runs beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from simulator.scenario.model import FfnKind, GqaAttention, ModelSpec
from simulator.workload import counting as c
from simulator.workload.op import Op, Unit, Work

RECOMPUTED: Final = "_recompute"
PASSES: Final = {"": "fprop", "_dgrad": "dgrad", "_wgrad": "wgrad"}
"""Ending of a GEMM's name → its pass."""


def with_separate_projections(unit: Unit, model: ModelSpec, tp: int) -> Unit:
    """The unit with the GEMMs of joint projections taken apart. tp: ranks that share the heads."""
    layers = _shares(model, tp)
    blocks = {
        name: tuple(each for work in block for each in _apart(work, layers)) for name, block in unit.blocks.items()
    }
    return replace(unit, blocks=blocks)


def _shares(model: ModelSpec, tp: int) -> Mapping[str, tuple[int, ...]]:
    """Joint layer → widths of its projections in proportion, largest first."""
    found: dict[str, tuple[int, ...]] = {}
    held = model.attention.cut(tp)
    if isinstance(held, GqaAttention):
        found["qkv"] = (held.num_heads, held.num_kv_heads, held.num_kv_heads)
    for name, kind in (("ffn_up", model.dense_ffn), ("shared_up", model.moe)):
        if isinstance(kind, FfnKind) and kind.num_up > 1:
            found[name] = (1,) * kind.num_up
    return found


def _apart(work: Work, layers: Mapping[str, tuple[int, ...]]) -> Iterator[Work]:
    name = work.name.removesuffix(RECOMPUTED)
    ending = next((each for each in ("_dgrad", "_wgrad") if name.endswith(each)), "")
    parts = layers.get(name.removesuffix(ending), ())
    if not isinstance(work, Op) or not parts or work.shape.variant != PASSES[ending]:
        yield work
        return
    shape, whole = work.shape, sum(parts)
    for i, part in enumerate(parts):
        cut = part / whole
        if ending == "_wgrad":
            op = c.wgrad(work.name, shape.dtype, shape.k, shape.m * part // whole, shape.n, phase=work.phase)
        elif ending == "_dgrad":
            op = c.dgrad(work.name, shape.dtype, shape.m, shape.k * part // whole, shape.n)
        else:
            op = c.fprop(work.name, shape.dtype, shape.m, shape.n * part // whole, shape.k, phase=work.phase)
        yield replace(
            op, name=f"{work.name}_{i}" if i else work.name, phase=work.phase, model_flop=work.model_flop * cut
        )
    if ending == "_dgrad":
        yield c.add(f"{work.name}_sum", shape.m * shape.n, work.phase, inputs=len(parts))
