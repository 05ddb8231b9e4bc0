"""Options of `python -m hwprofiles.calibration.proof`. torch is imported when work begins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hwprofiles.calibration.command import Parser, check_output, guarded
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.extra import require_torch


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 2 for input or a device that cannot be."""
    return guarded("proof", partial(_main, list(sys.argv[1:] if arguments is None else arguments)))


def _main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["profile"]:
        return _profile(arguments[1:])
    raise CalibrationError("give a command: profile; --help lists its options")


def _profile(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.proof profile",
        description="Lists the kernels of some layers and of a training step, with their times.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--device", default="cuda", help="a device of torch: cuda (default), cpu")
    given = parser.parse_args(arguments)
    check_output(given.out)
    require_torch("__main__")
    from hwprofiles.calibration.numerics.device import named_device
    from hwprofiles.calibration.proof.profile import profile_all

    return profile_all(named_device(given.device), given.out, lambda text: print(text, file=sys.stderr, flush=True))
