"""DualPipeV: DualPipe cut in half. Micro-batches go down a V of half-size stages and up again, no parameter stands twice.

Source of the order: schedule/paired_order.py; the cut: Sea AI Lab's note "DualPipe could be better without the Dual" (2025), as
the DualPipe README names it. The way down (stages 0 to P-1) and the way up (P to 2P-1) take the places of DualPipe's two
directions; S = 2P stages. On the last rank both are one behind the other, and nothing is sent there.
"""

from __future__ import annotations

from simulator.schedule.action import Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule, at_least_one_rank
from simulator.schedule.paired_order import PairedOrder
from simulator.schedule.placement import folded


def build_dualpipe_v(num_ranks: int, num_micro_batches: int) -> Schedule:
    """Every micro-batch enters at rank 0 and leaves there; a rank keeps at most 2P + 1 half-size stages of activations."""
    return Schedule(
        name="dualpipe_v",
        num_ranks=num_ranks,
        num_stages=2 * num_ranks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(
            tuple(PairedOrder(rank, num_ranks, num_micro_batches, ((rank, 0), (2 * num_ranks - 1 - rank, 0))).actions())
            for rank in range(num_ranks)
        ),
        placement=folded(num_ranks),
        direction=(0,) * num_micro_batches,
    )


def _micro_batch_problem(num_ranks: int, num_micro_batches: int) -> str | None:
    if num_micro_batches >= 2 * num_ranks:
        return None
    return f"needs at least twice the pipeline ranks ({2 * num_ranks}) as micro-batches, not {num_micro_batches}"


SCHEDULES.add(
    "dualpipe_v",
    ScheduleRule(
        build_dualpipe_v, at_least_one_rank, _micro_batch_problem, placement="folded", split="optional",
        overlaps_pairs=True,
    ),
)  # fmt: skip
