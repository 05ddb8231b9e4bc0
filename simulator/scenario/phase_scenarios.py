"""The scenario that a phase trains: its own sections laid over the scenario's, as one more file over the files.

The difference between the two is what the phase keeps (`Phase.changes`): laid over the scenario's canonical document it gives
the phase's own again, whatever files and options both came from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from simulator.errors import InputError, Problem
from simulator.scenario.draft import Draft, dropped_by
from simulator.scenario.layer import Layer
from simulator.scenario.nested import find, put
from simulator.scenario.parallel import AUTO, PlannedParallel
from simulator.scenario.phase import SECTIONS, SHORTCUTS, Phase
from simulator.scenario.scenario import Scenario

Notes = Sequence[Problem]
Finish = Callable[[Draft], tuple[Scenario, Notes]]
"""The scenario of a draft and what is odd in it. Raises InputError."""

_TRAINING: Final = "training"
_OF_LAYOUT: Final = frozenset(
    {
        "parallel",
        "recompute",
        "data_parallel",
        "training.global_batch_size",
        "training.micro_batch_size",
        "head.chunk_tokens",
    }
)
"""Sections and keys that the rules of layouts are about."""
_OF_RAMPS: Final = (".batch_ramp.from", ".batch_ramp.schedule_below")


def phase_scenario(scenario: Scenario, index: int) -> Scenario:
    """What the phase of a place in the scenario trains: a whole scenario with that phase alone, which changes nothing."""
    kept = scenario._own
    if kept is None or kept[0] is not scenario:
        found = tuple(_made(scenario, phase) for phase in scenario.phases)
        kept = scenario._own = (scenario, found)
    return kept[1][index]


def own_scenarios(scenario: Scenario) -> tuple[Scenario, ...]:
    """What each phase trains; the scenario itself where a phase changes nothing."""
    return tuple(
        phase_scenario(scenario, index) if phase.changes else scenario for index, phase in enumerate(scenario.phases)
    )


def is_to_plan(scenario: Scenario) -> bool:
    """Whether the layout that the scenario itself states is to be found (`parallel: auto`): a placeholder stands there."""
    return isinstance(scenario.parallel, PlannedParallel)


def is_of_layout(field: str) -> bool:
    """Whether a rule about a key is one of layouts, which a planner asks."""
    return field.partition(".")[0] in _OF_LAYOUT or field in _OF_LAYOUT or field.endswith(_OF_RAMPS)


def _made(scenario: Scenario, phase: Phase) -> Scenario:
    """A phase's scenario from what both say, without any file."""
    document = laid_over(scenario.canonical(), phase.changes)
    made = Scenario.model_validate(document | {"phases": [_plain(phase).model_dump(mode="json")]})
    for name in ("_defaults_used", "_switches", "_base", "_dropped"):
        setattr(made, name, getattr(scenario, name))
    made._origins.update(_origins(scenario, phase))
    return made


def _origins(scenario: Scenario, phase: Phase) -> dict[str, tuple[float, str]]:
    """Positions of the keys: those that the phase gives come after all others."""
    last = max((number for number, _ in scenario._origins.values()), default=0.0)
    prefix = f"phases.{phase.name}."
    own = {
        name.removeprefix(prefix): (number + last, where)
        for name, (number, where) in scenario._origins.items()
        if name.startswith(prefix)
    }
    return {**scenario._origins, **own}


def _plain(phase: Phase) -> Phase:
    """The phase without what it says of the scenario's sections."""
    return phase.model_copy(update=dict.fromkeys(SECTIONS))


