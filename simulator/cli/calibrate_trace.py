"""`moesim calibrate --from-trace`: kernel times out of the traces of a training step, as a stack folder. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwprofiles.record_file import CatalogError
from hwprofiles.yaml_file import excerpt
from simulator.cli.output import print_warnings, write_atomically
from simulator.errors import InputError, MoesimError, Problem


def calibrate_from_traces(
    traces: Sequence[Path], out: Path, gpu: str | None, force: bool, as_json: bool, others: Mapping[str, object]
) -> None:
    """Write the folder and say what is in it.

    others: options of measuring, by name, which have no meaning here where they are set. Raises InputError, nothing written:
    one of those, a folder that holds something (unless `force`), no trace, a GPU that is not known.
    """
    problems = [
        Problem("", name, "has no meaning with --from-trace, which measures nothing") for name in others if others[name]
    ]
    problems += _folder_problems(out, force)
    if problems:
        raise InputError(problems)
    from hwprofiles.traces.stack_files import ALL_FILES, stack_files

    try:
        found = stack_files(traces, gpu)
    except CatalogError as error:
        raise InputError(error.problems) from None
    _write(out, found.files, ALL_FILES)
    print_warnings(found.warnings)
    how = (
        f"stack: {excerpt(out, 200)}"
        if found.has_stack
        else f"{excerpt(out, 200)}: no stack, as no kernel time could be taken"
    )
    if as_json:
        told = {
            "folder": str(out),
            "is_stack": found.has_stack,
            "files": sorted(found.files),
            "lines": list(found.lines),
        }
        print(json.dumps(told, indent=2))
    else:
        print("\n".join((*found.lines, how)))


def _folder_problems(out: Path, force: bool) -> list[Problem]:
    shown = excerpt(out, 200)
    try:
        if out.exists() and not out.is_dir():
            return [Problem("", "-o", f"{shown} is a file; give a folder")]
        if out.is_dir() and any(out.iterdir()) and not force:
            return [Problem("", "-o", f"{shown} holds something; give an empty or a new folder, or --force")]
        if not out.parent.is_dir():
            return [Problem("", "-o", f"the folder of {shown} does not exist")]
    except (OSError, ValueError) as error:
        return [Problem("", "-o", f"{shown}: {excerpt(error, 200)}; give a folder of yours")]
    return []


def _write(out: Path, files: Mapping[str, str], owned: Sequence[str]) -> None:
    """The files, the one that makes it a stack last; of an earlier trace's files those that this one has not are removed.

    Raises MoesimError: I/O failed.
    """
    try:
        out.mkdir(exist_ok=True)
        for name in owned:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise MoesimError(f"{excerpt(out, 200)}: cannot be written: {error.strerror or error}") from None
    for name in owned:
        if name in files:
            write_atomically(out / name, files[name])
