"""What to set instead, where the keys of a scenario do not fit one another: the nearest values that do, tried one by one.

The loader's own rules are asked of every candidate, so that a value is offered for what the rules say and not for what a
message says. Whoever offers them has each loaded once more (`Remedy.overrides`), with all that the loader does besides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any, Final

from simulator import choices
from simulator.check import unfit
from simulator.choices import Value
from simulator.errors import InputError
from simulator.scenario import derived
from simulator.scenario.hardware import default_software
from simulator.scenario.involved import involved
from simulator.scenario.load import UnfitScenario, problem_of
from simulator.scenario.recipes import RECIPES
from simulator.scenario.scenario import Scenario
from simulator.scenario.section import Section

NUMBERS: Final = (
    "cluster.num_gpus", "cluster.gpus_per_domain", "parallel.pp", "parallel.tp",
    "parallel.cp", "parallel.ep", "parallel.etp", "parallel.vpp",
    "training.global_batch_size", "training.micro_batch_size", "training.seq_len", "moe.max_nodes_per_token",
    "data_parallel.hsdp_group", "recompute.num_layers",
)  # fmt: skip
"""Whole numbers of a plan that may be changed to make it fit; the model's dimensions are not."""
NAMES: Final = (
    "parallel.schedule", "parallel.zero_stage", "parallel.sequence_parallel", "parallel.overlap.ep", "parallel.overlap.pp",
    "parallel.split_backward",
    "parallel.overlap.tp", "parallel.cp_comm",
    "precision.recipe", "precision.fp8_weight_cache", "recompute.granularity", "recompute.method",
    "cluster.fabric", "prices.sheet", "moe.drop", "moe.pad_to_capacity", "data_parallel.grad_reduce.every",
)  # fmt: skip
"""Keys with few values that may be changed to make a plan fit."""
MOST_TRIED: Final = 200
"""Numbers that are tried on each side of the one that does not fit."""
BUDGET: Final = 1_500
"""Scenarios that are tried in all; one of many GPUs counts as several, since its groups are laid out one by one."""
GPUS_OF_ONE: Final = 30_000
MOST_STEPS: Final = 3
"""Keys that one remedy changes at most."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Keys to set, in this order. solves: everything fits then; else a problem less is left."""

    changes: tuple[tuple[str, Value], ...]
    solves: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        """The changes as `--set` takes them."""
        return tuple(f"{key}={json.dumps(value)}" for key, value in self.changes)


@dataclass
class _Purse:
    """What may still be tried, so that a search ends soon whatever is asked."""

    left: float = BUDGET

    def pays(self, scenario: Scenario) -> bool:
        """Whether one more is tried."""
        self.left -= 1 + scenario.cluster.num_gpus / GPUS_OF_ONE
        return self.left > 0


@dataclass(frozen=True)
class _State:
    """A scenario and what is wrong with it; a problem is known by the key of its rule."""

    scenario: Scenario
    purse: _Purse

    @cached_property
    def found(self) -> tuple[tuple[str, str], ...]:
        return tuple(unfit(self.scenario))

    @cached_property
    def broken(self) -> frozenset[str]:
        return frozenset(field for field, _ in self.found)

    @property
    def fits(self) -> bool:
        """Found out without the costly rules where a cheap one is broken."""
        return self.purse.pays(self.scenario) and next(unfit(self.scenario), None) is None

    def heals(self, other: Scenario) -> bool:
        """Whether another scenario has fewer of these problems and no other ones."""
        return self.purse.pays(other) and self.to(other).broken < self.broken

    def to(self, other: Scenario) -> _State:
        """The state of a changed scenario."""
        return _State(other, self.purse)


def remedies(error: InputError, load: Callable[[Sequence[str]], object]) -> tuple[Remedy, ...]:
    """The nearest values that a refused scenario loads with; those of the key that is blamed first.

    load: loads the scenario with more overrides behind its own, or raises InputError. Where no single key mends
    everything, chains of up to MOST_STEPS keys that do, then single ones that mend a part. None for other errors.
    """
    if not isinstance(error, UnfitScenario):
        return ()
    state = _State(error.scenario, _Purse())
    blamed = {problem.field for problem in error.problems}
    keys = _keys(state)
    single = [Remedy(((key, value),), solves=True) for key in keys for value in _nearest(state, key, whole=True)]
    offered = [each for each in single if _loads(each, load)]
    if not any(_keeps(each, blamed) for each in offered):
        more = [each for key in keys if not offered or key not in blamed for each in _chains(state, key, blamed)]
        offered += [each for each in more if not each.solves or _loads(each, load)]
    distinct: dict[frozenset[tuple[str, Value]], Remedy] = {}
    for each in offered:
        distinct.setdefault(frozenset(each.changes), each)
    return tuple(sorted(distinct.values(), key=lambda each: (not each.solves, len(each.changes))))


def _keeps(remedy: Remedy, blamed: Collection[str]) -> bool:
    """Whether what was asked for last stays as it is."""
    return not any(key in blamed for key, _ in remedy.changes)


def _chains(state: _State, key: str, blamed: Collection[str]) -> Iterator[Remedy]:
    """Remedies that begin with a key that mends a part, and leave what was asked for last as it is where that can be."""
    for value in _nearest(state, key, whole=False):
        changed = state.to(with_value(state.scenario, key, value))
        rest = _chain(changed, MOST_STEPS - 1, {*blamed, key})
        yield Remedy(((key, value), *(rest or ())), solves=rest is not None)


