"""`python -m tests.mutants`: plants each fault of the lists in a copy, runs the tests, and counts the mutants that live.

A mutant meets its room's tests first and the whole suite only if it lives. Exit status 1 if more than 5 % live, if the list is
stale, or if a test fails without any fault.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.fault import Mutant, mutants_of, stale
from tests.mutants.rooms import ROOMS
from tests.mutants.trial import ROOT, Copy

Tests = tuple[str, ...]
EVERYTHING: Tests = ("tests",)
MAY_LIVE_FRAC = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status."""
    options = _options(arguments)
    chosen = [mutant for mutant in mutants_of(ROOMS) if options.only in (None, mutant.room.name, mutant.name)]
    problems = [problem for mutant in chosen if (problem := stale(mutant, ROOT))]
    if problems:
        print("The list is stale:", *problems, sep="\n")
        return 1
    if options.sample:
        drawn = random.Random(options.seed).sample(range(len(chosen)), min(options.sample, len(chosen)))
        chosen = [chosen[index] for index in sorted(drawn)]
    if options.list:
        print(*(f"{mutant.name:14}{mutant.fault.file}: {mutant.fault.wrong}" for mutant in chosen), sep="\n")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        bench = Bench(Path(folder), options.jobs)
        by_room = bench.run([(mutant, first_tests(mutant)) for mutant in chosen])
        left = [mutant for mutant in chosen if by_room[mutant] is None]
        if left and not options.room_only:
            print(f"{len(left)} outlive their room's tests and meet all others", flush=True)
        by_all = {} if options.room_only else bench.run([(mutant, EVERYTHING) for mutant in left])
    living = [mutant for mutant in left if by_all.get(mutant) is None]
    print(
        f"{len(chosen)} mutants in {(time.monotonic() - began) / 60:.1f} minutes: {len(chosen) - len(living)} killed, "
        f"{len(left) - len(living)} of them outside their room's tests, {len(living)} live"
    )
    return 1 if len(living) > MAY_LIVE_FRAC * len(chosen) else 0


def first_tests(mutant: Mutant) -> Tests:
    """What a mutant meets first: the files of tests that are named as its own file, then its room's tests."""
    stem = Path(mutant.fault.file).stem
    named = (path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob(f"test_*{stem}*.py"))
    return (*sorted(named), *mutant.room.tests)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, metavar="K", help="only K mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (0)")
    parser.add_argument("--jobs", type=int, default=2, metavar="J", help="mutants at a time (2)")
    names = ", ".join(room.name for room in ROOMS)
    parser.add_argument("--only", metavar="ROOM", help=f"only this room's mutants ({names}), or one (costs-3)")
    parser.add_argument(
        "--room-only", action="store_true", help="whatever its room's tests do not see counts as living"
    )
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or (options.sample is not None and options.sample < 1):
        parser.error("--jobs and --sample take numbers from 1 on")
    if options.only is not None and options.only not in {
        name for m in mutants_of(ROOMS) for name in (m.name, m.room.name)
    }:
        parser.error(f"--only {options.only}: there is no such room; {names}")
    return options


class Bench:
    """Copies of the repository, one a job, and which files of tests are known to pass without a fault."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.jobs = jobs
        self._sound: set[str] = set()
        self._free: SimpleQueue[Copy] = SimpleQueue()
        for job in range(jobs):
            self._free.put(Copy(folder / f"job-{job}"))

    def run(self, trials: Sequence[tuple[Mutant, Tests]]) -> dict[Mutant, str | None]:
        """Mutant → what killed it, None where it lives."""
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            fates = list(pool.map(lambda trial: self._on_copy(*trial), trials))
        return {mutant: fate for (mutant, _), fate in zip(trials, fates, strict=True)}

    def _check_sound(self, copy: Copy, killer: str) -> None:
        """Exits where the file of a test that killed a mutant fails without one: it would kill every mutant."""
        file = killer.partition("::")[0]
        if file in self._sound or not (ROOT / file).is_file():
            return
        failed = copy.passes((file,))
        if failed is not None:
            raise SystemExit(f"Fails without a fault: {failed}")
        self._sound.add(file)

    def _on_copy(self, mutant: Mutant, tests: Tests) -> str | None:
        copy, began = self._free.get(), time.monotonic()
        try:
            fate = copy.try_out(mutant, tests)
            if fate is not None:
                self._check_sound(copy, fate)
        finally:
            self._free.put(copy)
        shown = "LIVES" if fate is None else f"killed by {fate}"
        lines = (
            f"{mutant.name:14}{time.monotonic() - began:6.1f} s  {shown}",
            f"{'':14}{mutant.fault.file}: {mutant.fault.wrong}",
        )
        print(*lines, sep="\n", flush=True)
        return fate


if __name__ == "__main__":
    sys.exit(main())
