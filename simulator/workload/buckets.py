"""Which parameters are gathered or reduced together: units of FSDP, buckets of ZeRO 0 to 2.

A bucket is closed when it has reached its size, as in Megatron-LM (core/distributed/param_and_grad_buffer.py); routed experts
have buckets of their own. Its default size is that of core/distributed/distributed_data_parallel.py: 40 million parameters, or
a million a data-parallel rank, whichever is more; one unit where gradients are reduced in each micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from hwprofiles.units import MEGA
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.workload.op import ParamGroup

BUCKET_PARAMETERS, BUCKET_PARAMETERS_A_RANK = round(40 * MEGA), round(MEGA)
"""Megatron-LM's default size of a bucket, and what it is at least for each data-parallel rank."""
WIRE_BYTES = {"fp32": 4, "bf16": 2}
"""Bytes of a gradient or parameter by format, on the wire and in memory."""


def by_unit(groups: Sequence[ParamGroup]) -> list[list[ParamGroup]]:
    """The groups of every unit, in forward order."""
    ordered = sorted(groups, key=lambda group: group.unit)
    return [list(found) for _, found in groupby(ordered, key=lambda group: group.unit)]


def buckets_of(groups: Sequence[ParamGroup], limit: int) -> list[ParamGroup]:
    """Sums of groups that are reduced together, in the order of a backward; limit: parameters that close a bucket.

    A bucket belongs to its first unit in forward order.
    """
    buckets: list[ParamGroup] = []
    open_dense: list[ParamGroup] = []
    open_expert: list[ParamGroup] = []
    for group in sorted(groups, key=lambda group: -group.unit):
        for is_open, part in (
            (open_expert, ParamGroup(group.unit, 0, group.expert)), (open_dense, ParamGroup(group.unit, group.dense))
        ):  # fmt: skip
            if part.dense + part.expert:
                is_open.append(part)
            if is_open and size_of(is_open) >= limit:
                buckets.append(total(is_open))
                is_open.clear()
    return buckets + [total(rest) for rest in (open_expert, open_dense) if rest]


def bucket_parameters(scenario: Scenario) -> int:
    """Parameters that close a bucket."""
    plan = scenario.data_parallel
    if plan.bucket_bytes is not None:
        return -(-plan.bucket_bytes // WIRE_BYTES[plan.grad_reduce.dtype])
    if derived.reduces_every_micro_batch(scenario):
        return 1
    return max(BUCKET_PARAMETERS, BUCKET_PARAMETERS_A_RANK * derived.dense_holders(scenario))


def size_of(groups: Sequence[ParamGroup]) -> int:
    """Parameters of all of them."""
    return sum(group.dense + group.expert for group in groups)


def total(groups: Sequence[ParamGroup]) -> ParamGroup:
    """Groups as one, which belongs to their first unit."""
    return ParamGroup(
        min(group.unit for group in groups), sum(group.dense for group in groups), sum(group.expert for group in groups)
    )
