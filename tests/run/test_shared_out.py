"""Sizes are shared out to two processes and come back in their order, whatever becomes of the second one."""

from __future__ import annotations

import os

import pytest

from simulator.run.planner import shared_out
from simulator.run.planner.shared_out import planned_by_two

SIZES = (8, 16, 24, 32, 40)


def test_every_size_comes_back_in_its_place() -> None:
    assert planned_by_two(SIZES, lambda size: size * 10) == [80, 160, 240, 320, 400]
    assert planned_by_two((8,), lambda size: size * 10) == [80]


def test_the_second_process_takes_every_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_out, "can_fork", lambda: True)
    places: list[int] = []
    found = planned_by_two(SIZES, lambda size: os.getpid(), places.append)
    assert [each == os.getpid() for each in found] == [True, False, True, False, True]
    assert sorted(places) == [0, 1, 2, 3, 4]


def test_what_the_second_process_fails_at_the_first_does_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_out, "can_fork", lambda: True)
    first = os.getpid()

    def plan(size: int) -> int:
        if os.getpid() != first and size == 32:
            os._exit(9)
        return size

    assert planned_by_two(SIZES, plan) == list(SIZES)


def test_one_process_does_all_where_no_second_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_out, "can_fork", lambda: False)
    assert set(planned_by_two(SIZES, lambda size: os.getpid())) == {os.getpid()}


def test_an_error_of_the_first_process_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_out, "can_fork", lambda: True)

    def plan(size: int) -> int:
        if size == 24:
            raise KeyError(size)
        return size

    with pytest.raises(KeyError):
        planned_by_two(SIZES, plan)
