"""Where commands write: one JSON document to standard output, files atomically, warnings to standard error."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hwprofiles.names import nearest
from hwprofiles.problems import show
from hwprofiles.yaml_file import excerpt
from simulator.errors import InputError, MoesimError, Problem


def print_json(value: Any) -> None:
    """One JSON document on standard output. Raises ValueError on NaN or infinity."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_as(form: str, document: Any, markdown: Callable[[Any], str], on_console: Callable[[Any], None]) -> None:
    """A document of results on standard output: as JSON, as Markdown, or else as people read it."""
    if form == "json":
        from simulator.results.document import to_json

        sys.stdout.write(to_json(document))
    elif form == "markdown":
        sys.stdout.write(markdown(document))
    else:
        on_console(document)
    sys.stdout.flush()


def print_warnings(warnings: Iterable[str]) -> None:
    """A line each on standard error."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def option_position(number: int) -> str:
    """How messages name a `--set` option, numbered from 1."""
    return f"--set {number}"


def chosen_format(as_json: bool, form: str | None, formats: Sequence[str]) -> str:
    """The format that `-f` and `--json` name together, else the first of `formats`. Raises InputError: unknown, or two."""
    if form is None:
        return "json" if as_json else formats[0]
    if form not in formats:
        raise InputError([Problem("", "-f", f"no format {show(form)}{nearest(form, formats)}")])
    if as_json and form != "json":
        raise InputError([Problem("", "-f", f"{form} and --json are two formats; give one of them")])
    return form


def check_output(path: Path, force: bool, field: str = "--out") -> None:
    """Raise InputError where a file cannot be written there: it exists (unless `force`), is a folder, or its folder is
    not there or takes no new file (one is made and removed). field: the option that named it.
    """
    shown = excerpt(path, 200)
    try:
        if path.is_dir():
            raise InputError([Problem("", field, f"{shown} is a directory; give a file")])
        if not path.parent.is_dir():
            raise InputError([Problem("", field, f"the folder of {shown} does not exist")])
        if path.exists() and not path.is_file():
            raise InputError([Problem("", field, f"{shown} is not a regular file")])
        if path.exists() and not force:
            raise InputError([Problem("", field, f"{shown} exists; --force replaces it")])
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            [Problem("", field, f"{shown} cannot be written: {reason}; give a file in a folder of yours")]
        ) from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that it is the old one or the whole new one at every moment; text as UTF-8 with its own line ends.

    Raises MoesimError: I/O failed.
    """
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".moesim-", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise MoesimError(f"{excerpt(path, 200)}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _mode() -> int:
    """Permissions that a plain new file gets (mkstemp's are for its owner alone)."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the system can open folders."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
