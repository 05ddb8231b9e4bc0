"""The order of a pipeline's passes, read from the document that `moesim schedule NAME --pp P --micro-batches M --json` prints.

Passes: F forward; B backward for input and weights; I for the input only, W for the weights only. FB in a document is the F of
one micro-batch beside the B of another. Any order that is legal can be read, whoever wrote it: see `check_entries`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

PassKind = Literal["F", "B", "I", "W"]
KINDS: Final = ("F", "B", "I", "W", "FB")
MAX_SHOWN: Final = 9
"""Problems of a document that are listed."""
MAX_LOOKED_AT: Final = 10_000
"""Stages times micro-batches of a document with fewer passes than that, among which the missing ones are looked for."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch through one stage in one direction; prints as "3F17" (stage, kind, micro-batch)."""

    kind: PassKind
    stage: int
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.micro_batch}"


@dataclass(frozen=True, slots=True)
class Action:
    """One entry of a rank's order. passes: one, or an F and a B that may overlap (kind FB)."""

    passes: tuple[Pass, ...]

    def __str__(self) -> str:
        return "&".join(map(str, self.passes))


@dataclass(frozen=True)
class Order:
    """What every rank does, one action after the other.

    rank_of: the rank of each (stage, micro-batch), which does all of its passes: with DualPipe the micro-batches of the two
    directions take the stage on different ranks. placement[rank]: the stages that the rank holds, ascending.
    """

    name: str
    num_stages: int
    num_micro_batches: int
    ranks: tuple[tuple[Action, ...], ...]
    rank_of: Mapping[tuple[int, int], int]
    placement: tuple[tuple[int, ...], ...]

    @property
    def num_ranks(self) -> int:
        """Pipeline ranks: processes."""
        return len(self.ranks)


def read_order(document: Mapping[str, Any]) -> Order:
    """The order of a document: keys name, pp, micro_batches, ranks; vpp (stages a rank) where it is given.

    Raises CalibrationError naming the entry: an unknown kind, a number missing or out of range, a pass missing or repeated or
    on two ranks, a stage that no rank holds, a pass in front of one of its own rank that it needs, another pp than ranks.
    """
    _check_head(document)
    problems: list[Problem] = []
    ranks: list[list[Action]] = []
    for rank, entries in enumerate(document["ranks"]):
        actions = []
        for place, entry in enumerate(entries):
            found = _action(entry, f"ranks[{rank}][{place}]", document["micro_batches"])
            if isinstance(found, Action):
                actions.append(found)
            else:
                problems.append(found)
        ranks.append(actions)
    _refuse(problems)
    passes = [p for actions in ranks for action in actions for p in action.passes]
    order = Order(
        name=str(document.get("name", "")),
        num_stages=1 + max((p.stage for p in passes), default=-1),
        num_micro_batches=document["micro_batches"],
        ranks=tuple(map(tuple, ranks)),
        rank_of={(p.stage, p.micro_batch): rank for rank, a in enumerate(ranks) for action in a for p in action.passes},
        placement=tuple(tuple(sorted({p.stage for action in a for p in action.passes})) for a in ranks),
    )
    _refuse(_stage_problems(order, document.get("vpp")) or check_entries(order))
    return order


def check_entries(order: Order) -> list[Problem]:
    """Conservation and each rank's own order: what stands twice, is missing, or stands before what it needs on its rank.

    Every (stage, micro-batch) has one F and one B, or one F, one I and one W, all on one rank, in this order.
    """
    problems: list[Problem] = []
    seen: dict[Pass, int] = {}
    for rank, actions in enumerate(order.ranks):
        for place, action in enumerate(actions):
            field = f"ranks[{rank}][{place}]"
            for p in action.passes:
                if p in seen:
                    problems.append(
                        Problem("", field, f"{p} is there already, on rank {seen[p]}; each pass stands once")
                    )
                needed: PassKind | None = {"B": "F", "I": "F", "W": "I"}.get(p.kind)  # type: ignore[assignment]
                if needed is not None and seen.get(Pass(needed, p.stage, p.micro_batch)) != rank:
                    problems.append(
                        Problem("", field, f"{p} stands before its {p.stage}{needed}{p.micro_batch} on rank {rank}")
                    )
            seen.update(dict.fromkeys(action.passes, rank))
    return problems or _conservation_problems(order, Counter(seen))


