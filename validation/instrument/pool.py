"""Rows predicted in several processes: the file's order, and the same bytes however many processes there are."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Final

from validation.instrument.outcome import Outcome
from validation.instrument.prediction import FAILED, outcome, skipped
from validation.instrument.recorded import COLUMNS
from validation.published.row import Row
from validation.published.state import OWN_KEYS

Predict = Callable[[Row], Outcome]
Progress = Callable[[int], None]

MAX_PROCESSES: Final = 2
FEW_ROWS: Final = 8
"""Rows that are predicted sooner in this process than others start."""
MANY: Final = 12
"""Rows of a task at most."""
ROW_ACTIONS: Final = 300.0
"""Actions that take as long as what a row takes whatever it runs."""
DIED: Final = f"{FAILED}: the process that predicted it ended (out of memory, perhaps)"


def outcomes(
    rows: Sequence[Row], predict: Predict = outcome, processes: int | None = None, progress: Progress = lambda _: None
) -> list[Outcome]:
    """Every row's outcome, in the order given. progress: told how many rows are done, now and then.

    processes: default as many as there are processors, at most MAX_PROCESSES, and this one alone for few rows. Rows that are
    alike go to one process together (`tasks`). An interrupt ends the processes too. Where a process dies, the rows that it
    leaves open are predicted one after another in a new one, and a row that kills it is skipped.
    """
    wanted = processes or (min(MAX_PROCESSES, os.cpu_count() or 1) if len(rows) >= FEW_ROWS else 1)
    if wanted == 1:
        alone: dict[int, Outcome] = {}
        for place in (place for task in tasks(rows) for place in task):
            alone[place] = predict(rows[place])
            progress(len(alone))
        return [alone[place] for place in range(len(rows))]
    found: dict[int, Outcome] = {}
    others = multiprocessing.active_children()
    with _pool(wanted) as pool:
        with _interrupts_held_back():
            futures = [(task, pool.submit(_all_of, predict, [rows[place] for place in task])) for task in tasks(rows)]
        try:
            for task, future in futures:
                with suppress(BrokenProcessPool):
                    for place, each in zip(task, future.result(), strict=True):
                        found[place] = each
                        progress(len(found))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in [each for each in multiprocessing.active_children() if each not in others]:
                process.terminate()
                process.join()
            raise
    while len(found) < len(rows):
        found |= _one_by_one(rows, [place for place in range(len(rows)) if place not in found], predict)
    return [found[place] for place in range(len(rows))]


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes that start inside never get an interrupt of the terminal, which would end each with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _one_by_one(rows: Sequence[Row], places: Sequence[int], predict: Predict) -> dict[int, Outcome]:
    """Outcomes of rows in one other process, up to the row that kills it."""
    found: dict[int, Outcome] = {}
    with _pool(1) as pool:
        for place in places:
            try:
                found[place] = pool.submit(predict, rows[place]).result()
            except BrokenProcessPool:
                found[place] = skipped(rows[place], DIED)
                break
    return found


def tasks(rows: Sequence[Row]) -> list[list[int]]:
    """Places of the rows, in tasks of one process each, those that take longest first.

    Rows of a task have the same order of actions, which is worked out once, and those that record the same stand behind one
    another, so that a run that several rows are of is predicted once (`prediction.simulated`).
    """
    families: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(rows):
        families.setdefault((row.text("schedule"), row.count("pp"), row.count("vpp"), _micro_batches(row)), []).append(
            place
        )
    found = []
    for places in families.values():
        alike = sorted(places, key=lambda place: ([rows[place].text(column) for column in (*COLUMNS, OWN_KEYS)], place))
        found += [alike[start : start + MANY] for start in range(0, len(alike), MANY)]
    return sorted(found, key=lambda task: (-sum(ROW_ACTIONS + _actions(rows[place]) for place in task), task))


def _micro_batches(row: Row) -> float:
    """Of a replica."""
    return (row.number("gbs") or 1.0) / (row.number("dp") or 1.0) / (row.number("mbs") or 1.0)


def _actions(row: Row) -> float:
    """Of a step: stages times micro-batches."""
    return _micro_batches(row) * (row.number("pp") or 1.0) * (row.number("vpp") or 1.0)


def _all_of(predict: Predict, rows: Sequence[Row]) -> list[Outcome]:
    return [predict(row) for row in rows]


def _pool(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)


def _begin() -> None:
    """What a process of the pool does before its first task."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _collect_seldom()


def _end_with_parent() -> None:
    """A parent that was killed tells its processes nothing: they would work on for minutes, for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _collect_seldom() -> None:
    """What the modules hold stays, and a row's objects are few beside it: looking through them often costs a sixth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
