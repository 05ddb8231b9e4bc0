"""How many micro-batches of each stage a pipeline rank holds at its fullest, by schedule.

Of P ranks, v chunks a rank, m micro-batches, on rank r, of stages whose backwards are whole:

    gpipe                m
    1f1b                 min(m, P - r)
    interleaved_1f1b     the first 2 (P - r - 1) + (v - 1) P + 1 forwards, in groups of P micro-batches a chunk

Schedules that put weight gradients off (zero bubbles, DualPipe), and 1F1B in pairs of layers, are walked, action by action,
with as few micro-batches as fill the pipeline three times: what is in flight then no longer grows. The operands of weight
gradients wait too, in place of what they were made of.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from simulator.schedule import SCHEDULES, build_schedule, next_valid_micro_batches
from simulator.schedule.placement import folded, going_round, mirrored, straight

Held = tuple[tuple[int, ...], ...]
FILLS: Final = 3
"""Times that the pipeline is filled before what is in flight is taken to stay."""


class Instant(NamedTuple):
    """A moment of a rank: of each stage that it holds, micro-batches that are kept, and those that wait for W alone."""

    kept: tuple[float, ...]
    waiting: tuple[float, ...]


def stages_held(schedule: str, pp: int, vpp: int) -> Held:
    """Stages of every rank."""
    place = SCHEDULES[schedule].placement
    if place == "round":
        return going_round(pp, vpp)
    return {"straight": straight, "mirrored": mirrored, "folded": folded}[place](pp)


def fewest(schedule: str, pp: int, vpp: int, num_micro_batches: int) -> int:
    """Micro-batches of a step with as much in flight as one of so many has."""
    if schedule == "gpipe" or num_micro_batches <= FILLS * pp * vpp:
        return num_micro_batches
    return min(num_micro_batches, next_valid_micro_batches(schedule, pp, FILLS * pp * vpp)[-1])


@lru_cache(maxsize=4096)
def in_flight(schedule: str, pp: int, vpp: int, num_micro_batches: int) -> tuple[tuple[Instant, ...], ...]:
    """Of every rank the instants one of which is its fullest."""
    rule, m = SCHEDULES[schedule], num_micro_batches
    if rule.split != "never" or (rule.pairs_by_layer and vpp == 1):
        return _walked(schedule, pp, fewest(schedule, pp, vpp, m))
    none = (0.0,) * vpp
    if rule.placement == "round":
        return tuple((Instant(_of_chunks(pp, vpp, m, rank), none),) for rank in range(pp))
    if schedule == "gpipe":
        return ((Instant((m,), none),),) * pp
    return tuple((Instant((min(m, pp - rank),), none),) for rank in range(pp))


def _of_chunks(pp: int, vpp: int, m: int, rank: int) -> tuple[float, ...]:
    whole, rest = divmod(min(m * vpp, 2 * (pp - rank - 1) + (vpp - 1) * pp + 1), pp * vpp)
    return tuple(whole * pp + min(pp, max(0, rest - chunk * pp)) for chunk in range(vpp))


def _walked(schedule: str, pp: int, m: int) -> tuple[tuple[Instant, ...], ...]:
    found = []
    order = build_schedule(schedule, pp, m)
    for rank, actions in enumerate(order.ranks):
        at = {stage: i for i, stage in enumerate(order.placement[rank])}
        kept, waiting, seen = [0] * len(at), [0] * len(at), set[Instant]()
        for action in actions:
            # A pair's forward keeps what its backward lets go, block by block.
            seen.add(Instant(tuple(kept), tuple(waiting)))
            halves = action.halves()
            for kind, stage, _ in halves:
                kept[at[stage]] += kind == "F"
            if len(halves) == 1:
                seen.add(Instant(tuple(kept), tuple(waiting)))
            for kind, stage, _ in halves:
                kept[at[stage]] -= kind in ("B", "I")
                waiting[at[stage]] += (kind == "I") - (kind == "W")
            seen.add(Instant(tuple(kept), tuple(waiting)))
        found.append(_fullest(seen))
    return tuple(found)


def _fullest(seen: set[Instant]) -> tuple[Instant, ...]:
    """Those that no other has more of everything than."""
    front: list[tuple[tuple[float, ...], Instant]] = []
    for one in sorted(seen, key=lambda each: (-sum(each.kept) - sum(each.waiting), each)):
        amounts = (*one.kept, *one.waiting)
        if not any(all(a >= b for a, b in zip(other, amounts, strict=True)) for other, _ in front):
            front.append((amounts, one))
    return tuple(one for _, one in front)
