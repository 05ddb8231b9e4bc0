"""The folder that a run writes into: begun, gone on with, finished, or measured anew beside the old one. No torch here.

A folder is whole when provenance.yaml stands in it, which is written last. With --force a whole one (or one that was begun on
another machine) is measured anew in its subfolder NEW, whose files take the old ones' places when all of them are there.
One that --limit cut is gone on with.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.command import OUT, write_json
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.problem import Problem

RUN: Final = "run.json"
POINTS: Final = "points.csv"
LAST: Final = "provenance.yaml"
NEW: Final = ".new"
LIMIT: Final = "limit_s"
"""Of run.json: what --limit gave the last call, whose folder a later call goes on with."""
OWN: Final = (
    "points.csv", "kernels.csv", "collectives.csv", "assumptions.yaml", "gpu.yaml", "host.csv", "power.csv",
    "network.csv", "parameters.yaml", "host_parameters.yaml", "power_parameters.yaml", "network_parameters.yaml",
    RUN, LAST,
)  # fmt: skip
"""Every file that this program writes there; others are left alone."""


def prepare(out: Path, facts: Facts, today: str, *, force: bool) -> tuple[Path, dict[str, Any]]:
    """The folder to measure into, made where there is none, and its run.json. Raises CalibrationError."""
    if is_whole(out / NEW):
        take_over(out)
    begun = _begun(out)
    if not force and is_whole(out) and not _goes_on(begun, facts):
        raise _refused(
            f"{str(out)!r} holds a finished calibration; --force measures anew (the old one is kept until then)"
        )
    anew = force and (is_whole(out) or (begun is not None and bool(facts.differences(begun))))
    folder = out / NEW if anew else out
    begun = _begun(folder)
    if begun is not None:
        differences = facts.differences(begun)
        if differences and not anew:
            told = "; ".join(differences)
            raise _refused(
                f"{str(out)!r} was begun otherwise ({told}); give another folder, or --force to measure anew"
            )
        if not differences:
            return folder, begun
        clear(folder)
    elif not anew and (foreign := [name for name in OWN if (folder / name).exists()]):
        raise _refused(f"{str(out)!r} has a {foreign[0]} without a {RUN}; give another folder")
    _make(folder, out)
    run = {**facts.as_dict(), "date": today}
    write_json(folder / RUN, run)
    return folder, run


def is_whole(folder: Path) -> bool:
    """Whether the folder is a finished calibration, or any stack."""
    return (folder / LAST).is_file()


def _goes_on(begun: Mapping[str, Any] | None, facts: Facts) -> bool:
    """Whether what was measured was cut by --limit, on this machine."""
    return begun is not None and bool(begun.get(LIMIT)) and not facts.differences(begun)


def take_over(out: Path) -> None:
    """Puts the new calibration in the old one's place; a call goes on where a kill ended the one before it.

    run.json moves first, behind the removal of what only the old one had; provenance.yaml last.
    """
    new = out / NEW
    if (new / RUN).exists():
        for name in OWN:
            if not (new / name).exists() or name == LAST:
                (out / name).unlink(missing_ok=True)
    for name in (RUN, *OWN):
        if (new / name).exists():
            (new / name).replace(out / name)
    new.rmdir()


def clear(folder: Path) -> None:
    """Takes this program's files away."""
    for name in OWN:
        (folder / name).unlink(missing_ok=True)


def _begun(folder: Path) -> dict[str, Any] | None:
    """run.json of a folder; None where there is none. Raises CalibrationError: it cannot be read."""
    try:
        found = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _refused(f"{str(folder / RUN)!r} cannot be read ({error}); give another folder") from None
    try:
        day(found)
    except (LookupError, TypeError, ValueError) as error:
        text = f"{str(folder / RUN)!r} is no record of a run ({type(error).__name__}: {error}); give another folder"
        raise _refused(text) from None
    return dict(found)


def day(run: Mapping[str, Any]) -> str:
    """The date of a run.json. Raises LookupError, TypeError, ValueError: it has none."""
    return date.fromisoformat(run["date"]).isoformat()


def _make(folder: Path, out: Path) -> None:
    """Raises CalibrationError where no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = str((error.strerror if isinstance(error, OSError) else "") or error)
        raise _refused(f"{str(out)!r} cannot be written ({reason}); give a folder of yours") from None


def _refused(text: str) -> CalibrationError:
    return CalibrationError([Problem("", OUT, text)])
