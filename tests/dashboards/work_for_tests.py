"""Work for the worker processes of the tests. Files say when to go on and what was done."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from dashboards.progress import report_progress
from simulator.errors import InputError, Problem


def count(folder: str, name: str) -> str:
    """Note in a file that the work was done."""
    with (Path(folder) / "done").open("a") as file:
        file.write(f"{name}\n")
    return name


def wait_for(folder: str, name: str) -> str:
    """Report progress until a file of this name is there."""
    for round_number in range(2_000):
        report_progress(0.5, f"round {round_number}")
        if (Path(folder) / name).exists():
            return name
        time.sleep(0.01)
    raise TimeoutError(name)


def refuse() -> None:
    raise InputError([Problem("", "parallel.pp", "is too small (0); allowed at least 1")])


def divide(by: int) -> float:
    return 1 / by


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def print_and_return(text: str) -> str:
    print(text)
    return text


def unpicklable() -> object:
    return lambda: None


_held: list[bytes] = []


def hold(size: int) -> int:
    """Keep so many bytes; the process that does."""
    _held.append(b"x" * size)
    return os.getpid()
