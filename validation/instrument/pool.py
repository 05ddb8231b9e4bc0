"""Rows predicted in several processes: the file's order, and the same bytes however many processes there are."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Final

from validation.instrument.outcome import Outcome
from validation.instrument.prediction import FAILED, outcome, skipped
from validation.published.row import Row

Predict = Callable[[Row], Outcome]
Progress = Callable[[int], None]

MAX_PROCESSES: Final = 2
FEW_ROWS: Final = 8
"""Rows that are predicted sooner in this process than others start."""
DIED: Final = f"{FAILED}: the process that predicted it ended (out of memory, perhaps)"


def outcomes(
    rows: Sequence[Row], predict: Predict = outcome, processes: int | None = None, progress: Progress = lambda _: None
) -> list[Outcome]:
    """Every row's outcome, in the order given. progress: told how many rows are done, now and then.

    processes: default as many as there are processors, at most MAX_PROCESSES, and this one alone for few rows. Rows that
    take long start first. An interrupt ends the processes too. Where a process dies, the rows that it leaves open are
    predicted one after another in a new one, and a row that kills it is skipped.
    """
    wanted = processes or (min(MAX_PROCESSES, os.cpu_count() or 1) if len(rows) >= FEW_ROWS else 1)
    if wanted == 1:
        done = []
        for row in rows:
            done.append(predict(row))
            progress(len(done))
        return done
    found: dict[int, Outcome] = {}
    others = multiprocessing.active_children()
    with _pool(wanted) as pool:
        with _interrupts_held_back():
            futures = {place: pool.submit(predict, rows[place]) for place in longest_first(rows)}
        try:
            for place, future in futures.items():
                with suppress(BrokenProcessPool):
                    found[place] = future.result()
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


def longest_first(rows: Sequence[Row]) -> list[int]:
    """Places of the rows, those with the most actions a step first: stages times micro-batches of a replica."""

    def actions(place: int) -> float:
        row = rows[place]
        micro_batches = (row.number("gbs") or 1.0) / (row.number("dp") or 1.0) / (row.number("mbs") or 1.0)
        return micro_batches * (row.number("pp") or 1.0) * (row.number("vpp") or 1.0)

    return sorted(range(len(rows)), key=lambda place: (-actions(place), place))


def _pool(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_collect_seldom)


def _collect_seldom() -> None:
    """What the modules hold stays, and a row's objects are few beside it: looking through them often costs a sixth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
