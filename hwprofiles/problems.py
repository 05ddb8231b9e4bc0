"""What is wrong with a value as one printable line: problem, value, what is allowed, the nearest name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hwprofiles.names import nearest
from hwprofiles.units import PETA
from hwprofiles.yaml_file import KeyPath, excerpt

_RELATIONS = {
    "greater_than_equal": ("is too small", "at least", "ge"),
    "greater_than": ("is too small", "more than", "gt"),
    "less_than_equal": ("is too large", "at most", "le"),
    "less_than": ("is too large", "less than", "lt"),
}
_KINDS = {
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is too large",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is neither true nor false",
    "string_type": "is not a text",
    "dict_type": "is not a mapping of keys to values",
    "model_type": "is not a mapping of keys to values",
    "model_attributes_type": "is not a mapping of keys to values",
    "tuple_type": "is not a list",
    "date_type": "is not a date from 2000 to 2099 such as 2026-01-31",
    "none_required": "must be null",
}


def show(value: object) -> str:
    """A value as a short printable text; texts in quotes, so that "8" and 8 differ."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{excerpt(value)}"'
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    return excerpt(value)


def values_at(data: Any, parts: Sequence[str], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """(path, value) of a dotted key in plain data; * stands for every entry of a list."""
    if not parts:
        yield path, data
    elif parts[0] == "*":
        for idx, entry in enumerate(data if isinstance(data, list) else ()):
            yield from values_at(entry, parts[1:], (*path, idx))
    elif isinstance(data, Mapping) and parts[0] in data:
        yield from values_at(data[parts[0]], parts[1:], (*path, parts[0]))


def schema_problems(
    error: ValidationError, model: type[BaseModel], also: Iterable[str] = ()
) -> Iterator[tuple[KeyPath, str]]:
    """(key path, message) of every error that pydantic found in a value of `model`.

    also: keys of the top level that are read before the model is, so that a slip in one of them is recognised.
    """
    for detail in error.errors(include_url=False):
        yield _key_path(detail["loc"], model), _message(detail, model, also)


def _key_path(loc: KeyPath, model: type[BaseModel]) -> KeyPath:
    """The path of keys: without what pydantic adds for a union told apart by `kind` and for the key of a mapping."""
    return tuple(
        part
        for idx, part in enumerate(loc)
        if part != "[key]" and not (part in _tags_at(model, loc[:idx]) and part not in keys_at(model, loc[:idx]))
    )


def _message(detail: ErrorDetails, model: type[BaseModel], also: Iterable[str]) -> str:
    kind, context, value, loc = detail["type"], detail.get("ctx", {}), detail["input"], detail["loc"]
    if kind == "extra_forbidden":
        known = [*keys_at(model, loc[:-1]), *(also if len(loc) == 1 else ())]
        near = nearest(str(loc[-1]), known)
        return f"unknown key{near}{'' if 'did you mean' in near else _elsewhere(model, loc)}"
    if kind == "missing":
        return "is missing"
    if kind in _RELATIONS:
        text, relation, bound = _RELATIONS[kind]
        return f"{text} ({show(value)}); allowed {relation} {_bound(context[bound])}"
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = (
            str(context.get("expected") or context.get("expected_tags", "")).replace("'", "").replace(" or ", ", ")
        )
        shown = value.get("kind") if kind == "union_tag_invalid" and isinstance(value, Mapping) else value
        near = nearest(str(shown), [name.strip() for name in allowed.split(",")], listed=False)
        return f"is not one of the allowed values ({show(shown)}); allowed {allowed}{near}"
    if kind == "union_tag_not_found":
        return f"kind is missing; allowed {', '.join(_tags_at(model, loc))}"
    if kind in ("string_too_long", "too_long"):
        return f"is too long ({len(value)}); allowed at most {context['max_length']}"
    if kind in ("string_too_short", "too_short"):
        return f"is empty; allowed at least {context['min_length']}"
    if kind in _KINDS:
        return f"{_KINDS[kind]} ({show(value)})"
    text = excerpt(detail["msg"].removeprefix("Value error, "), 300)
    return text if isinstance(value, Mapping) else f"{text} ({show(value)})"


def _elsewhere(model: type[BaseModel], loc: KeyPath) -> str:
    """'; did you mean data_parallel.hsdp_group?' for a key that stands in other sections, the first three of them.

    Not for what a source of a node says, four keys deep.
    """
    here, name = _key_path(loc, model), str(loc[-1])
    paths = sorted((path for path in _paths(model) if path[-1] == name and path != here and len(path) <= 3), key=len)
    found = list(dict.fromkeys(".".join(map(str, path)) for path in paths))
    return f"; did you mean {' or '.join(found[:3])}?" if found else ""


def _paths(model: type[BaseModel], above: KeyPath = ()) -> Iterator[KeyPath]:
    """Of every key of a model and of the sections in it."""
    for name, info in model.model_fields.items():
        path = (*above, info.alias or name)
        yield path
        for section in _models_in(info.annotation):
            yield from _paths(section, path)


def _bound(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if isinstance(value, float) and value.is_integer() and abs(value) < PETA else str(value)


def keys_at(model: type[BaseModel], loc: KeyPath) -> list[str]:
    """Keys that the section at a pydantic location allows."""
    return [info.alias or name for kind in _sections_at(model, loc) for name, info in kind.model_fields.items()]


def literals_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The texts that the type of a key lists; none where it lists none."""
    fields = [section.model_fields.get(str(path[-1])) for section in _sections_at(model, path[:-1])]
    return [text for info in fields if info is not None for text in _literals_in(info.annotation)]


def _literals_in(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [text for text in get_args(annotation) if isinstance(text, str)]
    return [text for argument in get_args(annotation) for text in _literals_in(argument)]


def _tags_at(model: type[BaseModel], loc: KeyPath) -> list[str]:
    """The values of `kind` that tell the models at a pydantic location apart."""
    return [tag for kind in _sections_at(model, loc) for tag in _tags(kind)]


def _sections_at(model: type[BaseModel], loc: KeyPath) -> list[type[BaseModel]]:
    """What a pydantic location may hold, by following the annotations."""
    candidates: list[type[BaseModel]] = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        found: list[type[BaseModel]] = []
        for candidate in candidates:
            for name, info in candidate.model_fields.items():
                if part in (name, info.alias):
                    found += _models_in(info.annotation)
        tagged = [kind for kind in candidates if part in _tags(kind)]
        candidates = found or tagged or candidates
    return candidates


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every pydantic model inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    """The values of a model's `kind` key, which pydantic puts into the location of a union told apart by it."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()