def _conservation_problems(order: Order, seen: Mapping[Pass, int]) -> list[Problem]:
    problems = []
    for stage in range(order.num_stages):
        for micro_batch in range(order.num_micro_batches):
            kinds = "".join(kind for kind in "FBIW" if Pass(kind, stage, micro_batch) in seen)  # type: ignore[arg-type]
            if kinds not in ("FB", "FIW"):
                found = " ".join(kinds) or "nothing"
                message = f"stage {stage}, micro-batch {micro_batch} has {found}; expected F and B, or F, I and W"
                problems.append(Problem("", "ranks", message))
    return problems


def _stage_problems(order: Order, vpp: Any) -> list[Problem]:
    held = {stage for stages in order.placement for stage in stages}
    expected = order.num_stages if vpp is None else order.num_ranks * vpp
    num_stages, num_passes = max(expected, order.num_stages), sum(len(a.passes) for rank in order.ranks for a in rank)
    if num_stages * order.num_micro_batches > max(num_passes, MAX_LOOKED_AT):
        told = f"{num_stages} stages of {order.num_micro_batches} micro-batches need more passes than the {num_passes} here"
        return [Problem("", "ranks", told)]
    problems = [
        Problem("", "ranks", f"no rank holds stage {stage} of {num_stages}; its passes are missing")
        for stage in range(num_stages)
        if stage not in held
    ]
    if order.num_stages > expected:
        message = (
            f"{vpp}, with {order.num_ranks} ranks {expected} stages, but stage {order.num_stages - 1} stands in ranks"
        )
        problems.append(Problem("", "vpp", message))
    return problems or ([] if held else [Problem("", "ranks", "hold no pass at all")])


def _check_head(document: Mapping[str, Any]) -> None:
    if not isinstance(document, Mapping):
        raise CalibrationError("a schedule is a JSON object with the keys name, pp, micro_batches and ranks")
    problems = [
        Problem("", key, f"is {document.get(key)!r}; a whole number of at least 1")
        for key in ("pp", "micro_batches", "vpp")
        if (key != "vpp" or key in document) and not _is_count(document.get(key), 1)
    ]
    ranks = document.get("ranks")
    if not isinstance(ranks, Sequence) or not all(isinstance(actions, Sequence) for actions in ranks):
        problems.append(Problem("", "ranks", "is no list of lists of actions, one list a rank"))
    elif len(ranks) != document.get("pp"):
        problems.append(Problem("", "pp", f"is {document.get('pp')!r}, but ranks has {len(ranks)} lists"))
    refuse(problems)


def _action(entry: Any, field: str, num_micro_batches: int) -> Action | Problem:
    if not isinstance(entry, Mapping):
        return Problem("", field, f"{entry!r} is no action; expected an object with kind, stage and micro_batch")
    kind = entry.get("kind")
    if kind not in KINDS:
        return Problem("", f"{field}.kind", f"{kind!r} is unknown{nearest(str(kind), KINDS)}")
    is_pair = kind == "FB"
    for key in ("stage", "micro_batch", "b_stage", "b_micro_batch"):
        value = entry.get(key)
        if key.startswith("b_") and not is_pair:
            if value is not None:
                return Problem("", f"{field}.{key}", f"is {value!r}; only kind FB has a second half")
        elif not _is_count(value, 0):
            return Problem("", f"{field}.{key}", f"is {value!r}; a whole number of at least 0")
        elif key.endswith("micro_batch") and entry[key] >= num_micro_batches:
            return Problem(
                "", f"{field}.{key}", f"{value} is none of {num_micro_batches} micro-batches, counted from 0"
            )
    if is_pair:
        halves = Pass("F", entry["stage"], entry["micro_batch"]), Pass("B", entry["b_stage"], entry["b_micro_batch"])
        return Action(halves)
    return Action((Pass(kind, entry["stage"], entry["micro_batch"]),))


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _refuse(problems: Sequence[Problem]) -> None:
    shown = list(problems[:MAX_SHOWN])
    if len(problems) > len(shown):
        shown.append(Problem("", "", f"and {len(problems) - len(shown)} more"))
    refuse(shown)
