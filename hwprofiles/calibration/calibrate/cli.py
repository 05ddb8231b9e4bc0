"""`calibrate` as a command: what it takes, what it refuses, what it prints."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.command import Parser
from hwprofiles.calibration.errors import EXIT_BAD_INPUT, CalibrationError
from hwprofiles.calibration.extra import require_torch
from hwprofiles.catalog import list_names
from hwprofiles.names import nearest
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError

INTERRUPTED: Final = 130
FAILED: Final = 1
NAME: Final = "calibrate"


@dataclass(frozen=True)
class Asked:
    """The command's options. parts: (): all; limit_s: of the measuring, None: as the size says; repeat_of: another folder."""

    out: Path
    quick: bool = False
    device: str = "cuda"
    gpu: str | None = None
    parts: tuple[str, ...] = ()
    force: bool = False
    as_json: bool = False
    limit_s: float | None = None
    repeat_of: Path | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m hwprofiles.calibration calibrate`; the exit code."""
    return _guarded(partial(_parsed, arguments))


def calibrate(asked: Asked) -> int:
    """Measures, writes the folder and prints the summary. Exit code 0; 1 a full disk or a lost device; 2 bad input; 130."""
    return _guarded(lambda: asked)


def _parsed(arguments: Sequence[str] | None) -> Asked:
    parser = Parser(prog="calibrate", description="Measures this GPU and writes a stack folder.")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="few kernels, under a minute: a rehearsal")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--gpu", metavar="NAME", help="the catalogue's GPU, where the device's name does not tell")
    parser.add_argument("--part", action="append", default=[], metavar="PART", help="this alone; may be repeated")
    parser.add_argument("--force", action="store_true", help="measure a finished folder anew")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="of measuring; a later call goes on")
    parser.add_argument(
        "--repeat-of", type=Path, metavar="DIR", help="an earlier calibration, which it is compared with"
    )
    parser.add_argument("--json", action="store_true", help="the summary as one JSON document")
    given = parser.parse_args(arguments)
    return Asked(
        given.out, given.quick, given.device, given.gpu, tuple(given.part), given.force, given.json, given.limit,
        given.repeat_of,
    )  # fmt: skip


def _guarded(asked: Any) -> int:
    """The exit code; problems on standard error, a line each."""
    try:
        return _calibrate(asked())
    except CalibrationError as wrong:
        for line in str(wrong).splitlines():
            print(f"{NAME}: {line}", file=sys.stderr)
        return int(getattr(wrong, "exit_code", EXIT_BAD_INPUT))
    except CatalogError as wrong:
        print(f"{NAME}: {wrong}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED


def _calibrate(asked: Asked) -> int:
    require_torch()
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    import torch

    from hwprofiles.calibration.calibrate import compare, facts, folder, session, summary
    from hwprofiles.calibration.calibrate.harness import DeviceLost
    from hwprofiles.calibration.calibrate.parts import NAMES

    _check(asked, NAMES, torch.cuda.is_available())
    if asked.repeat_of:
        compare.seconds_by_call(asked.repeat_of)  # before the minutes of measuring
    device = torch.device("cuda", torch.cuda.current_device()) if asked.device == "cuda" else torch.device("cpu")
    size: Any = "cpu" if asked.device == "cpu" else "quick" if asked.quick else "full"
    torch.manual_seed(0)
    parts = asked.parts or NAMES
    found = facts.gather(device, size, parts)
    work, begun = folder.prepare(asked.out, found, time.strftime("%Y-%m-%d"), force=asked.force)
    plan = session.Plan(device, size, parts, found, begun["date"], asked.gpu, asked.limit_s)
    try:
        outcome = session.Session(plan, work).run()
    except DeviceLost as lost:
        print(
            f"{NAME}: the device failed at {lost}; what was measured is kept, the same command goes on", file=sys.stderr
        )
        return FAILED
    if work != asked.out:
        folder.take_over(asked.out)
    told = {**summary.document(outcome), "folder": str(asked.out)}
    wrong: CalibrationError | None = None
    if asked.repeat_of:
        try:
            told["repeat"] = compare.compared(asked.repeat_of, asked.out)
        except CalibrationError as nothing_in_common:
            wrong = nothing_in_common
    print(json.dumps(told, indent=2) if asked.as_json else "\n".join(summary.lines(told)))
    if wrong:
        raise wrong
    return 0


def _check(asked: Asked, parts: Sequence[str], has_gpu: bool) -> None:
    """Raises CalibrationError with every problem of the options."""
    from hwprofiles.calibration.calibrate import folder

    problems = [
        Problem("", "--part", f"no part is called {name!a}{nearest(name, parts)}")
        for name in asked.parts
        if name not in parts
    ]
    if asked.gpu is not None and asked.gpu not in list_names("gpus"):
        problems.append(Problem("", "--gpu", f"no GPU is called {asked.gpu!a}{nearest(asked.gpu, list_names('gpus'))}"))
    if asked.gpu is not None and asked.device == "cpu":
        problems.append(Problem("", "--gpu", "a processor is no GPU of the catalogue; leave it out with --device cpu"))
    if asked.device not in ("cuda", "cpu"):
        problems.append(Problem("", "--device", f"{asked.device!a}; allowed cuda, cpu"))
    if asked.limit_s is not None and not 0.0 < asked.limit_s < math.inf:
        problems.append(Problem("", "--limit", f"{asked.limit_s:g} is no time; give seconds above 0"))
    if asked.repeat_of is not None and not (asked.repeat_of / folder.POINTS).is_file():
        problems.append(Problem("", "--repeat-of", f"{str(asked.repeat_of)!r} is no calibration folder"))
    if asked.device == "cuda" and not has_gpu:
        text = "torch finds no GPU; run this on a machine with one, or rehearse with --device cpu"
        problems.append(Problem("", "--device", text))
    if problems:
        raise CalibrationError(problems)
