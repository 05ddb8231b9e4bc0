"""What the commands share: one line an error and exit code 2, a result written whole or not at all."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from hwprofiles.calibration.errors import EXIT_BAD_INPUT, CalibrationError, UnwrittenError
from hwprofiles.problem import Problem

OUT = "-o"
MODE = 0o666
"""Permissions of a new file, less the process's umask."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line. Raises CalibrationError."""

    def error(self, message: str) -> NoReturn:
        raise CalibrationError(f"{message}; --help lists the options")


def guarded(name: str, work: Callable[[], int]) -> int:
    """What `work` gives; where it raises CalibrationError, a line a problem on standard error and 2 (1: UnwrittenError)."""
    try:
        return work()
    except CalibrationError as wrong:
        for line in str(wrong).splitlines():
            print(f"{name}: {line}", file=sys.stderr)
        return int(getattr(wrong, "exit_code", EXIT_BAD_INPUT))


def check_output(path: Path) -> None:
    """Raises CalibrationError where no file can be written there; before the work whose result it is to hold."""
    reason = ""
    try:
        if path.is_dir():
            reason = "it is a folder"
        elif path.exists() and not path.is_file():
            reason = "it is no regular file"
        else:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except (OSError, ValueError) as error:
        reason = str((error.strerror if isinstance(error, OSError) else "") or error)
    if reason:
        raise CalibrationError(
            [Problem("", OUT, f"{str(path)!r} cannot be written ({reason}); give a file in a folder of yours")]
        )


def write_json(path: Path, value: Any) -> None:
    """Raises as `write_whole`."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def write_table(path: Path, rows: Iterable[Any], facts: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    """FILE.csv, a line a row, and FILE.yaml beside it, which says what was measured on and what the columns are.

    rows: instances of a dataclass, of which columns (name → meaning) names all fields. Raises as `write_whole`.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in asdict(row).items()} for row in rows)
    write_whole(path, table.getvalue())
    lines = [f"# Provenance of {path.name}: one row a case."]
    lines += [f"{name}: {json.dumps(value)}" for name, value in facts.items()]
    lines += ["columns:", *[f"  {name}: {json.dumps(text)}" for name, text in columns.items()]]
    write_whole(path.with_suffix(".yaml"), "\n".join(lines) + "\n")


def _cell(value: Any) -> Any:
    """Six digits; nothing for what is no number."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def write_whole(path: Path, text: str) -> None:
    """The old file, or the whole new one, at every moment. Raises UnwrittenError: I/O failed."""
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".moesim-", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(MODE & ~umask)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"{str(path)!r} cannot be written ({reason}); make room there and start the same command again"
        raise UnwrittenError([Problem("", OUT, text)]) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
