"""Columns that a row leaves empty and its source gives (sources.yaml): one entry a fact, with where it was read.

An error of a source that its own files correct is an entry too, which says so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.record_file import read_record
from validation.published.draft import Assumed
from validation.published.row import Row

TABLE = Path(__file__).parent / "sources.yaml"


class Fact(BaseModel):
    """Columns of some rows. model: the row's model begins with it, a guard against another file's case_id. corrects: the row
    has values there that are a named error of its source, and these stand in their place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: tuple[str, ...] = Field(min_length=1)
    model: str
    columns: dict[str, str | int] = Field(min_length=1)
    source: str = Field(min_length=1)
    corrects: bool = False


class Facts(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: tuple[Fact, ...]


@cache
def facts() -> tuple[Fact, ...]:
    """The table. Raises CatalogError where the file is wrong."""
    return read_record(TABLE, Facts).facts


def filled_in(row: Row) -> tuple[Row, tuple[Assumed, ...]]:
    """The row with what its source gives, and what that was: column, value, source."""
    read: list[Assumed] = []
    for fact in facts():
        if row.text("case_id") not in fact.cases or not row.text("model").startswith(fact.model):
            continue
        told = {column: str(value) for column, value in fact.columns.items() if fact.corrects or not row.text(column)}
        read += [Assumed(column, value, fact.source, is_sourced=True) for column, value in told.items()]
        row = row.with_cells(told)
    return row, tuple(read)
