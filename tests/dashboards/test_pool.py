"""Who is served first, what is shared, dropped and kept; and what real processes do when work fails or they die."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboards import jobs, pool
from dashboards.pool import Job, Pool
from dashboards.source import Source
from dashboards.worker import MAX_RESIDENT_BYTES
from tests.dashboards import work_for_tests as work

LONG_S = 30.0


@pytest.fixture
def queue() -> Pool:
    """A pool without processes: the tests take the jobs themselves."""
    return Pool(num_workers=0)


def ask(queue: Pool, name: str, session: str = "a", later: bool = False) -> Job:
    return queue.ask(name, "module:function", (), later, session)


def take(queue: Pool) -> str:
    job = queue.next_job()
    assert job is not None
    queue.end(job, "done", value=job.key, size=1)
    return job.key


def test_the_same_request_is_one_job(queue: Pool) -> None:
    assert ask(queue, "x", "a") is ask(queue, "x", "b")
    assert take(queue) == "x"
    assert ask(queue, "x", "c").value == "x"


def test_first_answers_go_before_refinements(queue: Pool) -> None:
    ask(queue, "refined", later=True)
    ask(queue, "first", "b")
    assert [take(queue), take(queue)] == ["first", "refined"]


def test_a_refinement_that_is_asked_for_as_a_first_answer_is_one(queue: Pool) -> None:
    ask(queue, "x", later=True)
    ask(queue, "y", "b", later=True)
    ask(queue, "y", "c")
    assert [take(queue), take(queue)] == ["y", "x"]


def test_sessions_take_turns(queue: Pool) -> None:
    for name in ("a1", "a2", "a3"):
        ask(queue, name, "a")
    for name in ("b1", "b2"):
        ask(queue, name, "b")
    assert [take(queue) for _ in range(5)] == ["a1", "b1", "a2", "b2", "a3"]


def test_shared_work_goes_when_the_one_who_waits_longest_would(queue: Pool) -> None:
    """a was served, b never: what both wait for is not behind what c, served before a, asks for."""
    for name, session in (("c1", "c"), ("a1", "a")):
        ask(queue, name, session)
        take(queue)
    ask(queue, "c2", "c")
    ask(queue, "shared", "a")
    ask(queue, "shared", "b")
    assert [take(queue), take(queue)] == ["shared", "c2"]


def test_what_a_session_does_not_ask_again_is_dropped(queue: Pool) -> None:
    old = ask(queue, "old")
    shared = ask(queue, "shared")
    ask(queue, "shared", "b")
    queue.new_run("a")
    ask(queue, "new")
    queue.end_run("a")
    assert {take(queue), take(queue)} == {"shared", "new"}
    assert old.state == "dropped" and old.done.is_set()
    assert shared.state == "done"
    assert ask(queue, "old") is not old


def test_what_is_asked_again_stays(queue: Pool) -> None:
    job = ask(queue, "x")
    queue.new_run("a")
    assert ask(queue, "x") is job
    queue.end_run("a")
    assert take(queue) == "x"


def test_a_page_that_is_being_made_loses_nothing_and_its_newest_request_goes_first(queue: Pool) -> None:
    job = ask(queue, "again")
    ask(queue, "other", "b")
    queue.new_run("a")
    assert take(queue) == "other"
    assert job.state == "queued"
    ask(queue, "new")
    assert take(queue) == "new"
    assert ask(queue, "again") is job
    queue.end_run("a")
    assert take(queue) == "again"


def test_results_are_bounded_by_number_and_bytes(queue: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_KEPT", 3)
    monkeypatch.setattr(pool, "MAX_KEPT_BYTES", 100)
    for name in "vwxyz":
        ask(queue, name)
        take(queue)
    assert list(queue.jobs) == ["x", "y", "z"]
    ask(queue, "x")
    ask(queue, "large")
    job = queue.next_job()
    assert job is not None
    queue.end(job, "done", size=99)
    assert list(queue.jobs) == ["x", "large"]


def test_the_queue_is_bounded(queue: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_QUEUED", 3)
    first = ask(queue, "0")
    for number in range(1, 5):
        ask(queue, str(number))
    assert first.state == "dropped"
    assert len(queue.jobs) == 3


def test_what_is_over_keeps_its_value_alone(queue: Pool) -> None:
    """A server that runs for weeks keeps neither long arguments nor a name of every tab that ever asked."""
    job = queue.ask("x", "module:function", ("a long document",), False, "a")
    assert take(queue) == "x"
    assert ask(queue, "x", "b") is job
    assert (job.value, job.arguments, job.asked) == ("x", (), {})


def test_a_worker_that_takes_a_refinement_is_busy_with_it_at_once(queue: Pool) -> None:
    """Else two of them could each take one before either is seen to."""
    queue.slots = [pool._Slot(queue), pool._Slot(queue)]
    ask(queue, "x", later=True)
    ask(queue, "y", later=True)
    taken = queue.next_job(queue.slots[0])
    assert taken is not None and queue.slots[0].job is taken
    assert queue._choose() is None


def test_arguments_make_the_key() -> None:
    source, other = Source("deepseek-v3"), Source("deepseek-v3", None, ("seed=1",))
    keys = [jobs._key("f", arguments) for arguments in ((source, 1), (other, 1), (source, 2), (source, "1"), (source,))]
    assert len(set(keys)) == 5
    assert jobs._key("f", (Source("deepseek-v3"), 1)) == keys[0]
    assert jobs._key("g", (source, 1)) != keys[0]


# With processes


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    two = Pool(num_workers=2)
    yield two
    two.close()


def start(
    processes: Pool, function: Callable[..., object], *arguments: object, session: str = "a", later: bool = False
) -> Job:
    name = f"{function.__module__}:{function.__qualname__}"
    return processes.ask(jobs._key(name, arguments), name, arguments, later, session)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_work_is_done_once_and_shared(processes: Pool, tmp_path: Path) -> None:
    asked = [start(processes, work.count, str(tmp_path), "x", session=session) for session in "abcabc"]
    assert all(job is asked[0] for job in asked)
    assert asked[0].wait(LONG_S) and asked[0].value == "x" and asked[0].state == "done"
    assert start(processes, work.count, str(tmp_path), "x").value == "x"
    assert (tmp_path / "done").read_text() == "x\n"


def test_progress_is_told_while_the_work_runs(processes: Pool, tmp_path: Path) -> None:
    job = start(processes, work.wait_for, str(tmp_path), "go")
    until(lambda: job.progress == 0.5 and job.words.startswith("round "))
    assert job.state == "running" and not job.is_over
    (tmp_path / "go").touch()
    assert job.wait(LONG_S)
    assert (job.state, job.progress, job.value) == ("done", 1.0, "go")


def test_bad_input_is_told_with_its_key(processes: Pool) -> None:
    job = start(processes, work.refuse)
    assert job.wait(LONG_S) and job.state == "failed" and job.error is not None
    assert job.error.is_input
    assert [problem.field for problem in job.error.problems] == ["parallel.pp"]


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        (work.divide, (0,), "ZeroDivisionError"),
        (work.unpicklable, (), "pickle"),
        (work.die, (), "ended before it was done"),
    ],
)
def test_failures_have_words_and_can_be_tried_again(
    processes: Pool, function: Callable[..., object], arguments: tuple[object, ...], says: str, tmp_path: Path
) -> None:
    job = start(processes, function, *arguments)
    assert job.wait(LONG_S) and job.state == "failed" and job.error is not None
    assert not job.error.is_input
    assert says in job.error.problems[0].message and "\n" not in job.error.problems[0].message
    processes.forget(job)
    again = start(processes, function, *arguments)
    assert again is not job and again.wait(LONG_S)
    for name in "xy":  # both workers work
        assert start(processes, work.count, str(tmp_path), name).wait(LONG_S)


def test_what_the_work_prints_does_not_disturb(processes: Pool) -> None:
    job = start(processes, work.print_and_return, "printed")
    assert job.wait(LONG_S) and job.value == "printed"


def test_a_worker_that_has_grown_large_makes_way_for_a_new_one() -> None:
    one = Pool(num_workers=1)
    try:
        small, again, large, new = (start(one, work.hold, size) for size in (1, 2, MAX_RESIDENT_BYTES, 3))
        assert all(job.wait(LONG_S) and job.state == "done" for job in (small, again, large, new))
        assert small.value == again.value == large.value != new.value
    finally:
        one.close()


def test_refinements_leave_a_worker_free(processes: Pool, tmp_path: Path) -> None:
    refining = [start(processes, work.wait_for, str(tmp_path), name, session=name, later=True) for name in "xy"]
    until(lambda: refining[0].state == "running")
    first = start(processes, work.count, str(tmp_path), "first", session="z")
    assert first.wait(LONG_S)
    assert refining[1].state == "queued"
    for name in "xy":
        (tmp_path / name).touch()
    assert all(job.wait(LONG_S) for job in refining)


def test_running_work_that_nobody_waits_for_makes_way(processes: Pool, tmp_path: Path) -> None:
    running = [start(processes, work.wait_for, str(tmp_path), name, session="fast") for name in ("never", "neither")]
    until(lambda: all(job.state == "running" for job in running))
    processes.new_run("fast")
    new = start(processes, work.count, str(tmp_path), "new", session="fast")
    processes.end_run("fast")
    assert new.wait(LONG_S) and new.state == "done"
    assert all(job.wait(LONG_S) and job.state == "dropped" for job in running)
