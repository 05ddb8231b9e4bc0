"""Worker processes and who is served first.

Quick first answers go before refinements, which never hold all workers; sessions take turns; what no page waits for any
more is dropped, from the queue at once and from a worker at its next report of progress where others wait. A worker that
dies is replaced, and its job fails with words. Results are kept, the least recently asked for leave first.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import dashboards
from dashboards.worker import Drop, Failure, Report, Task
from simulator.errors import Problem

State = Literal["queued", "running", "done", "failed", "dropped"]

NUM_WORKERS: Final = 2
MAX_KEPT: Final = 256
MAX_KEPT_BYTES: Final = 100_000_000
MAX_QUEUED: Final = 500
MAX_SESSIONS: Final = 1_000
LONGEST_S: Final = 600.0
"""Work that takes longer is ended: something is wrong with it."""
ENDING_S: Final = 5.0


@dataclass
class Job:
    """Work that is queued, running or ended. Only the pool writes it; `done` is set when it has ended in any way.

    asked: session → the number of its script run that asked last; arguments and asked are empty once the job is over.
    later: a refinement, which first answers go before.
    """

    key: str
    function: str
    arguments: tuple[Any, ...]
    later: bool
    number: int
    state: State = "queued"
    progress: float = 0.0
    words: str = ""
    value: Any = None
    error: Failure | None = None
    size: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "dropped")

    def wait(self, seconds: float) -> bool:
        """Wait until the job has ended, at most so long; whether it has."""
        return self.done.wait(seconds)


class Jobs(Protocol):
    """What pages need of a pool. jobs: by key, what was asked for and is still kept."""

    @property
    def jobs(self) -> Mapping[str, Job]: ...
    def ask(self, key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job: ...
    def new_run(self, session: str) -> None: ...
    def end_run(self, session: str) -> None: ...
    def forget(self, job: Job) -> None: ...
    def close(self) -> None: ...


class Pool:
    """So many worker processes, a thread each that talks to it. warm: work that every new process does first."""

    def __init__(self, num_workers: int = NUM_WORKERS, warm: str | None = None) -> None:
        self.changed = threading.Condition()
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.runs: OrderedDict[str, int] = OrderedDict()
        self.ended: dict[str, int] = {}
        self.served: dict[str, int] = {}
        self.number = count()
        self.is_closed = False
        self.warm = warm
        self.slots = [_Slot(self) for _ in range(num_workers)]
        for slot in self.slots:
            slot.thread.start()

    def ask(self, key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job:
        """The job of this key, made and queued where there is none that is still good."""
        with self.changed:
            job = self.jobs.get(key)
            if job is None or job.state == "dropped":
                job = self.jobs[key] = Job(key, function, arguments, later, next(self.number))
                self._bound_queue()
            run = self.runs.setdefault(session, 0)
            if not job.is_over:
                job.later = job.later and later
                job.asked[session] = run
            self.jobs.move_to_end(key)
            self._drop_unwanted_work()
            self.changed.notify_all()
            return job

    def new_run(self, session: str) -> None:
        """A session begins to show a page anew: what it asks for from now on goes before what it asked for earlier."""
        with self.changed:
            self.runs[session] = self.runs.get(session, 0) + 1
            self.runs.move_to_end(session)
            while len(self.runs) > MAX_SESSIONS:
                gone, _ = self.runs.popitem(last=False)
                self.served.pop(gone, None)
                self.ended.pop(gone, None)

    def end_run(self, session: str) -> None:
        """A session has shown its page: what it asked for earlier and has not asked for again is not wanted any more."""
        with self.changed:
            self.ended[session] = self.runs.get(session, 0)
            self._drop_unwanted_work()

    def forget(self, job: Job) -> None:
        """Let the next request for an ended job do its work again."""
        with self.changed:
            if job.is_over and self.jobs.get(job.key) is job:
                del self.jobs[job.key]

    def close(self) -> None:
        """End the processes; nothing can be asked any more."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
        for slot in self.slots:
            slot.kill()
            slot.thread.join(ENDING_S)

    # What the threads of the workers call

    def next_job(self, slot: _Slot | None = None) -> Job | None:
        """Wait for work and take it, for a slot that is busy with it from then on; None where the pool is closed."""
        with self.changed:
            while not self.is_closed:
                job = self._choose()
                if job is not None:
                    job.state, job.words = "running", ""
                    if slot is not None:
                        slot.job = job
                    for session in job.asked:
                        self.served[session] = next(self.number)
                    return job
                self.changed.wait()
            return None

    def end(self, job: Job, state: State, value: Any = None, error: Failure | None = None, size: int = 0) -> None:
        """Note how a job ended, and let go of what it no longer needs and of the results that were not asked for longest."""
        with self.changed:
            job.value, job.error, job.size, job.state = value, error, size, state
            job.arguments, job.asked = (), {}
            job.progress = 1.0 if state == "done" else job.progress
            job.done.set()
            ended = [each for each in self.jobs.values() if each.is_over]
            total = sum(each.size for each in ended)
            for each in ended:
                if len(ended) <= MAX_KEPT and total <= MAX_KEPT_BYTES:
                    break
                if each is not job:
                    del self.jobs[each.key]
                    total -= each.size
                    ended = ended[1:]
            self.changed.notify_all()

    # Inside the lock

    def _is_wanted(self, job: Job) -> bool:
        return any(run >= self.ended.get(session, 0) for session, run in job.asked.items())

    def _is_current(self, job: Job) -> bool:
        return any(run == self.runs.get(session, 0) for session, run in job.asked.items())

    def _choose(self) -> Job | None:
        """The job to do next: of a page that is shown now, a first answer before a refinement, of the session that was
        served longest ago.
        """
        queued = [job for job in self.jobs.values() if job.state == "queued"]
        for job in queued:
            if not self._is_wanted(job):
                self._drop(job)
        may_refine = sum(slot.is_refining for slot in self.slots) < max(1, len(self.slots) - 1)
        choice = [job for job in queued if job.state == "queued" and (may_refine or not job.later)]
        return min(choice, key=self._rank, default=None)

    def _rank(self, job: Job) -> tuple[bool, bool, int, int]:
        served = min(self.served.get(session, -1) for session in job.asked)
        return not self._is_current(job), job.later, served, job.number

    def _drop(self, job: Job) -> None:
        job.state = "dropped"
        job.done.set()
        if self.jobs.get(job.key) is job:
            del self.jobs[job.key]

    def _drop_unwanted_work(self) -> None:
        """Where no worker is free, stop what nobody waits for any more."""
        if all(slot.job is not None for slot in self.slots):
            for slot in self.slots:
                if slot.job is not None and not self._is_wanted(slot.job):
                    slot.drop(slot.job)

    def _bound_queue(self) -> None:
        queued = [job for job in self.jobs.values() if job.state == "queued"]
        for job in queued[: max(0, len(queued) - MAX_QUEUED)]:
            self._drop(job)


