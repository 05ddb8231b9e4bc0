"""From a preset's name, a path or a mapping, with options, to a Scenario; all problems at once, each with its position.

Order of precedence, later wins: defaults, what is extended, the file, `--set` options. Problems come in two rounds: the
shape of every key first, then, where every shape is right, what the keys must be to one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from hwprofiles.names import nearest
from hwprofiles.problems import schema_problems, show, values_at
from hwprofiles.record_file import CatalogError
from hwprofiles.yaml_file import KeyPath, YamlFileError, excerpt, read_yaml
from simulator import not_modelled
from simulator.errors import InputError, Problem
from simulator.scenario import derived, hardware
from simulator.scenario.ages import age_warnings
from simulator.scenario.calibrated import calibrated_warnings
from simulator.scenario.completed import complete, put_switches
from simulator.scenario.dispatchers import DISPATCHERS
from simulator.scenario.draft import Draft
from simulator.scenario.inherited import base_of, inherited_warnings
from simulator.scenario.involved import involved
from simulator.scenario.layer import Layer
from simulator.scenario.layers import (
    ScenarioText,
    file_layers,
    looks_like_path,
    option_layer,
    preset_names,
    text_layers,
)
from simulator.scenario.model_catalog import MODELS, model_names
from simulator.scenario.phase_scenarios import (
    hold_places,
    is_of_layout,
    is_to_plan,
    phase_drafts,
    read_phases,
    with_phases,
)
from simulator.scenario.planned import take_planned
from simulator.scenario.recipes import RECIPES
from simulator.scenario.releases import RELEASES, SetSwitch
from simulator.scenario.rules import rule_problems, rule_warnings
from simulator.scenario.scenario import SCHEMA_VERSION, Scenario
from simulator.scenario.software import SOFTWARE
from simulator.scenario.stack_paths import open_stack
from simulator.scenario.wording import FieldProblem

CATALOGUE: Final = 0.5
"""Keys of a shipped model count as given just before its name: what does not fit them is said of the name."""

Objection = Callable[[str], str | None]
"""Why a text is no name of a family, None where it is one."""

_ALTERNATIVE_KEYS: Final = frozenset(
    {"tokens", "steps", "usd_per_gpu_hour", "sheet", "provider", "region", "commitment"}
)
"""Keys of which one stands for another, or that choose nothing: null is then no default that was taken."""

_FOREIGN_MODEL_KEYS: Final = frozenset({"architectures", "model_type", "hidden_act"})
"""Keys by which a Hugging Face config.json is known."""


NAMES: Final[Mapping[str, Objection]] = {
    "precision.recipe": RECIPES.problem,
    "moe.dispatcher": DISPATCHERS.problem,
    "framework": RELEASES.problem,
    "kernels.casts": SOFTWARE.problem,
}
"""Keys that name a member of a family, or a data file, of this room."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What rooms above this one have to say of a scenario (simulator/check.py), each with the dotted key.

    names: dotted key (* stands for every phase) → why its text is no name of the family that it is of.
    problems, warnings: of a scenario whose every key is right by itself.
    own_chunks: the chunks of the model a rank that a schedule has; None where they can be chosen, and of unknown ones.
    shares_ends: whether a schedule has the first and the last stage on one rank for every micro-batch.
    """

    names: Mapping[str, Objection] = field(default_factory=dict)
    problems: Callable[[Scenario], Iterable[FieldProblem]] = lambda scenario: ()
    warnings: Callable[[Scenario], Iterable[FieldProblem]] = lambda scenario: ()
    own_chunks: Callable[[str], int | None] = lambda name: None
    shares_ends: Callable[[str], bool] = lambda name: False


class UnfitScenario(InputError):
    """A scenario of whose keys each is right by itself, but not beside the others. scenario: what was asked for."""

    def __init__(self, problems: Iterable[Problem], scenario: Scenario) -> None:
        super().__init__(problems)
        self.scenario = scenario


def python_position(number: int) -> str:
    """How messages name an override of a Python call, numbered from 1."""
    return f"overrides[{number - 1}]"


def read_scenario(
    source: str | Path | Mapping[str, Any] | ScenarioText,
    overrides: Sequence[str] = (),
    checks: Checks | None = None,
    position_of: Callable[[int], str] = python_position,
    reads_files: bool = True,
) -> Scenario:
    """The scenario of a preset's name, a path, a mapping or a text, with `key.path=value` overrides.

    position_of: how messages name an override of a number, from 1 on. reads_files: whether paths are followed, in the
    source and in what it names. Raises InputError with every problem found, in the order of the layers and their lines;
    positions are FILE:LINE or what position_of says.
    """
    checks = checks or Checks()
    draft = Draft(read_model=_resolve_model, own_chunks=checks.own_chunks, reads_files=reads_files)
    is_partial = _put_layers(draft, source, overrides, position_of)
    drafts = tuple(phase_drafts(draft))
    hold_places(draft)
    try:
        scenario, notes = _finished(draft, checks, is_partial)
    except InputError as error:
        _, problems, _ = read_phases(drafts, lambda own: _finished(own, checks, is_partial), error.problems)
        if problems:
            raise InputError(draft.in_order([*error.problems, *problems])) from None
        raise
    own, problems, more = read_phases(drafts, lambda own: _finished(own, checks, is_partial), notes)
    if problems:
        raise InputError(draft.in_order(problems))
    scenario = with_phases(scenario, own)
    scenario._warnings = tuple(map(str, draft.in_order([*notes, *more])))
    return scenario


def _finished(draft: Draft, checks: Checks, is_partial: bool) -> tuple[Scenario, list[Problem]]:
    """The scenario of a draft whose layers are all put, and what is odd in it. Raises InputError with every problem."""
    unreadable = bool(draft.problems)
    given = frozenset(draft.origins)
    for path, message in take_planned(draft.data):
        draft.refuse(path, message)
    _resolve_model(draft)
    open_stack(draft)
    cluster = draft.data.get("cluster")
    if isinstance(cluster, dict):
        for path, message in hardware.make_inline(cluster):
            draft.refuse(path, message)
    switches: tuple[SetSwitch, ...] = ()
    try:
        switches = put_switches(draft.data)
    except CatalogError as error:
        draft.refuse(("framework",), "; ".join(map(str, error.problems)))
    complete(draft.data)
    draft.put_chunks()
    scenario = _validate(draft, is_partial, {**NAMES, **checks.names})
    if scenario is None or unreadable:
        raise InputError(draft.in_order(draft.problems))
    if checks.shares_ends(scenario.parallel.schedule):
        scenario = derived.with_light_end(scenario)
    _attach_origins(scenario, draft, given)
    found = (*rule_problems(scenario), *hardware.hardware_problems(scenario), *checks.problems(scenario))
    if is_to_plan(scenario):
        found = tuple(each for each in found if not is_of_layout(each[0]))
    if found:
        by_release = {each.key for each in switches if each.is_modelled}
        said = dict.fromkeys(
            _of_release(scenario, problem_of(scenario, *each)) if each[0] in by_release else problem_of(scenario, *each)
            for each in found
        )
        raise UnfitScenario(draft.in_order(said), scenario)
    scenario._switches = switches
    scenario._base = base_of(draft.history)
    scenario._dropped = draft.dropped_texts()
    warnings = [
        *inherited_warnings(scenario, draft.history),
        *age_warnings(scenario),
        *calibrated_warnings(scenario),
    ]
    if not is_to_plan(scenario):  # of a layout that is found, others would speak of its placeholder
        warnings += [
            *rule_warnings(scenario),
            *hardware.hardware_warnings(scenario),
            *checks.warnings(scenario),
        ]
    notes = [
        *draft.dropped_notes(),
        *(Problem(scenario.where(*involved(name)), name, message) for name, message in warnings),
    ]
    scenario._warnings = tuple(map(str, draft.in_order(notes)))
    return scenario, notes


def _put_layers(
    draft: Draft,
    source: str | Path | Mapping[str, Any] | ScenarioText,
    overrides: Sequence[str],
    position_of: Callable[[int], str],
) -> bool:
    """Lay the layers over one another; whether one could not be read. Raises InputError where none could."""
    if isinstance(overrides, str) or not all(isinstance(each, str) for each in overrides):
        raise InputError([Problem("", "overrides", f'is no list of texts ({show(overrides)}); write ["seed=1"]')])
    if not isinstance(source, (str, Path, Mapping, ScenarioText)):
        text = f"is neither a preset's name, a path nor a mapping ({show(source)})"
        raise InputError([Problem("", "source", text)])
    if not draft.reads_files and isinstance(source, str | Path) and source not in preset_names():
        text = f"is not a preset's name ({show(str(source))}){nearest(str(source), preset_names())}"
        raise InputError([Problem("", "source", text)])
    if isinstance(source, ScenarioText):
        for layer in text_layers(source, draft.problems):
            draft.put(layer)
    elif isinstance(source, Mapping):
        draft.put(Layer(_without_extends(source, draft.problems), lambda path: "", Path()))
    else:
        for layer in file_layers(source, draft.problems):
            draft.put(layer)
    is_partial = bool(draft.problems)
    draft.put(option_layer(overrides, draft.problems, _phase_names(draft), position_of))
    if draft.problems and not draft.data:
        raise InputError(draft.problems)
    return is_partial


def problem_of(scenario: Scenario, name: str, message: str) -> Problem:
    """A broken rule as a problem of the key that was given last of those it compares."""
    blamed = scenario.given_last(*involved(name))
    text = message if blamed == name else f"does not fit {name}: {message}"
    return Problem(scenario.where(blamed), blamed, text)


def _of_release(scenario: Scenario, problem: Problem) -> Problem:
    """The problem of a key that no one sees in the scenario, with the release that set it."""
    text = f"{problem.message}; framework {scenario.framework} sets it, and a value of your own goes before"
    return replace(problem, message=text)


def _without_extends(source: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    data = {"schema_version": SCHEMA_VERSION, **source}
    if data.pop("extends", None) is not None:
        problems.append(Problem("", "extends", "has no meaning in a mapping; load the preset with overrides"))
    return data


def _phase_names(draft: Draft) -> list[str]:
    phases = draft.data.get("phases")
    names = [phase.get("name") for phase in phases if isinstance(phase, dict)] if isinstance(phases, list) else []
    return [name for name in names if isinstance(name, str)]


def _resolve_model(draft: Draft) -> None:
    """Replace a model's name or path by the keys of its file."""
    path: KeyPath = ("model",)
    model = draft.data.get("model")
    if isinstance(model, str):
        if model in model_names():
            _read_model(draft, MODELS / f"{model}.yaml", f"models/{model}.yaml", before=CATALOGUE)
        elif looks_like_path(model) and not draft.reads_files:
            text = (
                f"names a file ({show(model)}); here only a model of the catalogue can be named, or write its keys out"
            )
            draft.refuse(path, text)
            draft.data["model"] = None
        elif looks_like_path(model):
            _read_model(draft, draft.folder(path) / model, excerpt(model, 200))
        else:
            draft.refuse(
                path,
                f"no model of the name {show(model)}{nearest(model, model_names())}; a path ends in .yaml or has a /",
            )
            draft.data["model"] = None
    elif isinstance(model, dict):
        draft.data["model"] = {"name": "inline", **model}
    elif model is not None:
        draft.refuse(path, f"is neither a name, a path nor a mapping ({show(model)})")
        draft.data["model"] = None
    model = draft.data.get("model")
    if isinstance(model, dict) and _FOREIGN_MODEL_KEYS & set(model):
        draft.refuse(path, f"not modelled yet (a Hugging Face config.json); {not_modelled.instead('value', 'model')}")
        draft.data["model"] = None


