"""DualPipe: micro-batches enter at both ends, every rank holds stages r and P-1-r, forwards overlap full backwards.

Source of the order: schedule/paired_order.py.
"""

from __future__ import annotations

from simulator.schedule.action import Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule
from simulator.schedule.paired_order import PairedOrder
from simulator.schedule.placement import mirrored


def build_dualpipe(num_ranks: int, num_micro_batches: int) -> Schedule:
    """Micro-batches 0..m/2-1 have direction 0 (enter at rank 0), m/2..m-1 direction 1 (enter at rank P-1)."""
    half = num_micro_batches // 2
    return Schedule(
        name="dualpipe",
        num_ranks=num_ranks,
        num_stages=num_ranks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(tuple(_order(rank, num_ranks, half).actions()) for rank in range(num_ranks)),
        placement=mirrored(num_ranks),
        direction=(0,) * half + (1,) * half,
    )


def _order(rank: int, num_ranks: int, half: int) -> PairedOrder:
    """Near is the direction that enters at the rank's own end. half: micro-batches of a direction."""
    down, up = (rank, 0), (num_ranks - 1 - rank, half)
    is_lower = rank < num_ranks // 2
    return PairedOrder(min(rank, num_ranks - 1 - rank), num_ranks // 2, half, (down, up) if is_lower else (up, down))


def _rank_problem(num_ranks: int) -> str | None:
    if num_ranks >= 2 and num_ranks % 2 == 0:
        return None
    return f"needs an even number of pipeline ranks (each holds stages r and P-1-r), not {num_ranks}"


def _micro_batch_problem(num_ranks: int, num_micro_batches: int) -> str | None:
    if num_micro_batches % 2 == 0 and num_micro_batches >= 2 * num_ranks:
        return None
    return (
        f"needs an even number of micro-batches, at least twice the pipeline ranks ({2 * num_ranks}), "
        f"not {num_micro_batches}"
    )


SCHEDULES.add(
    "dualpipe",
    ScheduleRule(
        build_dualpipe, _rank_problem, _micro_batch_problem, placement="mirrored", split="optional", overlaps_pairs=True
    ),
)
