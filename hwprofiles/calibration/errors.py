"""What is wrong with what somebody asked of the calibration's tools: one line a problem, and exit code 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hwprofiles.problem import Problem

EXIT_BAD_INPUT: Final = 2
EXIT_UNWRITTEN: Final = 1
INSTALL: Final = "pip install 'moesim[calibrate]'; for a machine without a GPU first pip install torch==2.13.0"


class CalibrationError(Exception):
    """Input or a device that cannot be; `problems` names field, value and remedy of each."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem("", "", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class UnwrittenError(CalibrationError):
    """A file that cannot be written, of a full disk for one: what was measured until then is kept. Nobody's input is wrong."""

    exit_code = EXIT_UNWRITTEN


class MissingExtra(CalibrationError, ImportError):
    """torch is not installed; the message names the extra that brings it."""


def refuse(problems: Sequence[Problem]) -> None:
    """Raises CalibrationError where there is a problem."""
    if problems:
        raise CalibrationError(problems)
