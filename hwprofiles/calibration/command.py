"""What the commands share: one line an error and exit code 2, a result written whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hwprofiles.calibration.errors import EXIT_BAD_INPUT, CalibrationError
from hwprofiles.problem import Problem

OUT = "-o"
MODE = 0o666
"""Permissions of a new file, less the process's umask."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line. Raises CalibrationError."""

    def error(self, message: str) -> NoReturn:
        raise CalibrationError(f"{message}; --help lists the options")


def guarded(name: str, work: Callable[[], int]) -> int:
    """What `work` gives; 2, and a line a problem on standard error, where it raises CalibrationError."""
    try:
        return work()
    except CalibrationError as wrong:
        for line in str(wrong).splitlines():
            print(f"{name}: {line}", file=sys.stderr)
        return EXIT_BAD_INPUT


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
    """The old file, or the whole new one, at every moment. Raises CalibrationError: I/O failed."""
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".moesim-", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.write("\n")
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(MODE & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise CalibrationError(
            [Problem("", OUT, f"{str(path)!r} cannot be written ({error.strerror or error})")]
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