def _read_model(draft: Draft, file: Path, shown: str, before: float = 0.0) -> None:
    """Put the keys of a model's file in place of its name; `before`: by how much they count as given before the name."""
    try:
        document = read_yaml(file)
    except YamlFileError as error:
        draft.refuse(("model",), f"{shown}{f':{error.line}' if error.line else ''}: {error.message}")
        draft.data["model"] = None
        return
    number = draft.origins[("model",)][0]
    draft.data["model"] = {"name": file.stem, **document.data}
    for path, line in document.positions.items():
        if path:
            draft.origins[("model", *path)] = (number - before, f"{shown}:{line}", file.parent)


def _validate(draft: Draft, is_partial: bool, names: Mapping[str, Objection]) -> Scenario | None:
    """The scenario, or None with the problems of every key noted in the draft.

    is_partial: a layer could not be read, so that a missing section says nothing. names: as in Checks.
    """
    scenario = None
    wrong: set[KeyPath] = {tuple(problem.field.split(".")) for problem in draft.problems}
    try:
        scenario = Scenario.model_validate(draft.data)
    except ValidationError as error:
        for path, message in schema_problems(error, Scenario, also=("extends",)):
            is_missing = message == "is missing"
            if path == ("stack",) and path not in draft.origins:
                continue  # follows from an unknown node
            if any(known[: len(path)] == path or known == path[: len(known)] for known in wrong):
                continue  # follows from what is said already: of a key in it, or around it
            if is_missing and is_partial and len(path) == 1:
                continue
            if path in _DERIVED:
                message = f"unknown key: it follows from others; {_DERIVED[path]}"
            hints = _MISSING_HINTS if is_missing else _WRONG_HINTS
            draft.refuse(path, f"{message}{hints.get(path, '')}")
            wrong.add(path)
    for key, objection in names.items():
        for path, value in values_at(draft.data, key.split(".")):
            objected = objection(value) if isinstance(value, str) and path not in wrong else None
            if objected is not None:
                draft.refuse(path, objected)
    cluster, prices = draft.data.get("cluster"), draft.data.get("prices")
    cluster = cluster if isinstance(cluster, dict) else {}
    sheet = prices.get("sheet") if isinstance(prices, dict) else None
    for path, message in hardware.name_problems({"fabric": "ib-400g-rail", **cluster}, draft.data.get("stack"), sheet):
        if path not in wrong:
            draft.refuse(path, message)
    return scenario if not draft.problems else None


