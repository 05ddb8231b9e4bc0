"""From a preset's name, a path or a mapping, with options, to a Scenario; all problems at once, each with its position.

Order of precedence, later wins: defaults, what is extended, the file, `--set` options. Problems come in two rounds: the
shape of every key first, then, where every shape is right, what the keys must be to one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from hwprofiles.names import nearest
from hwprofiles.problems import schema_problems, show
from hwprofiles.yaml_file import KeyPath, YamlFileError, excerpt, read_yaml
from simulator.errors import InputError, Problem
from simulator.scenario import hardware
from simulator.scenario.ages import age_warnings
from simulator.scenario.draft import Draft, Layer
from simulator.scenario.inherited import base_of, inherited_warnings
from simulator.scenario.layers import file_layers, looks_like_path, option_layer
from simulator.scenario.model_catalog import MODELS, model_names
from simulator.scenario.modelled import take_unmodelled, unmodelled
from simulator.scenario.rules import has_pairs, involved, rule_problems, rule_warnings
from simulator.scenario.scenario import SCHEMA_VERSION, Scenario

_RECIPE_DEFAULTS: Final[Mapping[str, Mapping[KeyPath, str]]] = {
    "bf16": {
        ("moe", "dispatch_dtype"): "bf16",
        ("recompute", "saved", "attn_out"): "bf16",
        ("recompute", "saved", "swiglu_in"): "bf16",
        ("precision", "fp8_weight_cache"): "none",
    },
    "fp8-blockwise": {
        ("moe", "dispatch_dtype"): "fp8",
        ("recompute", "saved", "attn_out"): "e5m6",
        ("recompute", "saved", "swiglu_in"): "fp8",
        ("precision", "fp8_weight_cache"): "per_step",
    },
}
"""Number formats that follow from precision.recipe where nothing else is said."""

_ALTERNATIVE_KEYS: Final = frozenset({"tokens", "steps", "usd_per_gpu_hour", "sheet"})
"""Keys of which one stands for another: null is then no default that was taken."""

_FOREIGN_MODEL_KEYS: Final = frozenset({"architectures", "model_type", "hidden_act"})
"""Keys by which a Hugging Face config.json is known."""


def load_scenario(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of a preset's name, a path or a mapping, with `key.path=value` overrides.

    Raises InputError with every problem found, positions as FILE:LINE or `--set N`.
    """
    draft = Draft(read_model=_resolve_model)
    if isinstance(source, Mapping):
        draft.put(Layer(_without_extends(source, draft.problems), lambda path: "", Path()))
    else:
        for layer in file_layers(source, draft.problems):
            draft.put(layer)
    is_partial = bool(draft.problems)
    draft.put(option_layer(overrides, draft.problems, _phase_names(draft)))
    if draft.problems and not draft.data:
        raise InputError(draft.problems)
    unreadable = bool(draft.problems)
    given = frozenset(draft.origins)
    _resolve_model(draft)
    for path, message in take_unmodelled(draft.data):
        draft.refuse(path, message)
    cluster = draft.data.get("cluster")
    if isinstance(cluster, dict):
        for path, message in hardware.make_inline(cluster):
            draft.refuse(path, message)
    _complete(draft.data)
    scenario = _validate(draft, is_partial)
    if scenario is None or unreadable:
        raise InputError(draft.problems)
    _attach_origins(scenario, draft, given)
    problems = [
        _problem(scenario, *found) for found in (*rule_problems(scenario), *hardware.hardware_problems(scenario))
    ]
    if problems:
        raise InputError(problems)
    scenario._base = base_of(draft.history)
    warnings = (
        *inherited_warnings(scenario, draft.history),
        *age_warnings(scenario),
        *rule_warnings(scenario),
        *hardware.hardware_warnings(scenario),
    )
    scenario._warnings = tuple(str(_problem(scenario, *found)) for found in warnings)
    return scenario


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
            _read_model(draft, MODELS / f"{model}.yaml", f"models/{model}.yaml")
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
        draft.refuse(
            path,
            "not modelled yet (a Hugging Face config.json); write its dimensions as keys of moesim's own model file",
        )
        draft.data["model"] = None


def _read_model(draft: Draft, file: Path, shown: str) -> None:
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
            draft.origins[("model", *path)] = (number, f"{shown}:{line}", file.parent)


def _complete(data: dict[str, Any]) -> None:
    """Fill in defaults that follow from other keys: formats of the recipe, the GPU's stack, overlap of the schedule."""
    precision = data.get("precision")
    recipe = precision.get("recipe", "bf16") if isinstance(precision, dict) else "bf16"
    formats = _RECIPE_DEFAULTS.get(recipe if isinstance(recipe, str) else "", _RECIPE_DEFAULTS["fp8-blockwise"])
    for path, value in formats.items():
        _fill(data, path, value)
    parallel = data.get("parallel")
    schedule = parallel.get("schedule") if isinstance(parallel, dict) else None
    _fill(data, ("parallel", "overlap", "ep"), "pair" if isinstance(schedule, str) and has_pairs(schedule) else "none")
    cluster = data.get("cluster")
    if data.get("stack") is None and isinstance(cluster, dict):
        data["stack"] = hardware.default_stack_name(cluster)
    assumptions = data.get("assumptions")
    assumptions = assumptions if isinstance(assumptions, dict) else {}
    for key, value in assumptions.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            assumptions[key] = {"value": value, "low": value, "high": value}
        elif isinstance(value, dict) and set(value) == {"value"}:
            assumptions[key] = {**value, "low": value["value"], "high": value["value"]}


def _fill(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set a key that is absent or null, unless a parent is no mapping."""
    for key in path[:-1]:
        child = data.setdefault(str(key), {})
        if not isinstance(child, dict):
            return
        data = child
    if data.get(str(path[-1])) is None:
        data[str(path[-1])] = value


def _validate(draft: Draft, is_partial: bool) -> Scenario | None:
    """The scenario, or None with the problems of every key noted in the draft.

    is_partial: a layer could not be read, so that a missing section says nothing.
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
            if any(known == path[: len(known)] or (is_missing and path == known[: len(path)]) for known in wrong):
                continue  # follows from what is said already
            if is_missing and is_partial and len(path) == 1:
                continue
            draft.refuse(path, f"{message}{_MISSING_HINTS.get(path, '') if is_missing else ''}")
            wrong.add(path)
    for path, message in unmodelled(draft.data):
        if path not in wrong:
            draft.refuse(path, message)
    cluster, prices = draft.data.get("cluster"), draft.data.get("prices")
    cluster = cluster if isinstance(cluster, dict) else {}
    sheet = prices.get("sheet") if isinstance(prices, dict) else None
    for path, message in hardware.name_problems({"fabric": "ib-400g-rail", **cluster}, draft.data.get("stack"), sheet):
        if path not in wrong:
            draft.refuse(path, message)
    return scenario if not draft.problems else None


_MISSING_HINTS: Final[Mapping[KeyPath, str]] = {
    ("model",): "; name one of `moesim list models`, or extend a preset",
    ("cluster",): "; write cluster: {node: h100-x8, num_gpus: 64}, or extend a preset",
}


def _problem(scenario: Scenario, field: str, message: str) -> Problem:
    return Problem(scenario.where(*involved(field)), field, message)


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
