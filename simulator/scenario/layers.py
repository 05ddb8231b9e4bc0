"""Reads the layers of a scenario: a preset or file with everything that it extends, and `--set` options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hwprofiles.names import nearest
from hwprofiles.problems import show
from hwprofiles.yaml_file import KeyPath, YamlDocument, YamlFileError, excerpt, parse_yaml, read_yaml
from simulator.errors import Problem
from simulator.scenario.draft import SHORTHANDS
from simulator.scenario.layer import Layer
from simulator.scenario.model_catalog import model_names
from simulator.scenario.scenario import SCHEMA_VERSION

PRESETS: Final = Path(__file__).parent / "presets"
MAX_CHAIN: Final = 16
"""Files that may extend one another."""
MAX_OPTION: Final = 100_000
"""Longest `--set` option, in characters."""

_SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class ScenarioText:
    """A scenario file's text from a place that has no folder, and what messages call it.

    It may extend presets and name catalogue entries, but no file: whoever sent it must not read this machine's.
    """

    text: str
    name: str = "scenario"


def preset_names() -> tuple[str, ...]:
    """Names of the presets, sorted."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def looks_like_path(text: str) -> bool:
    """Whether a text names a file and not a catalogue entry: it has a slash or a suffix of YAML or JSON."""
    return "/" in text or "\\" in text or text.lower().endswith(_SUFFIXES)


def file_layers(source: str | Path, problems: list[Problem]) -> list[Layer]:
    """The layers of a preset's name or a path, what is extended first; stops where one is unreadable."""
    layers: list[Layer] = []
    chain: list[Path] = []
    reference: str | Path | None = source
    folder, where, field = Path(), "", ""
    while reference is not None:
        found = _find_file(reference, folder, is_name_allowed=not isinstance(reference, Path))
        if isinstance(found, str):
            problems.append(Problem(where, field, found))
            break
        path, shown = found
        document = _read(path, shown, Problem(where, field, ""), problems)
        if document is None:
            break
        if path.resolve() in chain or len(chain) >= MAX_CHAIN:
            circle = " -> ".join(excerpt(entry.stem) for entry in [*chain[:MAX_CHAIN], path])
            problems.append(
                Problem(where, field, f"circular or more than {MAX_CHAIN} files deep: {excerpt(circle, 200)}")
            )
            break
        chain.append(path.resolve())
        data = dict(document.data)
        reference = data.pop("extends", None)
        name = path.stem if path.parent == PRESETS else shown
        layer = Layer(data, _positions(document, shown), path.parent, name=name)
        layers.insert(0, layer)
        folder, where, field = path.parent, layer.where(("extends",)), "extends"
        _check_version(layer, problems)
        if reference is not None and not (isinstance(reference, str) and reference):
            problems.append(Problem(where, field, f"is not a preset's name or a path ({show(reference)})"))
            break
    return layers


def text_layers(source: ScenarioText, problems: list[Problem]) -> list[Layer]:
    """The layers of a text and of the preset that it extends; none where it cannot be read."""
    shown = excerpt(source.name, 200)
    try:
        document = parse_yaml(source.text, shown)
    except YamlFileError as error:
        problems.append(Problem(shown if error.line is None else f"{shown}:{error.line}", "", error.message))
        return []
    if not isinstance(document.data, dict):
        problems.append(Problem(shown, "", "holds no scenario; expected a mapping of keys to values"))
        return []
    data = dict(document.data)
    extended = data.pop("extends", None)
    layer = Layer(data, _positions(document, shown), Path(), name=shown)
    _check_version(layer, problems)
    if extended is None:
        return [layer]
    if extended not in preset_names():
        near = nearest(str(extended), preset_names())
        text = f"is not a preset's name ({show(extended)}){near}; a file cannot be named here: write its keys out"
        problems.append(Problem(layer.where(("extends",)), "extends", text))
        return [layer]
    return [*file_layers(extended, problems), layer]


