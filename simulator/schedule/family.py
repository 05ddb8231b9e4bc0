"""The family of pipeline schedules: what a schedule's file registers, and the functions over the family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from simulator import not_modelled
from simulator.errors import InputError
from simulator.registry import Family, UnknownName
from simulator.schedule.action import Schedule
from simulator.schedule.placement import Placement
from simulator.schedule.split import joined

Split = Literal["never", "optional", "always"]


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """How to build one kind of schedule.

    build(num_ranks, num_micro_batches): called only with counts that have no problem.
    rank_problem(num_ranks), micro_batch_problem(num_ranks, num_micro_batches): why it cannot be built, else None.
    placement: which rank holds which stages. split: whether it has input and weight gradients apart: "optional" where full
    backwards in their place are the same schedule without the zero-bubble part, "always" where they would be another one.
    overlaps_pairs: whether it has pairs, the forward of one micro-batch beside the backward of another.
    pairs_by_layer: of one with pairs: its executor pairs layers alone, heads run outside, and with delayed weight gradients
    a lone backward delays its own too (Megatron-Core's combined 1F1B); else units in order of execution, whatever they are.
    build_chunks(num_ranks, num_micro_batches, vpp): of a schedule whose ranks hold vpp chunks each, two or more; `build`
    then takes two.
    """

    build: Callable[[int, int], Schedule]
    rank_problem: Callable[[int], str | None]
    micro_batch_problem: Callable[[int, int], str | None]
    placement: Placement = "straight"
    split: Split = "never"
    overlaps_pairs: bool = False
    pairs_by_layer: bool = False
    build_chunks: Callable[[int, int, int], Schedule] | None = None

    @property
    def fewest_chunks(self) -> int:
        """Chunks of the model a rank that `build` takes."""
        return 2 if self.placement in ("round", "folded") else 1

    @property
    def own_chunks(self) -> int | None:
        """Chunks of the model a rank where it has that number and no other; None where they can be chosen."""
        return None if self.build_chunks is not None else self.fewest_chunks


SCHEDULES: Family[ScheduleRule] = Family("schedule", planned=not_modelled.values("parallel.schedule"))


def at_least_one_rank(num_ranks: int) -> str | None:
    """The rank problem of schedules that run on any number of ranks."""
    return None if num_ranks >= 1 else f"needs at least 1 pipeline rank, not {num_ranks}"


def at_least_one_micro_batch(num_ranks: int, num_micro_batches: int) -> str | None:
    """The micro-batch problem of schedules that run any number of micro-batches."""
    return None if num_micro_batches >= 1 else f"needs at least 1 micro-batch, not {num_micro_batches}"


def rule_of(name: str) -> ScheduleRule:
    """The rule of a schedule. Raises InputError with the nearest names."""
    try:
        return SCHEDULES[name]
    except UnknownName as error:
        raise InputError(str(error)) from error


def rank_problem(name: str, num_ranks: int) -> str | None:
    """Why this schedule cannot run on so many pipeline ranks, else None. Raises InputError for an unknown name."""
    return rule_of(name).rank_problem(num_ranks)


def micro_batch_problem(name: str, num_ranks: int, num_micro_batches: int) -> str | None:
    """Why this schedule cannot run so many micro-batches on so many ranks, with the next valid counts, else None.

    Says nothing about the number of ranks itself: ask rank_problem first. Raises InputError for an unknown name.
    """
    problem = rule_of(name).micro_batch_problem(num_ranks, num_micro_batches)
    if problem is None:
        return None
    nearest = " or ".join(map(str, next_valid_micro_batches(name, num_ranks, num_micro_batches)))
    return f"{name} {problem}; next valid: {nearest}"


def next_valid_micro_batches(name: str, num_ranks: int, num_micro_batches: int) -> tuple[int, ...]:
    """The nearest valid counts of micro-batches: below and above, ascending; the count itself where it is valid.

    Raises InputError for an unknown name.
    """
    is_valid = _is_valid(rule_of(name), num_ranks)
    if is_valid(num_micro_batches):
        return (num_micro_batches,)
    below = next((m for m in range(num_micro_batches - 1, 0, -1) if is_valid(m)), None)
    above = num_micro_batches + 1
    while not is_valid(above):  # ends: every rule accepts arbitrarily large counts, tested over the family
        above += 1
    return (above,) if below is None else (below, above)


def _is_valid(rule: ScheduleRule, num_ranks: int) -> Callable[[int], bool]:
    return lambda num_micro_batches: rule.micro_batch_problem(num_ranks, num_micro_batches) is None


def vpp_problem(name: str, vpp: int) -> str | None:
    """Why this schedule cannot run with `vpp` chunks of the model a rank, else None. Raises InputError for an unknown name."""
    rule = rule_of(name)
    own, fewest = rule.own_chunks, rule.fewest_chunks
    if own == 1:
        alike = (each for each in SCHEDULES if SCHEDULES[each].pairs_by_layer == rule.pairs_by_layer)
        others = " or ".join(other for other in alike if SCHEDULES[other].build_chunks is not None)
        return None if vpp == 1 else f"vpp {vpp}, but {name} has no virtual stages; use vpp: 1, or schedule: {others}"
    if own is not None:
        text = f"vpp {vpp}, but {name} has {own} chunks a rank, one each way"
        return None if vpp == own else f"{text}; use vpp: {own}, or leave it out"
    if vpp >= fewest:
        return None
    return f"vpp {vpp}, but {name} needs at least {fewest} chunks a rank; use vpp: {fewest}, or schedule: 1f1b"


def moved_problem(name: str, below: str) -> str | None:
    """Why steps of schedule `below` cannot come before steps of `name` in one run, else None: its stages stand elsewhere.

    Raises InputError for an unknown name.
    """
    first, then = rule_of(below).placement, rule_of(name).placement
    if first == then or {first, then} == {"straight", "mirrored"}:  # DualPipe's ranks hold their straight stage too
        return None
    if rule_of(below).fewest_chunks == 1 or rule_of(name).fewest_chunks == 1:
        return f"{below} cannot run the chunks of {name}: a rank holds other stages"
    return f"{below} has its chunks on other ranks than {name}"


@lru_cache(maxsize=64)
def build_schedule(
    name: str, num_ranks: int, num_micro_batches: int, vpp: int | None = None, *, split: bool = True
) -> Schedule:
    """The order of actions of every rank. vpp: chunks of the model a rank; None: the fewest that the schedule has.

    split: input and weight gradients apart where the schedule has them so; false: full backwards, where it can do without.
    Raises InputError for an unknown name, and where the schedule cannot run these counts (with the next valid ones).
    """
    rule = rule_of(name)
    problem = rule.rank_problem(num_ranks)
    if problem is not None:
        raise InputError(f"{name} {problem}")
    problem = micro_batch_problem(name, num_ranks, num_micro_batches) or (vpp_problem(name, vpp) if vpp else None)
    problem = problem or (None if split else split_problem(name))
    if problem is not None:
        raise InputError(problem)
    if vpp is None or rule.build_chunks is None:
        schedule = rule.build(num_ranks, num_micro_batches)
    else:
        schedule = rule.build_chunks(num_ranks, num_micro_batches, vpp)
    return schedule if split else joined(schedule)


def split_problem(name: str) -> str | None:
    """Why this schedule cannot do without weight gradients apart, else None. Raises InputError for an unknown name."""
    if rule_of(name).split != "always":
        return None
    return f"false, but {name} is made of weight gradients apart; use split_backward: true, or another schedule"
