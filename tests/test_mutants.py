"""The list of planted faults fits the sources, and the tool tells a fault that is seen from one that is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants import __main__ as tool
from tests.mutants.fault import Fault, Mutant, Room, mutants_of, stale
from tests.mutants.rooms import ROOMS
from tests.mutants.trial import ROOT, Copy

MUTANTS = mutants_of(ROOMS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_fault_stands_once_in_its_file(mutant: Mutant) -> None:
    assert stale(mutant, ROOT) is None


def test_faults_are_many_and_none_is_there_twice() -> None:
    assert len(MUTANTS) >= 60
    assert max(Counter((mutant.fault.file, mutant.fault.old, mutant.fault.new) for mutant in MUTANTS).values()) == 1
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_s_tests_are_there(room: Room) -> None:
    assert room.faults
    assert all((ROOT / name).exists() for name in room.tests)


def made_up(old: str, new: str, file: str = "a.py") -> Mutant:
    return Mutant(Room("made-up", ("tests",), ()), 1, Fault(file, old, new, "made up"))


def test_a_stale_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1 + 1\n")
    assert stale(made_up("x", "y"), tmp_path) is None
    assert "2 times, not once" in str(stale(made_up("1", "2"), tmp_path))
    assert "0 times, not once" in str(stale(made_up("z", "2"), tmp_path))
    assert "no file b.py" in str(stale(made_up("x", "y", "b.py"), tmp_path))
    assert "changes nothing" in str(stale(made_up("x", "x"), tmp_path))


@pytest.mark.timeout(300)
def test_a_fault_that_is_seen_and_one_that_is_not(tmp_path: Path) -> None:
    """The same copy before, between and after: a fault leaves nothing behind."""
    copy, tests = Copy(tmp_path), ("tests/test_registry.py",)
    source = copy.root / "simulator" / "registry.py"
    before, stamp = source.read_bytes(), source.stat().st_mtime
    seen, unseen = made_up("raise UnknownName", "raise KeyError", "simulator/registry.py"), MUTANTS[0]
    assert str(copy.try_out(seen, tests)).startswith("tests/test_registry.py::")
    assert copy.try_out(unseen, tests) is None
    assert (source.read_bytes(), source.stat().st_mtime) == (before, stamp)


def fates(monkeypatch: pytest.MonkeyPatch, seen_by: dict[str, tuple[str, ...]]) -> None:
    """Copies whose tests see the mutants named, without running anything."""

    class Told:
        def __init__(self, folder: Path) -> None:
            pass

        def passes(self, tests: tuple[str, ...]) -> str | None:
            return None

        def try_out(self, mutant: Mutant, tests: tuple[str, ...]) -> str | None:
            seen = seen_by.get(mutant.name)
            return "a test" if seen and (tests == tool.EVERYTHING or tests[-len(seen) :] == seen) else None

    monkeypatch.setattr(tool, "Copy", Told)


def test_a_mutant_meets_its_room_first_and_all_tests_only_if_it_lives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room = ROOMS[0]
    names = [mutant.name for mutant in MUTANTS if mutant.room is room]
    fates(monkeypatch, dict.fromkeys(names, room.tests))
    assert tool.main(["--only", room.name]) == 0
    assert f"{len(names)} killed, 0 of them outside" in capsys.readouterr().out
    fates(monkeypatch, dict.fromkeys(names, ("elsewhere",)))
    assert tool.main(["--only", room.name]) == 0
    assert f"{len(names)} killed, {len(names)} of them outside" in capsys.readouterr().out
    fates(monkeypatch, {})
    assert tool.main(["--only", room.name]) == 1
    assert f"0 killed, 0 of them outside their room's tests, {len(names)} live" in capsys.readouterr().out


def test_a_sample_is_drawn_by_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = []
    for seed in ("1", "1", "2"):
        assert tool.main(["--sample", "6", "--seed", seed, "--list"]) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0].splitlines()) == 6


def test_a_stale_list_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = replace(ROOMS[0], faults=(replace(ROOMS[0].faults[0], old="stands nowhere"),))
    monkeypatch.setattr(tool, "ROOMS", (broken,))
    assert tool.main([]) == 1
    assert "stale" in capsys.readouterr().out


def test_a_killer_that_fails_without_a_fault_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, folder: Path) -> None:
            pass

        def passes(self, tests: tuple[str, ...]) -> str | None:
            return f"{tests[0]}::test_of_nothing"

        def try_out(self, mutant: Mutant, tests: tuple[str, ...]) -> str | None:
            return "tests/test_registry.py::test_of_nothing"

    monkeypatch.setattr(tool, "Copy", Broken)
    with pytest.raises(SystemExit, match=r"Fails without a fault: tests/test_registry\.py"):
        tool.main(["--only", MUTANTS[0].name])


def test_the_tests_named_as_the_file_come_first() -> None:
    mutant = Mutant(Room("registry", ("tests/laws",), ()), 1, Fault("simulator/registry.py", "a", "b", "made up"))
    assert tool.first_tests(mutant) == ("tests/test_registry.py", "tests/laws")