def laid_over(document: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A canonical document with some keys changed, as `difference` gives them."""
    merged = dict(document)
    for key, value in changes.items():
        before = merged.get(key)
        merged[key] = laid_over(before, value) if _are_alike(before, value) else copy.deepcopy(value)
    return merged


def difference(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Section → the keys in which a phase's canonical document differs from the scenario's.

    A key that a changed one would drop on the way through the loader stands there too.
    """
    found = {key: _changed(base[key], own[key]) for key in SECTIONS if base[key] != own[key]}
    for path in dropped_by(found):
        if find(found, path[:1]) is None or isinstance(find(found, path[:1]), dict):
            put(found, path, find(own, path))
    return found


def _changed(before: Any, after: Any) -> Any:
    if not (isinstance(before, dict) and isinstance(after, dict) and set(before) == set(after)):
        return after
    if before.get("kind") != after.get("kind"):
        return after
    return {key: _changed(before[key], after[key]) for key in after if before[key] != after[key]}


def _are_alike(before: Any, changes: Any) -> bool:
    """Whether changes are of single keys of a mapping, and no mapping of another kind."""
    if not (isinstance(before, dict) and isinstance(changes, dict)):
        return False
    return set(changes) <= set(before) and changes.get("kind") in (None, before.get("kind"))


@dataclass(frozen=True)
class PhaseDraft:
    """The draft of what a phase trains, and how messages name its keys: `given`, dotted, as the phase wrote them."""

    name: str
    where: str
    draft: Draft
    given: Mapping[str, str]

    def renamed(self, problem: Problem) -> Problem:
        """A problem of a key that the phase gives by its name there; of another one by the phase's."""
        parts = problem.field.split(".")
        for length in range(len(parts), 0, -1):
            head = ".".join(parts[:length])
            if head in self.given:
                return replace(problem, field=".".join(("phases", self.name, self.given[head], *parts[length:])))
        below = [written for key, written in self.given.items() if key.startswith(f"{problem.field}.")]
        if below and problem.field:
            return replace(problem, field=f"phases.{self.name}.{problem.field}")
        if problem.field.startswith("phases."):
            return problem
        return Problem(self.where, f"phases.{self.name}", f"{problem.field}: {problem.message}")


def phase_drafts(draft: Draft) -> Iterator[tuple[int, PhaseDraft]]:
    """(place, draft) of every phase that says something of the scenario's sections; of a draft whose layers are all put."""
    phases = draft.data.get("phases")
    for idx, layers in sorted(draft.own.items()):
        if not isinstance(phases, list) or not (idx < len(phases) and isinstance(phases[idx], dict)):
            continue
        own = copy.deepcopy(replace(draft, own={}))
        own.data["phases"] = [own.data["phases"][idx]]
        moved = {path: at for path, at in own.origins.items() if path[:1] != ("phases",)}
        moved |= {("phases", 0, *path[2:]): at for path, at in own.origins.items() if path[:2] == ("phases", idx)}
        own.origins = moved
        given: dict[str, str] = {}
        for layer in _stated(layers):
            own.put(layer)
            given |= {name: name for name in _dotted(layer.data)}
        given |= {f"{_TRAINING}.{key}": key for key in SHORTCUTS if ("phases", idx, key) in draft.origins}
        name = phases[idx].get("name")
        yield idx, PhaseDraft(str(name if isinstance(name, str) else idx), draft.where(("phases", idx)), own, given)


def _stated(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The layers, without a search for a layout where a later one states a key of it: the others are then the scenario's."""
    for number, layer in enumerate(layers, start=1):
        if layer.data.get("parallel") == AUTO and any(
            isinstance(each.data.get("parallel"), dict) for each in layers[number:]
        ):
            yield replace(layer, data={key: value for key, value in layer.data.items() if key != "parallel"})
        else:
            yield layer


def _dotted(data: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all leaves."""
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def hold_places(draft: Draft) -> None:
    """Mark the phases that say something of their own, so that no rule measures them by the scenario around them."""
    phases = draft.data.get("phases")
    for idx, layers in draft.own.items() if isinstance(phases, list) else ():
        for layer in layers:
            for section in layer.data:
                draft.data["phases"][idx][section] = {}


def with_phases(scenario: Scenario, own: Mapping[int, Scenario]) -> Scenario:
    """The scenario with the differences of its phases. own: place of a phase → what it trains, where it says something."""
    if not own:
        return scenario
    base = scenario.canonical()
    phases = list(scenario.phases)
    for idx, trained in own.items():
        phases[idx] = _plain(phases[idx]).model_copy(update=difference(base, trained.canonical()))
    made = scenario.model_copy(update={"phases": tuple(phases)})
    found = tuple(own[idx] if idx in own else _made(made, phase) for idx, phase in enumerate(phases))
    made._own = (made, found)
    return made


def read_phases(
    drafts: Sequence[tuple[int, PhaseDraft]], finish: Finish, said: Sequence[Problem]
) -> tuple[dict[int, Scenario], list[Problem], list[Problem]]:
    """(place → what the phase trains, problems, notes) of all phases. said: what was said of the scenario itself."""
    own: dict[int, Scenario] = {}
    problems: list[Problem] = []
    notes: list[Problem] = []
    for idx, each in drafts:
        try:
            own[idx], odd = finish(each.draft)
        except InputError as error:
            problems += [each.renamed(problem) for problem in error.problems if problem not in said]
        else:
            notes += [each.renamed(note) for note in odd if note not in said]
    return own, problems, notes
