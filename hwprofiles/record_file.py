"""A YAML file as a record: every problem of the file at once, each with its line and field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from hwprofiles.problem import Problem
from hwprofiles.problems import schema_problems
from hwprofiles.yaml_file import MAX_NODES, MAX_TABLE_NODES, KeyPath, YamlDocument, YamlFileError, excerpt, read_yaml

Model = TypeVar("Model", bound=BaseModel)
NO_SOURCES: Final[Mapping[str, BaseModel]] = MappingProxyType({})


class CatalogError(Exception):
    """A catalogue entry that does not exist, or a file of one that is wrong. problems: all of them, in file order."""

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = (Problem("", "", problems),)
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


Failure = Callable[[Iterable[Problem]], Exception]
"""Makes an error of problems."""


def read_document(
    path: Path, shown: str = "", failure: Failure = CatalogError, max_nodes: int = MAX_NODES
) -> YamlDocument:
    """As read_yaml; `shown` stands for the path in errors. Raises what `failure` makes."""
    shown = shown or str(path)
    try:
        return read_yaml(path, max_nodes)
    except YamlFileError as error:
        where = excerpt(shown, 200) if error.line is None else f"{excerpt(shown, 200)}:{error.line}"
        raise failure([Problem(where, "", error.message)]) from None


def read_record(path: Path, model: type[Model], shown: str = "", failure: Failure = CatalogError) -> Model:
    """The record of type `model` that a YAML file holds. Raises what `failure` makes of all problems."""
    return read_located(path, model, shown, failure)[0]


def read_located(
    path: Path, model: type[Model], shown: str = "", failure: Failure = CatalogError
) -> tuple[Model, YamlDocument]:
    """As read_record, with the document, which knows the lines."""
    document = read_document(path, shown, failure)
    try:
        return model.model_validate(document.data), document
    except ValidationError as error:
        raise failure(_problems_of(error, document, model, shown or str(path))) from None


def read_mapping(
    path: Path, model: type[Model], key_field: str | None = None, sources: Mapping[str, BaseModel] = NO_SOURCES
) -> dict[str, Model]:
    """A YAML file of key → record; `key_field` names the record's field that repeats the key; sources: short name → Source, for
    what an entry's `source` abbreviates.

    Raises CatalogError with every problem.
    """
    document = read_document(path, max_nodes=MAX_TABLE_NODES)
    records: dict[str, Model] = {}
    problems: list[Problem] = []
    for key, entry in document.data.items():
        try:
            is_keyed = key_field is not None and isinstance(entry, Mapping)
            record = {key_field: key, **entry} if is_keyed else entry
            name = record.get("source") if isinstance(record, Mapping) else None
            if isinstance(name, str) and name in sources:
                record = {**record, "source": sources[name]}
            records[key] = model.model_validate(record)
        except ValidationError as error:
            problems += _problems_of(error, document, model, str(path), (key,))
    if problems:
        raise CatalogError(problems)
    return records


def _problems_of(
    error: ValidationError, document: YamlDocument, model: type[BaseModel], shown: str, above: KeyPath = ()
) -> list[Problem]:
    """pydantic's errors with their positions in the document; above: where in it the record stands."""
    return [
        Problem(
            f"{excerpt(shown, 200)}:{document.line((*above, *path))}",
            excerpt(".".join(map(str, (*above, *path))), 200),
            message,
        )
        for path, message in schema_problems(error, model)
    ]
