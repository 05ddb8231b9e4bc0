"""Options of `python -m hwprofiles.calibration.proof`. torch is imported when work begins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import get_args

from hwprofiles.calibration.command import Parser, check_output, guarded
from hwprofiles.calibration.extra import require_torch
from hwprofiles.calibration.proof import own_host
from hwprofiles.proof_cases.sets import FIRST, SETS
from hwprofiles.proof_cases.sizes import OWN, Products


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 2 for input or a device that cannot be."""
    return guarded("proof", partial(_main, list(sys.argv[1:] if arguments is None else arguments)))


def _main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["profile"]:
        return _profile(arguments[1:])
    if arguments[:1] == ["stack"]:
        return own_host.main(arguments[1:])
    parser = Parser(
        prog="python -m hwprofiles.calibration.proof",
        description="Measures layers and training steps of the torch model on one GPU. profile -o FILE.csv: lists kernels; "
        "stack STACK HOST.csv -o DIR: a stack with the host of a proof.",
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="layers.csv, steps.csv; a run goes on there"
    )
    parser.add_argument("--quick", action="store_true", help="a few layers and steps, about a minute")
    parser.add_argument(
        "--cases",
        default=FIRST,
        choices=tuple(SETS),
        help="which proof's: " + "; ".join(f"{k}: {v.what}" for k, v in SETS.items()),
    )
    parser.add_argument(
        "--products", default=None, choices=get_args(Products), help=f"of recipe {OWN} alone, whose products run it: the "
        "GPU's library's, or this project's kernels (default: all recipes, as the set of cases has them)",
    )  # fmt: skip
    parser.add_argument("--device", default="cuda", help="a device of torch: cuda (default), cpu for a rehearsal")
    parser.add_argument("--seconds", type=float, default=None, help="behind which no case is begun (default 470)")
    given = parser.parse_args(arguments)
    if given.seconds is not None and not 0 < given.seconds < inf:
        parser.error(f"--seconds {given.seconds:g}: must be above 0")
    require_torch("__main__")
    from hwprofiles.calibration.numerics.device import cpu_or_gpu
    from hwprofiles.calibration.proof.run import BUDGET_S, run

    device = cpu_or_gpu(given.device)
    size = "cpu" if device.type == "cpu" else "quick" if given.quick else given.cases
    seconds = BUDGET_S if given.seconds is None else given.seconds
    return run(given.out, device, size, _say, seconds, given.products)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    from hwprofiles.calibration.numerics.device import cpu_or_gpu
    from hwprofiles.calibration.proof.profile import profile_all

    return profile_all(cpu_or_gpu(given.device), given.out, _say)
