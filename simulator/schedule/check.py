"""Is a schedule sound? Conservation, legality, and that executing the ranks' orders reaches the end (no deadlock)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from simulator.errors import InconsistentSimulation
from simulator.schedule.action import Action, Kind, Schedule

UNIT_SLOTS: Mapping[Kind, int] = {"F": 1, "B": 2, "I": 1, "W": 1, "FB": 3}
"""Length of an action in slots: all three passes of a micro-batch equally long, a pair without any gain."""

MAX_SHOWN_PROBLEMS = 9

Unit: TypeAlias = tuple[str, int, int]
"""What an action yields: ("output", stage, micro-batch) of an F, ("gradient", …) of a B or I, ("weights", …) of a W."""

YIELD_OF: Mapping[Kind, str] = {"F": "output", "B": "gradient", "I": "gradient", "W": "weights"}


def check_schedule(schedule: Schedule) -> None:
    """Raises InconsistentSimulation with what is wrong: conservation, legality, or the wait-for cycle of a deadlock."""
    problems = schedule_problems(schedule)
    if problems:
        shown = list(problems[:MAX_SHOWN_PROBLEMS])
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise InconsistentSimulation(f"schedule {schedule.name}: " + "\n".join(shown))


def schedule_problems(schedule: Schedule) -> tuple[str, ...]:
    """Everything that is wrong, in words; the order is executed only where the entries themselves are sound."""
    problems = _form_problems(schedule) or _place_problems(schedule)
    if not problems:
        problems = _conservation_problems(schedule) + _order_problems(schedule)
    if not problems:
        try:
            dry_run(schedule)
        except InconsistentSimulation as error:
            problems = [str(error)]
    return tuple(problems)


def _form_problems(schedule: Schedule) -> list[str]:
    problems = []
    for what, length, expected in (
        ("ranks", len(schedule.ranks), schedule.num_ranks),
        ("placement", len(schedule.placement), schedule.num_ranks),
        ("direction", len(schedule.direction), schedule.num_micro_batches),
    ):
        if length != expected:
            problems.append(f"{what} has {length} entries, expected {expected}")
    return problems


def _place_problems(schedule: Schedule) -> list[str]:
    """Actions that do not exist, or stand on a rank that does not execute them."""
    problems = []
    for rank, actions in enumerate(schedule.ranks):
        for action in actions:
            if (action.kind == "FB") != (action.b_stage is not None and action.b_micro_batch is not None):
                problems.append(f"rank {rank}: a backward half belongs to kind FB only, found {action!r}")
                continue
            for _, stage, micro_batch in action.halves():
                if not (0 <= stage < schedule.num_stages and 0 <= micro_batch < schedule.num_micro_batches):
                    problems.append(f"rank {rank}: {action} is outside the stages or micro-batches")
                elif schedule.rank_of(stage, micro_batch) != rank or stage not in schedule.placement[rank]:
                    problems.append(f"rank {rank}: {action} belongs on rank {schedule.rank_of(stage, micro_batch)}")
    return problems


def _conservation_problems(schedule: Schedule) -> list[str]:
    """Every (stage, micro-batch) has one F and one B, or one F, one I and one W."""
    count: Counter[tuple[Kind, int, int]] = Counter(
        half for actions in schedule.ranks for action in actions for half in action.halves()
    )
    problems = []
    for stage in range(schedule.num_stages):
        for micro_batch in range(schedule.num_micro_batches):
            found = {kind: count[kind, stage, micro_batch] for kind in ("F", "B", "I", "W")}
            backward = (found["B"], found["I"], found["W"])
            if found["F"] != 1 or backward not in ((1, 0, 0), (0, 1, 1)):
                counts = ", ".join(f"{number} {kind}" for kind, number in found.items())
                problems.append(
                    f"stage {stage}, micro-batch {micro_batch} has {counts}; expected one F and B, or one F, I and W"
                )
    return problems


def _order_problems(schedule: Schedule) -> list[str]:
    """Actions that precede, on their own rank, what they need from it (or share an FB with it)."""
    problems = []
    for rank, actions in enumerate(schedule.ranks):
        seen: set[tuple[Kind, int, int]] = set()
        for action in actions:
            halves = action.halves()
            for kind, stage, micro_batch in halves:
                needed: Kind | None = {"B": "F", "I": "F", "W": "I"}.get(kind)  # type: ignore[assignment]
                if needed is not None and (needed, stage, micro_batch) not in seen:
                    problems.append(f"rank {rank}: {action} stands before its {stage}{needed}{micro_batch}")
            seen.update(halves)
    return problems


def needs_of(schedule: Schedule, action: Action) -> list[Unit]:
    """What the action waits for: its stage's input or output gradient, and its own forward (or I, of a W)."""
    needs: list[Unit] = []
    for kind, stage, micro_batch in action.halves():
        if kind == "F":
            if stage > 0:
                needs.append(("output", stage - 1, micro_batch))
        elif kind == "W":
            needs.append(("gradient", stage, micro_batch))
        else:
            needs.append(("output", stage, micro_batch))
            if stage < schedule.num_stages - 1:
                needs.append(("gradient", stage + 1, micro_batch))
    return needs


def dry_run(schedule: Schedule, slots: Mapping[Kind, int] = UNIT_SLOTS) -> tuple[tuple[int, ...], ...]:
    """Executes the orders with whole-numbered lengths; the start slot of every action of every rank.

    An action starts when its rank is free and all it needs is there; transfers take no time.
    Raises InconsistentSimulation with the wait-for cycle where the orders never reach the end.
    """
    ready_slot: dict[Unit, int] = {}
    waiting: dict[Unit, list[int]] = {}
    starts: list[list[int]] = [[] for _ in schedule.ranks]
    free = [0] * schedule.num_ranks
    runnable = list(range(schedule.num_ranks))
    while runnable:
        rank = runnable.pop()
        actions = schedule.ranks[rank]
        while len(starts[rank]) < len(actions):
            action = actions[len(starts[rank])]
            needs = needs_of(schedule, action)
            missing = next((unit for unit in needs if unit not in ready_slot), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(rank)
                break
            start = max([free[rank], *(ready_slot[unit] for unit in needs)])
            starts[rank].append(start)
            free[rank] = start + slots[action.kind]
            for kind, stage, micro_batch in action.halves():
                unit = (YIELD_OF[kind], stage, micro_batch)
                ready_slot[unit] = free[rank]
                runnable.extend(waiting.pop(unit, ()))
    if waiting:
        raise InconsistentSimulation(_deadlock(schedule, starts, waiting))
    return tuple(map(tuple, starts))


def _deadlock(schedule: Schedule, starts: list[list[int]], waiting: Mapping[Unit, list[int]]) -> str:
    """The wait-for cycle in words; where there is none, the unit that nobody yields."""
    unit_of = {rank: unit for unit, ranks in waiting.items() for rank in ranks}
    rank = min(unit_of)
    path: list[int] = []
    while rank not in path:
        path.append(rank)
        producer = schedule.rank_of(unit_of[rank][1], unit_of[rank][2])
        if producer not in unit_of:
            return f"deadlock: rank {rank} waits for {_words(unit_of[rank])}, which no rank yields"
        rank = producer
    cycle = path[path.index(rank) :]
    parts = [
        f"rank {rank} at {schedule.ranks[rank][len(starts[rank])]} waits for {_words(unit_of[rank])}" for rank in cycle
    ]
    return f"deadlock: {'; '.join(parts)}; and so on from rank {cycle[0]}"


def _words(unit: Unit) -> str:
    what, stage, micro_batch = unit
    return f"the {what} of stage {stage}, micro-batch {micro_batch}"
