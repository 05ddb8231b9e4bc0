"""A CSV table that is written a row at a time and read again by the run that goes on after a kill. No torch here."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.errors import CalibrationError, UnwrittenError
from hwprofiles.problem import Problem

Row = Mapping[str, str]
FLAGGED: Final = "flagged: "
"""Begins the note of a row whose seconds are doubtful."""
MAX_NOTE: Final = 200
"""Characters of a cell of text."""


class Table:
    """One table. columns: of its header; rows already there are read, a last line that was cut off is dropped.

    Raises CalibrationError: the file has another header or cannot be read.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._size = 0
        """Bytes of the rows that are whole."""
        self.rows: list[dict[str, str]] = self._read()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes rows at once and hands them to the system: a killed program loses none. Raises UnwrittenError.

        Where the disk is full, what was written of them is taken away again.
        """
        new = [{name: cell(row.get(name, "")) for name in self.columns} for row in rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if self._size == 0:
            writer.writeheader()
        writer.writerows(new)
        data = text.getvalue().encode()
        try:
            _write(self.path, self._size, data)
        except OSError as error:
            self._cut()
            kept = f"the {len(self.rows)} rows before it are kept; make room and start the same command again"
            reason = error.strerror or str(error)
            raise UnwrittenError([Problem(str(self.path), "", f"cannot be written ({reason}); {kept}")]) from None
        self._size += len(data)
        self.rows += new

    def drop_last(self) -> None:
        """Takes the last row away, as a kill left it without its other half."""
        kept, self.rows, self._size = self.rows[:-1], [], 0
        self._cut()
        self.append(kept)

    def _read(self) -> list[dict[str, str]]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CalibrationError(
                [Problem(str(self.path), "", f"cannot be read ({error.strerror or error})")]
            ) from None
        whole = data[: data.rfind(b"\n") + 1]
        try:
            lines = list(csv.reader(io.StringIO(whole.decode("utf-8"), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise self._foreign(str(error)) from None
        if lines and tuple(lines[0]) != self.columns:
            raise self._foreign("it has other columns")
        bad = next((idx for idx, cells in enumerate(lines[1:], 2) if len(cells) != len(self.columns)), None)
        if bad is not None:
            raise self._foreign(f"line {bad} has {len(lines[bad - 1])} cells instead of {len(self.columns)}")
        self._size = len(whole)
        if len(whole) < len(data):
            self._cut()
        return [dict(zip(self.columns, cells, strict=True)) for cells in lines[1:]]

    def _foreign(self, reason: str) -> CalibrationError:
        text = f"is no table of this program ({reason}); give another folder, or --force to measure anew"
        return CalibrationError([Problem(str(self.path), "", text)])

    def _cut(self) -> None:
        """The file as long as its whole rows."""
        if self.path.exists():
            os.truncate(self.path, self._size)


def _write(path: Path, position: int, data: bytes) -> None:
    """Data at the end of a file that is `position` bytes long."""
    with path.open("r+b" if position else "wb") as file:
        file.seek(position)
        file.write(data)
        file.flush()


def cell(value: Any) -> str:
    """One line of text; a float with six digits, nothing for what is no number."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_NOTE or " " not in text else _shorter(text)


def _shorter(text: str) -> str:
    """Notes may be long; numbers in a row (loads) are kept whole."""
    return text if all(part.isdigit() for part in text.split()) else text[: MAX_NOTE - 2] + " …"
