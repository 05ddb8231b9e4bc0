"""A YAML file as a record: every problem of the file at once, each with its line and field."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from hwprofiles.yaml_file import YamlDocument, YamlFileError, excerpt, read_yaml

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing wrong with a file. where: "FILE:LINE" or ""; field: dotted path or ""; message: what is wrong."""

    where: str
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.field, self.message) if part)


class CatalogError(Exception):
    """A catalogue entry that does not exist, or a file of one that is wrong. problems: all of them, in file order."""

    def __init__(self, problems: Iterable[FileProblem] | str) -> None:
        if isinstance(problems, str):
            problems = (FileProblem("", "", problems),)
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def read_document(path: Path) -> YamlDocument:
    """As read_yaml. Raises CatalogError."""
    try:
        return read_yaml(path)
    except YamlFileError as error:
        where = excerpt(path, 200) if error.line is None else f"{excerpt(path, 200)}:{error.line}"
        raise CatalogError([FileProblem(where, "", error.message)]) from None


def read_record(path: Path, model: type[Model]) -> Model:
    """The record of type `model` that a YAML file holds. Raises CatalogError with every problem."""
    document = read_document(path)
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise CatalogError(problems_of(error, document, model.model_fields)) from None


def read_mapping(path: Path, model: type[Model], key_field: str | None = None) -> dict[str, Model]:
    """A YAML file of key → record; `key_field` names the record's field that repeats the key. Raises CatalogError."""
    document = read_document(path)
    data = document.data
    if key_field is not None:
        data = {key: {key_field: key, **entry} if isinstance(entry, Mapping) else entry for key, entry in data.items()}
    try:
        return TypeAdapter(dict[str, model]).validate_python(data)  # type: ignore[valid-type]
    except ValidationError as error:
        raise CatalogError(problems_of(error, document, model.model_fields)) from None


def problems_of(error: ValidationError, document: YamlDocument, fields: Iterable[str] = ()) -> list[FileProblem]:
    """pydantic's errors as problems with the position in the document; an unknown key gets the nearest of `fields`."""
    problems = []
    for entry in error.errors(include_url=False):
        path = tuple(part for part in entry["loc"] if part != "[key]")
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(path[-1]), list(fields), n=1)
            message = f"unknown key{f'; did you mean {near[0]}?' if near else ''}"
        elif entry["type"] == "missing":
            message = "missing"
        elif entry["type"] != "value_error":
            message = f"{message} ({_shown(entry['input'])})"
        where = f"{excerpt(document.path, 200)}:{document.line(path)}"
        problems.append(FileProblem(where, excerpt(".".join(map(str, path)), 200), message))
    return problems


def _shown(value: Any) -> str:
    """A value in an error message: short, and never a whole tree."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return excerpt(repr(value))