class _Slot:
    """One worker process, and the thread that gives it work and listens to it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.job: Job | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def is_refining(self) -> bool:
        return self.job is not None and self.job.later

    def _serve(self) -> None:
        if self.pool.warm is not None:
            self._do(Job("", self.pool.warm, (), False, -1))
        while (job := self.pool.next_job(self)) is not None:
            try:
                self._do(job)
            finally:
                self.job = None
        self._discard()

    def _do(self, job: Job) -> None:
        """Have the process do a job. Where it dies the job fails, and the next one finds a new process."""
        timer = threading.Timer(LONGEST_S, self.kill)
        timer.daemon = True
        timer.start()
        try:
            process = self._alive()
            _send(process, Task(job.number, job.function, job.arguments))
            while not self._heard(job, process):
                pass
        except Exception:  # whatever it was: this thread goes on, with a new process
            self._discard()
            text = "the process that computed this ended before it was done (killed, or out of memory); ask again"
            self.pool.end(job, "failed", error=Failure((Problem("", "", text),), is_input=False))
        finally:
            timer.cancel()

    def _heard(self, job: Job, process: subprocess.Popen[bytes]) -> bool:
        """Take one message; whether it ended the job. Raises EOFError where the process is gone."""
        assert process.stdout is not None
        report: Report = pickle.load(process.stdout)  # noqa: S301
        if report.kind == "progress":
            job.progress, job.words = report.value
            return False
        if report.leaves:
            self._discard()
        if report.kind == "done":
            self.pool.end(job, "done", value=pickle.loads(report.value), size=len(report.value))  # noqa: S301
        elif report.kind == "failed":
            self.pool.end(job, "failed", error=report.value)
        else:
            self.pool.end(job, "dropped")
        return True

    def _alive(self) -> subprocess.Popen[bytes]:
        """The process, started where there is none or where it died. Raises EOFError where the pool is closed."""
        if self.process is not None and self.process.poll() is not None:
            self._discard()
        if self.pool.is_closed:
            raise EOFError
        if self.process is None:
            self.process = _start()
        return self.process

    def drop(self, job: Job) -> None:
        """Ask the process to leave a job at its next report of progress."""
        if self.process is not None and self.job is job:
            with suppress(OSError, ValueError):  # it may be gone, which its thread finds out
                _send(self.process, Drop(job.number))

    def kill(self) -> None:
        """End the process; its thread takes care of what it was doing."""
        if self.process is not None:
            self.process.kill()

    def _discard(self) -> None:
        """End the process and let go of its pipes: for this slot's own thread, which alone reads them."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()


def _send(process: subprocess.Popen[bytes], message: Task | Drop) -> None:
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))
    process.stdin.flush()


def _start() -> subprocess.Popen[bytes]:
    """A new worker: this interpreter and this package, nothing from the current folder, one thread for linear algebra."""
    root = str(Path(dashboards.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    # One heap: by default glibc gives threads heaps of their own, and each keeps its largest size (60 MB more a worker).
    environment = {**os.environ, **threads, "MALLOC_ARENA_MAX": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", "-m", "dashboards.worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)  # noqa: S603
