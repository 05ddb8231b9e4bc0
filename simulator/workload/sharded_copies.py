"""Copies inside device memory that sharding of parameters (ZeRO 3) adds to a micro-batch, by how torch's FSDP lays shards out.

P parameters of a unit, p bytes each as they are gathered, g = 2 as backward kernels write gradients, r as they are reduced:

    flat           a unit is one vector, parameters are pieces of it and are gathered in place. Backward: the pieces' gradients
                   are joined, (g + g) P; where they are reduced, cast to the format of the reduction, (g + r) P, if that is
                   another, and divided beforehand so that a sum over many ranks does not overflow, (r + r) P
    by_parameter   each is cut by its rows: what is gathered is copied to where it belongs, (p + p) P for each gather. Backward,
                   where they are reduced: gradients are copied into the buffer of the reduction in its format, (g + r) P

Sources: pytorch/pytorch torch/distributed/fsdp/_runtime_utils.py (00ae0bc, _post_backward_hook), flat_param.py (torch.split,
whose backward joins) and algorithms/_comm_hooks/default_hooks.py (reduce_scatter_hook); for by_parameter torch/distributed/
_composable/fsdp/_fsdp_collectives.py (foreach_all_gather_copy_out, foreach_reduce_scatter_copy_in). Work on shards is small
beside these and is left out. torch runs casts and divisions on a stream of their own, where they take memory bandwidth and SMs
from the GEMMs beside them; here they stand behind the unit's weight gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from simulator.workload import counting as c
from simulator.workload.op import BlockName, Op, ParamGroup, Unit
from simulator.workload.tensors import tensor_bytes

Layout = Literal["none", "flat", "by_parameter"]

_FORWARD: Final[tuple[BlockName, ...]] = ("attn_f", "mlp_f_local")
_BACKWARD: Final[tuple[BlockName, ...]] = ("mlp_b_local", "attn_b")
_WEIGHTS: Final[tuple[BlockName, ...]] = ("attn_w", "mlp_w")


@dataclass(frozen=True, slots=True)
class ShardedCopies:
    """layout: as above. gathered, reduced: formats on the wire.

    gathers_again: in the backward too. is_reduced: in each micro-batch.
    """

    layout: Layout = "none"
    gathered: str = "bf16"
    reduced: str = "fp32"
    gathers_again: bool = True
    is_reduced: bool = True


IN_PLACE: Final = ShardedCopies()


def with_copies(units: Sequence[Unit], groups: Iterable[ParamGroup], rule: ShardedCopies) -> tuple[Unit, ...]:
    """Units of a stage with the copies of the parameters that are gathered for them."""
    found = list(units)
    if rule.layout == "none":
        return tuple(found)
    for group in groups:
        count = group.dense + group.expert
        if not count:
            continue
        unit = found[group.unit]
        if rule.layout == "by_parameter":
            unit = _ahead(unit, _FORWARD, _copied_out("F", count, rule))
            if rule.gathers_again:
                unit = _ahead(unit, _BACKWARD, _copied_out("I", count, rule))
        found[group.unit] = _behind(unit, tuple(_gradients(count, rule)))
    return tuple(found)


def _copied_out(phase: Literal["F", "I"], count: int, rule: ShardedCopies) -> Op:
    size = tensor_bytes(rule.gathered, count)
    return c.moved("gathered_copy", "copy", phase, size, size)


def _gradients(count: int, rule: ShardedCopies) -> Iterator[Op]:
    own, wire = tensor_bytes("bf16", count), tensor_bytes(rule.reduced, count)
    if rule.layout == "flat":
        yield c.moved("gradients_joined", "copy", "W", own, own)
    if not rule.is_reduced:
        return
    if rule.layout == "by_parameter" or own != wire:
        yield c.moved("gradients_cast", "copy", "W", own, wire)
    if rule.layout == "flat":
        yield c.moved("gradients_divided", "copy", "W", wire, wire)


def _ahead(unit: Unit, names: Sequence[BlockName], op: Op) -> Unit:
    """With an operator in front of the first of these blocks that the unit has."""
    name = next(name for name in names if name in unit.blocks)
    return replace(unit, blocks={**unit.blocks, name: (op, *unit.blocks[name])})


def _behind(unit: Unit, ops: tuple[Op, ...]) -> Unit:
    """With operators behind the last weight gradients."""
    name = next(name for name in _WEIGHTS if name in unit.blocks)
    return replace(unit, blocks={**unit.blocks, name: (*unit.blocks[name], *ops)})
