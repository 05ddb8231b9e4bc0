"""Why rows are far off, as well as people know (explained.yaml)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.record_file import read_record

TABLE: Final = Path(__file__).parent / "explained.yaml"
UNKNOWN: Final = "not explained yet"


class Explanation(BaseModel):
    """cases: patterns of case_ids; why: the best explanation, and how sure it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: tuple[str, ...] = Field(min_length=1)
    why: str = Field(min_length=1)


class Explanations(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: tuple[Explanation, ...]


@cache
def explanations() -> tuple[Explanation, ...]:
    """The table. Raises CatalogError where the file is wrong."""
    return read_record(TABLE, Explanations).rows


def why(case_id: str) -> str:
    """The first entry that fits; UNKNOWN where none does."""
    found = (each.why for each in explanations() if any(fnmatchcase(case_id, pattern) for pattern in each.cases))
    return next(found, UNKNOWN)