def _loads(remedy: Remedy, load: Callable[[Sequence[str]], object]) -> bool:
    try:
        load(remedy.overrides)
    except InputError:
        return False
    return True


def _chain(state: _State, steps: int, kept: Collection[str]) -> tuple[tuple[str, Value], ...] | None:
    """Changes of at most `steps` keys, none of `kept`, that mend the rest; () where nothing is left to mend, None where
    there are none.
    """
    if state.fits:
        return ()
    keys = [key for key in _keys(state) if key not in kept] if steps else []
    for key in keys:
        for value in _nearest(state, key, whole=True):
            return ((key, value),)
    for key in keys:
        for value in islice(_nearest(state, key, whole=False), 1):
            rest = _chain(state.to(with_value(state.scenario, key, value)), steps - 1, {*kept, key})
            if rest is not None:
                return ((key, value), *rest)
    return None


def _keys(state: _State) -> list[str]:
    """Keys that may be changed for it: those blamed first, then what their rules compare them with."""
    scenario = state.scenario
    blamed = [problem_of(scenario, field, message).field for field, message in state.found]
    others = [key for field, _ in state.found for key in involved(field)]
    return [key for key in dict.fromkeys((*blamed, *others)) if key in NUMBERS or key in NAMES or _is_of_ramp(key)]


def _is_of_ramp(key: str) -> bool:
    return key.endswith((".batch_ramp.from", ".batch_ramp.schedule_below"))


def _nearest(state: _State, key: str, *, whole: bool) -> Iterator[Value]:
    """Values that make everything fit, or (not whole) a part: of a number the nearest below and above, of names each."""
    if whole and not all(key in involved(field) for field in state.broken):
        return  # some rule does not look at this key
    try:
        now = value_of(state.scenario, key)
    except LookupError:
        return
    test = (lambda other: state.to(other).fits) if whole else state.heals
    for candidates in _candidates(state.scenario, key, now):
        yield from islice((value for value in candidates if test(with_value(state.scenario, key, value))), 1)


def _candidates(scenario: Scenario, key: str, now: Value) -> Iterator[Iterable[Value]]:
    """Series of values, nearest first, of each of which one is taken."""
    names = choices.choices(key)
    if names:
        yield from ([name] for name in names if name != now)
        return
    if isinstance(now, int):
        least, most = choices.bounds(key)
        unit = _unit(scenario, key)
        below = now - (now % unit or unit)
        lowest, highest = max(int(least or 1), below - MOST_TRIED * unit), int(most or now)
        far = (unit << n for n in range((lowest // unit).bit_length() - 1, -1, -1) if unit << n < lowest)
        yield chain(range(below, lowest - 1, -unit), far)
        above = now - now % unit + unit
        yield range(above, min(highest, above + MOST_TRIED * unit) + 1, unit)
    if now is not None and choices.is_optional(key):
        yield [None]


def _unit(scenario: Scenario, key: str) -> int:
    """A number that all values which fit are multiples of, so that fewer are tried; 1 where none is known."""
    plan, training = scenario.parallel, scenario.training
    if key == "cluster.num_gpus":
        return plan.tp * plan.pp
    if key == "training.global_batch_size" or key.endswith(".batch_ramp.from"):
        return derived.dp(scenario) * training.micro_batch_size if derived.is_mesh_whole(scenario) else 1
    if key == "training.seq_len":
        return plan.tp if plan.sequence_parallel else 1
    return 1


def value_of(scenario: Scenario, key: str) -> Any:
    """The value of a dotted key, phases by name. Raises LookupError where a section on the way is null."""
    value: Any = scenario
    for part in _path(scenario, key):
        value = value[part] if isinstance(part, int) else getattr(value, _name(value, part), _MISSING)
        if value is _MISSING:
            raise LookupError(key)
    return value


def with_value(scenario: Scenario, key: str, value: Value) -> Scenario:
    """The scenario with another value of a key, not loaded again; what the key drops or sets besides is as in the loader."""
    if key in ("parallel.pp", "parallel.vpp"):
        scenario = _replaced(scenario, ["parallel", "layers_per_stage"], None)
    if key == "precision.recipe":
        rule = RECIPES[str(value)]
        if scenario.kernels.casts not in rule.software:
            scenario = _replaced(scenario, ["kernels", "casts"], default_software(scenario.stack, rule))
        for path, default in rule.defaults().items():
            scenario = _replaced(scenario, path, default)
    changed: Scenario = _replaced(scenario, _path(scenario, key), value)
    return changed


_MISSING: Final = object()


def _path(scenario: Scenario, key: str) -> list[str | int]:
    if not key.startswith("phases."):
        return list(key.split("."))
    for idx, phase in enumerate(scenario.phases):
        if key.startswith(f"phases.{phase.name}."):
            return ["phases", idx, *key.removeprefix(f"phases.{phase.name}.").split(".")]
    raise LookupError(key)


def _name(section: Any, key: str) -> str:
    """The attribute of a key: another where the key is a word of Python."""
    fields = type(section).model_fields if isinstance(section, Section) else {}
    return next((name for name, info in fields.items() if info.alias == key), key)


def _replaced(value: Any, path: Sequence[str | int], new: Any) -> Any:
    if not path:
        return new
    here, *rest = path
    if isinstance(here, int):
        return tuple(_replaced(each, rest, new) if idx == here else each for idx, each in enumerate(value))
    name = _name(value, here)
    copied = value.model_copy(update={name: _replaced(getattr(value, name), rest, new)})
    return copied
