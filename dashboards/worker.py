"""A worker process: takes work from standard input and answers on standard output, until its input ends.

Messages are pickles between this process and the one that started it; what users send is text inside them and is read by
the same loaders as everywhere. Whatever the work prints goes to standard error.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from dashboards.progress import Dropped, listen
from simulator.errors import MoesimError, Problem

MAX_RESIDENT_BYTES: Final = 370_000_000
"""A worker that holds more after a task makes way for a new one: what was loaded for one page is not kept for ever."""


@dataclass(frozen=True, slots=True)
class Task:
    """Work to do. number: of the task; function: "module:name"."""

    number: int
    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Stop a task at its next report of progress."""

    number: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why work has no value, for people. is_input: what was asked for is at fault, so that asking again does not help."""

    problems: tuple[Problem, ...]
    is_input: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of a task: progress (fraction, words), done (a pickle of the value), failed or dropped.

    leaves: the worker has grown large and takes no other task.
    """

    number: int
    kind: Literal["progress", "done", "failed", "dropped"]
    value: Any = None
    leaves: bool = False


def failure_of(error: Exception) -> Failure:
    """What people are told of an exception."""
    problems = getattr(error, "problems", None)
    if problems:
        return Failure(tuple(problems), is_input=True)
    if isinstance(error, MoesimError):
        return Failure((Problem("", "", str(error)),), is_input=True)
    first = (str(error).splitlines() or [""])[0]
    return Failure((Problem("", "", f"failed: {type(error).__name__}: {first[:300]}"),), is_input=False)


def function_of(name: str) -> Callable[..., Any]:
    """The module-level function that "module:name" stands for."""
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def resident_bytes() -> int:
    """Memory of this process now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class _Worker:
    """The process's two ends: `inbox` filled by a thread that reads, answers written under a lock."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.source, self.sink = source, sink
        self.inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.dropped: set[int] = set()
        self.lock = threading.Lock()

    def read(self) -> None:
        """Fill the inbox until the other side is gone; then leave at once, whatever runs."""
        try:
            while True:
                message = pickle.load(self.source)  # noqa: S301
                if isinstance(message, Drop):
                    self.dropped.add(message.number)
                else:
                    self.inbox.put(message)
        except (EOFError, OSError):
            os._exit(0)

    def say(self, report: Report) -> None:
        with self.lock:
            pickle.dump(report, self.sink, protocol=pickle.HIGHEST_PROTOCOL)
            self.sink.flush()

    def do(self, task: Task) -> None:
        """Do one task and say how it ended."""

        def progress(fraction: float, words: str) -> None:
            if task.number in self.dropped:
                raise Dropped
            self.say(Report(task.number, "progress", (fraction, words)))

        listen(progress)
        try:
            value = function_of(task.function)(*task.arguments)
            ended = Report(task.number, "done", pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
        except Dropped:
            ended = Report(task.number, "dropped")
        except Exception as error:
            if not isinstance(error, MoesimError):
                traceback.print_exc()
            ended = Report(task.number, "failed", failure_of(error))
        self.dropped.discard(task.number)
        self.say(replace(ended, leaves=resident_bytes() > MAX_RESIDENT_BYTES))


def main() -> None:
    """Serve tasks until standard input ends. An interrupt of the terminal is the server's to answer; pages go before work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(5)
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = _Worker(sys.stdin.buffer, sink)
    threading.Thread(target=worker.read, daemon=True).start()
    while True:
        worker.do(worker.inbox.get())


if __name__ == "__main__":
    # Not the functions of __main__: pickles name the module that the server imports.
    from dashboards.worker import main as serve

    serve()
