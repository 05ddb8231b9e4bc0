"""Every error that a user can meet.

MoesimError                     exit 1  failed at run time
├── InputError                  exit 2  bad input: all problems together, nothing written
└── InconsistentSimulation      exit 3  deadlock, or a conservation law broken
"""

from __future__ import annotations

from collections.abc import Iterable

from hwprofiles.problem import Problem

__all__ = ["InconsistentSimulation", "InputError", "MoesimError", "Problem"]

MAX_SHOWN_PROBLEMS = 9


class MoesimError(Exception):
    """The base of moesim's errors; the message is for the user."""

    exit_code = 1


class InputError(MoesimError):
    """Bad input. Prints at most nine problems, one a line, then "and N more"."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = (Problem("", "", problems),)
        self.problems = tuple(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN_PROBLEMS]]
        rest = len(self.problems) - MAX_SHOWN_PROBLEMS
        return "\n".join(lines + ([f"and {rest} more"] if rest > 0 else []))


class InconsistentSimulation(MoesimError):
    """The simulation contradicts itself: a deadlock (the message holds the wait-for cycle) or a broken conservation law."""

    exit_code = 3
