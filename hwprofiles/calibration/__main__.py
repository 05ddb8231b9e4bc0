"""`python -m hwprofiles.calibration`: the commands that need no more than torch, numpy and the catalogue."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hwprofiles.calibration.calibrate import cli, compare, refit, renew
from hwprofiles.calibration.errors import EXIT_BAD_INPUT

COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    "calibrate": cli.main,
    "compare": compare.main,
    "refit": refit.main,
    "renew": renew.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or [""]
    if name not in COMMANDS:
        print(
            f"usage: python -m hwprofiles.calibration {{{','.join(COMMANDS)}}} …; --help of each tells its options",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    return COMMANDS[name](rest)


if __name__ == "__main__":
    sys.exit(main())