def option_layer(
    options: Sequence[str], problems: list[Problem], phase_names: Sequence[str], position_of: Callable[[int], str]
) -> Layer:
    """One layer of all `key.path=value` options; a later one wins. Values parse as YAML 1.2.

    position_of: how messages name the option of a number, from 1 on ("--set 1").
    """
    data: dict[str, Any] = {}
    names: dict[KeyPath, str] = {}
    wheres: dict[KeyPath, str] = {}
    for number, option in enumerate(options, start=1):
        where = position_of(number)
        try:
            path, value = _parse_option(option, where, phase_names)
            _lay(data, path, value, where, wheres, names)
        except _BadOption as error:
            problems.append(Problem(where, error.field, str(error)))

    def position(path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in wheres:
                return wheres[path[:length]]
        return next((wheres[known] for known in wheres if known[: len(path)] == path), "")

    numbers = {position_of(number): number for number in range(1, len(options) + 1)}
    assigned = {path: numbers[where] for path, where in wheres.items()}
    return Layer(data, position, Path(), assigned=assigned, model_name=names.get(("model",)))


class _BadOption(Exception):
    """A `--set` option that cannot be read."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


def _find_file(reference: str | Path, folder: Path, is_name_allowed: bool) -> tuple[Path, str] | str:
    """(path, how it is shown) of a preset's name or of a path relative to `folder`, or what is wrong."""
    text = str(reference)
    if is_name_allowed and text in preset_names():
        return PRESETS / f"{text}.yaml", f"presets/{text}.yaml"
    path = folder / text
    if not is_name_allowed or looks_like_path(text) or _is_file(path):
        return path, excerpt(path, 200)
    found = f"no preset of the name {show(text)}{nearest(text, preset_names())}; a path ends in .yaml or has a /"
    if text in model_names():
        return f"{found}; {text} is a model: write a file with model: {text} and its cluster"
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _read(path: Path, shown: str, named_by: Problem, problems: list[Problem]) -> YamlDocument | None:
    """The document, or None with a problem: at its line, or where none is to blame at the key that names the file."""
    try:
        return read_yaml(path)
    except YamlFileError as error:
        if error.line is None:
            problems.append(replace(named_by, message=f"{shown}: {error.message}"))
        else:
            problems.append(Problem(f"{shown}:{error.line}", "", error.message))
        return None


def _positions(document: YamlDocument, shown: str) -> Any:
    return lambda path: f"{shown}:{document.line(path)}"


def _check_version(layer: Layer, problems: list[Problem]) -> None:
    version = layer.data.get("schema_version")
    if version is None:
        text = f"is missing; write schema_version: {SCHEMA_VERSION}"
    elif type(version) is not int or version != SCHEMA_VERSION:
        text = f"cannot be read ({show(version)}); this release reads {SCHEMA_VERSION}"
    else:
        return
    problems.append(Problem(layer.where(("schema_version",)), "schema_version", text))


def _parse_option(option: str, where: str, phase_names: Sequence[str]) -> tuple[KeyPath, Any]:
    """(key path, value) of one option. Raises _BadOption."""
    key, equals, text = option.partition("=")
    key = key.strip()
    if not equals or not key or len(option) > MAX_OPTION:
        raise _BadOption("", f"is not key.path=value ({show(option)})")
    path: KeyPath = tuple(key.split("."))
    if path[0] == "phases":
        rest = key.removeprefix("phases.")
        for name in sorted(phase_names, key=len, reverse=True):  # a phase's name may hold dots
            if rest.startswith(f"{name}."):
                path = ("phases", name, *rest.removeprefix(f"{name}.").split("."))
                break
    if not all(path) or len(path) > 16:
        raise _BadOption("", f"is not a path of keys with dots between them ({show(key)})")
    if path[0] in ("extends", "schema_version"):
        raise _BadOption(str(path[0]), "cannot be set by an option; write a file")
    try:
        return path, parse_yaml(text, where).data
    except YamlFileError as error:
        raise _BadOption(excerpt(key), error.message) from None


def _lay(
    data: dict[str, Any], path: KeyPath, value: Any, where: str, wheres: dict[KeyPath, str], names: dict[KeyPath, str]
) -> None:
    """Lay one option's value over those of earlier options. names: the model's name where later options change its keys."""
    for length, key in enumerate(path[:-1], start=1):
        here, child = path[:length], data.get(str(key))
        if here == ("phases",) and isinstance(child, list):
            raise _BadOption("phases", "is given as a list by an earlier option; write the phase into that list")
        if isinstance(child, str) and here == ("model",):
            names[here], child = child, None
        elif isinstance(child, str) and length == 1 and key in SHORTHANDS:
            child = data[str(key)] = {SHORTHANDS[str(key)]: child}
        if child is None:
            child = data[str(key)] = {}
        if not isinstance(child, dict):
            message = f"is set to {show(child)} by an earlier option, so that a key of it cannot be set"
            raise _BadOption(".".join(map(str, here)), message)
        data = child
    if path == ("model",) and not isinstance(value, Mapping):
        names.pop(path, None)
    elif path == ("model",) and isinstance(data.get("model"), str):
        names[path] = data["model"]
    _assign(data, path, value, where, wheres)


def _assign(data: dict[str, Any], path: KeyPath, value: Any, where: str, wheres: dict[KeyPath, str]) -> None:
    key = str(path[-1])
    if isinstance(value, Mapping) and isinstance(data.get(key), dict):
        for child, entry in value.items():
            _assign(data[key], (*path, child), entry, where, wheres)
    else:
        data[key] = value
        wheres[path] = where