_DERIVED: Final[Mapping[KeyPath, str]] = {
    ("parallel", "dp"): "write cluster.num_gpus = dp * tp * cp * pp",
    ("parallel", "edp"): "write cluster.num_gpus = edp * ep * etp * pp",
}

_MISSING_HINTS: Final[Mapping[KeyPath, str]] = {
    ("model",): "; name one of `moesim list models`, or extend a preset",
    ("cluster",): "; write cluster: {node: h100-x8, num_gpus: 64}, or extend a preset",
}

_WRONG_HINTS: Final[Mapping[KeyPath, str]] = {
    (
        "currency",
    ): "; give prices.usd_per_gpu_hour in USD, at the rate of the day that you state, and leave currency out",
}


def _attach_origins(scenario: Scenario, draft: Draft, given: frozenset[KeyPath]) -> None:
    """Give the scenario its positions and the list of the defaults that it took."""
    scenario._origins.update(
        {draft.dotted(path): (number, where) for path, (number, where, _) in draft.origins.items()}
    )
    scenario._defaults_used = tuple(
        draft.dotted(path)
        for path, value in _leaves(scenario.canonical())
        if path[0] != "model" and not _is_given(path, given) and not (value is None and path[-1] in _ALTERNATIVE_KEYS)
    )


def _is_given(path: KeyPath, given: frozenset[KeyPath]) -> bool:
    """Whether the leaf or a whole value around it (an inline node, a list) was written."""
    return path in given or (path[:2] in given and path[:2] in (("cluster", "node"), ("cluster", "fabric")))


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """(path, value) of what is no mapping; a list of phases is gone into, another list is one value."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _leaves(child, (*path, key))
    elif path == ("phases",):
        for idx, child in enumerate(value):
            yield from _leaves(child, (*path, idx))
    else:
        yield path, value
