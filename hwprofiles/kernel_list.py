"""A list of kernel shapes as CSV, and what a stack takes for each of them: `moesim kernels`.

Columns (any may be missing, in any order): those of SHAPES below. A row that no kernel can be is an error of the file; one for
which the stack has nothing gets an `error` in place of seconds. Columns of other names are kept as they are.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from hwprofiles.kernels.gemm import GROUPED
from hwprofiles.kernels.rows import GEMM_RESULTS, GEMM_VARIANTS, NEEDED
from hwprofiles.kernels.shape import KERNELS, LOOP, OWN_GEMMS, PEAK_OF_DTYPE, KernelShape
from hwprofiles.names import nearest
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError
from hwprofiles.units import TERA
from hwprofiles.yaml_file import excerpt

Clock = Literal["burst", "sustained"]
"""burst: as a short benchmark measures it. sustained: a loop of that kernel alone, once the board's limit holds it."""

SIZES: Final = (
    "m", "n", "k", "groups", "batch", "seq", "heads", "kv_heads", "head_dim_qk", "head_dim_v", "bytes", "width",
)  # fmt: skip
SHAPES: Final = ("op", "variant", "dtype", "library", *SIZES, "loads", "causal", "result", "regime")
"""Columns that are read. loads: rows of each group, with blanks between; they give m (of a wgrad k) and groups. result: of
a wgrad. width: numbers of a row of a memory-bound kernel, of m rows.
"""
ANSWERS: Final = ("seconds", "low", "high", "basis", "error")
"""Columns that the answer adds."""
LARGEST: Final = int(TERA)
"""Of any size, no unit: more is a slip."""

Cells = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One row: its cells as they stand in the file, the kernel that they are, and its clock."""

    cells: Cells
    shape: KernelShape
    clock: Clock


@dataclass(frozen=True, slots=True)
class ShapeList:
    """The rows of a file in its order, and its columns in theirs."""

    columns: tuple[str, ...]
    rows: tuple[Asked, ...]


def read_shapes(path: Path) -> ShapeList:
    """The shapes of a CSV file. Raises CatalogError with every problem, each with its line and column."""
    shown = excerpt(path, 200)
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = [(line, cells) for line, cells in _lines(text) if any(cell.strip() for cell in cells)]
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CatalogError([Problem(shown, "", f"cannot be read as CSV: {excerpt(reason, 200)}")]) from None
    if not table:
        raise CatalogError(
            [Problem(shown, "", f"is empty; write a line of columns ({', '.join(SHAPES)}) and one a kernel")]
        )
    first, columns = table[0][0], tuple(cell.strip() for cell in table[0][1])
    problems = [Problem(f"{shown}:{first}", column, text) for column, text in _column_problems(columns)]
    if problems:
        raise CatalogError(problems)
    if len(table) == 1:
        raise CatalogError([Problem(f"{shown}:{first}", "", "no row follows the columns; write one a kernel")])
    rows: list[Asked] = []
    for line, cells in table[1:]:
        try:
            rows.append(_asked(columns, cells))
        except _BadCell as error:
            problems.append(Problem(f"{shown}:{line}", error.column, str(error)))
    if problems:
        raise CatalogError(problems)
    return ShapeList(columns, tuple(rows))


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    for cells in reader:
        yield reader.line_num, cells


class _BadCell(ValueError):
    """A cell that cannot be."""

    def __init__(self, column: str, message: str) -> None:
        self.column = column
        super().__init__(message)


def _column_problems(columns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(column, message) of a header that cannot be."""
    for column in dict.fromkeys(columns):
        if not column or columns.count(column) > 1:
            yield excerpt(column), "a column without a name" if not column else "the column stands there twice"
        elif column in ANSWERS:
            yield column, "is a column of the answer; give this one another name, or leave it out"
        elif column not in SHAPES and (near := nearest(column.lower(), SHAPES, listed=False)):
            yield excerpt(column), f"unknown column{near}; a column of your own needs a name that is less alike"
    if "op" not in columns:
        yield "op", f"the column is missing; columns: {', '.join(SHAPES)}"


def _asked(columns: tuple[str, ...], given: list[str]) -> Asked:
    if len(given) != len(columns):
        raise _BadCell("", f"{len(given)} cells, and there are {len(columns)} columns")
    cells = dict(zip(columns, (cell.strip() for cell in given), strict=True))
    clock = _one_of("regime", cells.get("regime") or "burst", get_args(Clock))
    return Asked(cells, _shape(cells), clock)  # type: ignore[arg-type]


