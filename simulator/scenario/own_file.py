"""Reads a YAML file that moesim ships: a model, the stated assumptions, a validation case."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hwprofiles.yaml_file import YamlDocument, YamlFileError, read_yaml
from simulator.errors import InputError, Problem
from simulator.scenario.problems import schema_problems

Record = TypeVar("Record", bound=BaseModel)


def read_own_file(path: Path, shown: str, kind: type[Record]) -> tuple[Record, YamlDocument]:
    """The file's record, and its document for the lines. Raises InputError at `shown`: unreadable, or not the format."""
    try:
        document = read_yaml(path)
        return kind.model_validate(document.data), document
    except YamlFileError as error:
        raise InputError([Problem(f"{shown}:{error.line or 1}", "", error.message)]) from None
    except ValidationError as error:
        raise InputError(
            Problem(f"{shown}:{document.line(where)}", ".".join(map(str, where)), message)
            for where, message in schema_problems(error, kind)
        ) from None
