"""Rows as they are measured, each on the disk before the next begins, and what a run that goes on may go on with."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.command import write_json, write_whole
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.problem import Problem

RUN: Final = "run.json"
KEPT: Final = ("gpu", "driver", "torch", "power_limit_w", "size")
"""What must be the same for a run to go on."""


class Table:
    """A CSV file that grows. columns: name → meaning. Raises CalibrationError where it cannot be written or is another's."""

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        self.path, self.columns = path, columns
        try:
            self.rows = self._read()
            if not path.exists():
                write_whole(path, ",".join(columns) + "\n")
        except (OSError, csv.Error, UnicodeDecodeError) as wrong:
            raise _cannot(path, wrong) from None

    def _read(self) -> list[dict[str, str]]:
        """Rows of whole cases; the last one may have been cut off when a run was killed, and is taken away."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        lines = whole.splitlines()
        if not lines or lines[0] != ",".join(self.columns):
            raise CalibrationError(
                [
                    Problem(
                        "", "-o", f"{str(self.path)!r} has other columns than this program writes; give an empty folder"
                    )
                ]
            )
        rows = list(csv.DictReader(lines))
        if whole != text:
            cut = rows[-1]["name"] if rows else ""
            rows = [row for row in rows if row["name"] != cut]
            write_whole(self.path, self._text(rows, with_head=True))
        return rows

    def _text(self, rows: Iterable[Mapping[str, Any]], *, with_head: bool = False) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.columns), lineterminator="\n")
        if with_head:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends the rows of a case at once, and waits until the disk has them."""
        cells = [{name: _cell(row.get(name, "")) for name in self.columns} for row in rows]
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text(cells))
                file.flush()
                os.fsync(file.fileno())
        except OSError as wrong:
            raise _cannot(self.path, wrong) from None
        self.rows += [{name: str(value) for name, value in row.items()} for row in cells]

    def done(self, name: str) -> bool:
        """Whether there is a row of that name."""
        return any(row["name"] == name for row in self.rows)


def begin(folder: Path, facts: Mapping[str, Any]) -> None:
    """The folder with its run.json; one that is there must be of the same GPU and software. Raises CalibrationError."""
    path = folder / RUN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as wrong:
        raise _cannot(path, wrong) from None
    if before is None:
        write_json(path, {**facts, "date": datetime.now(UTC).date().isoformat()})
        return
    other = [f"{key} {before.get(key)!r}, now {facts.get(key)!r}" for key in KEPT if before.get(key) != facts.get(key)]
    if other:
        raise CalibrationError(
            [
                Problem(
                    "", "-o", f"{str(folder)!r} was begun with {'; '.join(other)}; give another folder, or that machine"
                )
            ]
        )


def finish(folder: Path, title: str, table: Table, notes: str, tool: str = "proof") -> None:
    """FILE.yaml beside the table: what it was measured on, and what its columns are."""
    facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
    lines = [f"# Provenance of {table.path.name}: {title}; SI units, an empty cell where nothing was measured."]
    lines += [f"{name}: {json.dumps(value)}" for name, value in facts.items() if name != "date"]
    lines += [
        f"made_by: python -m hwprofiles.calibration.{tool}", "source:", "  kind: measurement",
        f"  where: own measurement, {facts['gpu'] or 'a CPU'}", f"  date: {facts['date']}", f"  note: {json.dumps(notes)}",
        "columns:", *[f"  {name}: {json.dumps(text)}" for name, text in table.columns.items()],
    ]  # fmt: skip
    write_whole(table.path.with_suffix(".yaml"), "\n".join(lines) + "\n")


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _cannot(path: Path, wrong: Exception) -> CalibrationError:
    reason = getattr(wrong, "strerror", None) or str(wrong) or type(wrong).__name__
    return CalibrationError(
        [Problem("", "-o", f"{str(path)!r} cannot be used ({reason}); rows measured so far are kept")]
    )
