"""Which rows of data/published_cases.csv count: those that are stated as run, but for named errors of their sources.

The list is data/eligible.yaml. `python -m validation.published.eligible` writes it anew; a test keeps it and the code together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from hwprofiles.record_file import read_record
from validation.published.row import read_rows
from validation.published.state import state

DATA: Final = Path(__file__).parents[1] / "data"
CASES: Final = DATA / "published_cases.csv"
LIST: Final = DATA / "eligible.yaml"
WIDTH: Final = 120

HEAD: Final = """\
# Rows of published_cases.csv that are stated as they were run (no key that a row gives is changed), by collection and number;
# written by python -m validation.published.eligible. A row leaves the list only by a named error of its source: `errors`.
"""


class EligibleFile(BaseModel):
    """The file: case_id → the error of its source; collection → numbers as in the case_id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    errors: dict[str, str]
    eligible: dict[str, tuple[str, ...]]


@cache
def _file() -> EligibleFile:
    return read_record(LIST, EligibleFile)


def excluded() -> Mapping[str, str]:
    """case_id → the named error of its source. Raises CatalogError where the file is wrong."""
    return _file().errors


@cache
def eligible() -> frozenset[str]:
    """The case_ids that count. Raises CatalogError where the file is wrong."""
    return frozenset(f"{name}-{number}" for name, numbers in _file().eligible.items() for number in numbers)


def statable(path: Path = CASES) -> list[str]:
    """case_ids of the rows that can be stated as they were run, in the file's order."""
    return [row.text("case_id") for row in read_rows(path) if state(row).scenario is not None]


def text_of(names: Sequence[str], errors: Mapping[str, str]) -> str:
    """The file's text: the errors as they are, and the names that have none."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if name not in errors:
            collection, _, number = name.rpartition("-")
            groups.setdefault(collection, []).append(number)
    lines = [HEAD + ("errors:" if errors else "errors: {}")]
    lines += [f'  {name}: "{why}"' for name, why in errors.items()]
    lines.append("eligible:" if groups else "eligible: {}")
    for collection in sorted(groups):
        lines += _wrapped(collection, groups[collection])
    return "\n".join(lines) + "\n"


def _wrapped(collection: str, numbers: Sequence[str]) -> list[str]:
    """A flow list over as many lines as it needs."""
    lines, line = [], f"  {collection}: ["
    for place, number in enumerate(numbers):
        item = f'"{number}"' + ("]" if place == len(numbers) - 1 else ",")
        if len(line) + len(item) + 1 > WIDTH:
            lines.append(line.rstrip())
            line = "    "
        line += item + ("" if item.endswith("]") else " ")
    return [*lines, line]


if __name__ == "__main__":
    LIST.write_text(text_of(statable(), excluded()), encoding="utf-8")
