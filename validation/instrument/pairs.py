"""Pairs of rows that differ in one recorded thing: is the faster one predicted to be faster?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

from validation.instrument.outcome import Outcome
from validation.instrument.recorded import COLUMNS, thing

Scope = Literal["within", "across"]
LEAST: Final[dict[Scope, float]] = {"within": 0.03, "across": 0.10}
"""Change of the measured tokens/s a GPU from which on a pair counts: of one source and release; across sources or releases."""
BATCH: Final = "gbs"
FOLLOWED: Final = {"mbs": -1, "n_gpus": -1, "seq": 1}
"""Column that a global batch may follow → the power of it with which their product stays what it was."""
TOLD_APART: Final = ("graph", "dispatcher", "overlap")
"""What rows of two tables have to record both, or neither: left out, it is as the recipe of its release has it."""
NOT_COMPARED: Final = "model"
"""Another model is another run, not the same one changed."""


@dataclass(frozen=True)
class Pair:
    """Two rows, in the file's order. change: what differs, before and after: its values. measured, predicted: tokens/s a GPU
    of the second over the first.
    """

    first: Outcome
    second: Outcome
    scope: Scope
    change: str
    before: str
    after: str
    measured: float
    predicted: float

    @property
    def is_right(self) -> bool:
        """Whether the prediction changes in the direction of the measurement; one that does not change is not right."""
        return (self.measured - 1.0) * (self.predicted - 1.0) > 0.0


def pairs_summary(rows: Sequence[Outcome]) -> dict[str, Any]:
    """`n` pairs, `right`: the share whose sign is right (None of none), by_scope, by_kind and by_change with the same two, and
    `wrong`: every pair whose sign is not.

    by_change: changes of both scopes, the most frequent first. wrong: case_ids, scope, change with its values, and the
    relative changes of the measured and predicted tokens/s a GPU, the largest measured change first.
    """
    found = list(pairs(rows))
    scopes = {name: [pair for pair in found if pair.scope == name] for name in LEAST}
    kinds = {
        kind: [pair for pair in found if pair.first.labels.get("kind") == kind]
        for kind in sorted({pair.first.labels.get("kind", "") for pair in found})
    }
    changes = [name for name, _ in sorted(Counter(pair.change for pair in found).items(), key=lambda x: (-x[1], x[0]))]
    return {
        **_share(found),
        "by_scope": [{"scope": name, "least_change_frac": LEAST[name], **_share(each)} for name, each in scopes.items()],
        "by_kind": [{"kind": name, **_share(each)} for name, each in kinds.items()],
        "by_change": [
            {"change": name, **_share(members), **{scope: _share([p for p in members if p.scope == scope]) for scope in LEAST}}
            for name in changes
            for members in [[pair for pair in found if pair.change == name]]
        ],
        "wrong": [_told(pair) for pair in sorted(found, key=_by_size) if not pair.is_right],
    }  # fmt: skip


def pairs(rows: Sequence[Outcome]) -> Iterator[Pair]:
    """The pairs of predicted rows that count."""
    alike: dict[tuple[str, ...], list[Outcome]] = {}
    for row in rows:
        alike.setdefault(
            tuple(row.recorded.get(name, "") for name in COLUMNS if thing(name) == NOT_COMPARED), []
        ).append(row)
    for members in alike.values():
        for first, second in combinations(members, 2):
            pair = _pair(first, second)
            if pair is not None and abs(pair.measured - 1.0) > LEAST[pair.scope]:
                yield pair


def _pair(first: Outcome, second: Outcome) -> Pair | None:
    """None where the rows differ in nothing, in more than one thing, or in a column that one of them leaves empty."""
    is_one = (first.labels.get("source"), first.release) == (second.labels.get("source"), second.release)
    differing = _differing(first, second, is_one)
    things = {thing(name) for name in differing}
    if not is_one and any(thing(name) in TOLD_APART for name in _left_open(first, second)):
        return None
    if len(things) != 1 or any(name in COLUMNS and name in _left_open(first, second) for name in differing):
        return None
    before, after = (", ".join(_value(row, name, len(differing) > 1) for name in differing) for row in (first, second))
    measured = _speed(second, second.measured_step_s) / _speed(first, first.measured_step_s)
    assert first.figure is not None and second.figure is not None
    predicted = _speed(second, second.figure.step_s) / _speed(first, first.figure.step_s)
    return Pair(first, second, "within" if is_one else "across", things.pop(), before, after, measured, predicted)


def _differing(first: Outcome, second: Outcome, is_one: bool) -> list[str]:
    """Names whose values differ. What the notes of one row alone say counts only where nothing else differs, and inside a
    table, whose notes tell its rows apart; of two tables one may only say more.
    """
    names = dict.fromkeys((*first.recorded, *second.recorded))
    found = [name for name in names if first.recorded.get(name) != second.recorded.get(name)]
    noted = [name for name in found if name not in COLUMNS and name in _left_open(first, second)]
    return _led(first, second, [name for name in found if name not in noted]) or (noted if is_one else [])


def _led(first: Outcome, second: Outcome, names: list[str]) -> list[str]:
    """Without the batch where it only follows: as many micro-batches, sequences a GPU, or tokens as before."""
    if len(names) != 2 or BATCH not in names:
        return names
    leading = next(name for name in names if name != BATCH)
    if leading not in FOLLOWED or not all(name in row.recorded for name in names for row in (first, second)):
        return names
    before, after = (
        float(row.recorded[BATCH]) * float(row.recorded[leading]) ** FOLLOWED[leading] for row in (first, second)
    )
    return [leading] if math.isclose(before, after) else names


def _left_open(first: Outcome, second: Outcome) -> frozenset[str]:
    """Names that one of the rows records alone."""
    return frozenset(first.recorded.keys() ^ second.recorded.keys())


def _value(row: Outcome, name: str, is_named: bool) -> str:
    text = row.recorded.get(name, "not stated")
    return f"{name} {text}" if is_named else text


def _speed(row: Outcome, step_s: float) -> float:
    """Tokens a second and GPU."""
    assert row.figure is not None
    return row.figure.tokens_per_gpu / step_s


def _share(found: Sequence[Pair]) -> dict[str, Any]:
    return {"n": len(found), "right": sum(pair.is_right for pair in found) / len(found) if found else None}


def _by_size(pair: Pair) -> tuple[float, str, str]:
    return -abs(math.log(pair.measured)), pair.first.case_id, pair.second.case_id


def _told(pair: Pair) -> dict[str, Any]:
    return {
        "first": pair.first.case_id, "second": pair.second.case_id, "scope": pair.scope, "change": pair.change,
        "from": pair.before, "to": pair.after, "measured_change_frac": pair.measured - 1.0,
        "predicted_change_frac": pair.predicted - 1.0,
    }  # fmt: skip
