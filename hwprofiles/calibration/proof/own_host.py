"""A stack with what layers take the host of another run: the one in which steps were measured. No torch here.

Hosts of one kind differ by half from hour to hour, and a step that waits for its host with them. So a proof of such steps
states before how layers follow from small models, and measures these between the steps; kernels are the stack's.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hwprofiles.calibration.command import Parser
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.machine import host_fit
from hwprofiles.hosts.torch_model import WAY
from hwprofiles.problem import Problem
from hwprofiles.yaml_text import as_yaml

TABLE: Final = "host.csv"
PARAMETERS: Final = "host_parameters.yaml"
WHERE: Final = (
    "small models beside measured steps (python -m hwprofiles.calibration.proof), the rest as the stack has it"
)
STACKS: Final = Path(__file__).parents[2] / "stacks"


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises CalibrationError."""
    parser = Parser(
        prog="python -m hwprofiles.calibration.proof stack",
        description="Copies a stack with the small models of a proof's host.csv in place of its own.",
    )
    parser.add_argument("stack", help="a shipped calibration's name, or a calibration folder")
    parser.add_argument("host", type=Path, metavar="HOST.csv", help="what a proof that looks at its host wrote")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a new folder")
    given = parser.parse_args(arguments)
    write(given.stack, given.host, given.out)
    return 0


def write(stack: str, rows: Path, folder: Path) -> None:
    """Raises CalibrationError: no calibration, a table without small models, a folder that is there."""
    source = Path(stack) if Path(stack).is_dir() else STACKS / stack
    if not (source / TABLE).is_file():
        raise _wrong(stack, f"has no {TABLE}: no calibration; moesim calibrate -o makes one")
    given = [row for row in _read(rows) if row.get("call") == WAY]
    if not given:
        raise _wrong(str(rows), f"has no small models (call {WAY}); give the {TABLE} of a proof that looks at its host")
    if folder.exists():
        raise _wrong(str(folder), "is there already; give a new folder")
    shutil.copytree(source, folder)
    kept = [row for row in _read(source / TABLE) if row["call"] != WAY]
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*kept, *given])
    found = host_fit.parameters([*kept, *given], WHERE, "")
    text = {name: parameter.model_dump(mode="json") for name, parameter in found.items()}
    (folder / PARAMETERS).write_text(as_yaml(text, f"Fitted to {TABLE}."), encoding="utf-8")


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        raise _wrong(str(path), f"cannot be read: {wrong}") from None


def _wrong(where: str, text: str) -> CalibrationError:
    return CalibrationError([Problem(where, "", text)])