def _shape(cells: Cells) -> KernelShape:
    op = _one_of("op", cells.get("op", ""), KERNELS)
    bound = KERNELS[op].bound
    given: dict[str, Any] = {name: _size(name, cells[name]) for name in SIZES if cells.get(name)}
    if cells.get("loads"):
        given |= _loads(cells["loads"], given, "k" if cells.get("variant") == "wgrad" else "m")
    if "width" in given:
        given |= _row_width(op, given)
    if bound == "gemm":
        given["variant"] = _one_of("variant", cells.get("variant") or GEMM_VARIANTS[0], GEMM_VARIANTS)
        if cells.get("library"):
            given["library"] = _one_of("library", cells["library"], (GROUPED, LOOP, OWN_GEMMS))
        if cells.get("result"):
            usual = GEMM_RESULTS[0] if given["variant"] == "wgrad" else "bf16"
            result = _one_of("result", cells["result"], GEMM_RESULTS if given["variant"] == "wgrad" else (usual,))
            given["result"] = "" if result == usual else result
        if op == "grouped_gemm" and "groups" not in given:
            raise _BadCell("groups", "is missing; a grouped GEMM needs the number of its groups")
    elif cells.get("variant"):
        raise _BadCell("variant", f"{excerpt(cells['variant'])} has no meaning for {op}; leave it empty")
    elif cells.get("library"):
        given["library"] = excerpt(cells["library"])
    if bound == "attention":
        given = {"batch": 1, "head_dim_v": given.get("head_dim_qk"), **given}
        if given.get("heads", 0) % given.get("kv_heads", 1):
            raise _BadCell("kv_heads", f"{given['kv_heads']} does not divide heads ({given.get('heads')})")
    missing = [name for name in NEEDED[bound] if not given.get(name)]
    if missing:
        raise _BadCell(missing[0], f"is missing; {op} needs {', '.join(NEEDED[bound])}")
    if cells.get("dtype"):
        given["dtype"] = _one_of("dtype", cells["dtype"], PEAK_OF_DTYPE)
    if cells.get("causal"):
        given["causal"] = _one_of("causal", cells["causal"].lower(), ("true", "false")) == "true"
    return KernelShape(op, **given)


def _row_width(op: str, given: dict[str, Any]) -> dict[str, int]:
    """n of a memory-bound kernel; its rows are m."""
    width: int = given.pop("width")
    if KERNELS[op].bound != "memory":
        raise _BadCell("width", f"{width} has no meaning for {op}; leave it empty")
    if given.get("n", width) != width:
        raise _BadCell("width", f"{width}, but n is {given['n']}; leave n out")
    if "m" not in given:
        raise _BadCell("m", f"is missing; a width needs the number of rows, of {width} numbers each")
    return {"n": width}


def _loads(text: str, given: Mapping[str, int], size: str) -> dict[str, Any]:
    """Rows, groups and unevenness of "512 300 212". size: the one that counts rows."""
    loads = [_size("loads", word, least=0) for word in text.split()]
    rows, groups = sum(loads), len(loads)
    for name, found in ((size, rows), ("groups", groups)):
        if name in given and given[name] != found:
            raise _BadCell("loads", f"{found:,} together, but {name} is {given[name]:,}; leave {name} out" if name == size
                           else f"{found} groups, but groups is {given[name]}; leave groups out")  # fmt: skip
    if not rows:
        raise _BadCell("loads", "no group has a row")
    mean = rows / groups
    spread = math.sqrt(math.fsum((load - mean) ** 2 for load in loads) / groups)
    return {size: rows, "groups": groups, "rows_cv": spread / mean}


def _size(column: str, text: str, least: int = 1) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= LARGEST or value != int(value):
        raise _BadCell(column, f'is no whole number of {least} to {LARGEST:,} ("{excerpt(text)}")')
    return int(value)


def _one_of(column: str, value: str, allowed: Any) -> str:
    if value not in allowed:
        what = "is missing" if not value else f'is not one of the allowed values ("{excerpt(value)}")'
        raise _BadCell(column, f"{what}{nearest(value, allowed)}")
    return value
