"""A copy of the repository in which one fault at a time is planted and the tests are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.mutants.fault import Fault, Mutant

ROOT = Path(__file__).parents[2]
LEFT_OUT = ("tests/test_house.py::test_tools_find_nothing", "tests/test_mutants.py")
"""Style, types and the tests of this tool say nothing about numbers."""
COMPILED = ("*.nbi", "*.nbc")
LIMIT_S = 1_800
NO_TESTS = 5
"""pytest's exit status where a file has marked ones alone (longer ones, benchmarks)."""
LONGER = ("-m", "slow")
"""Tests that run where a file has no others; benchmarks and browsers do not."""


class Copy:
    """A working copy under `folder`: what git would commit, and the compiled kernels, so that nothing compiles twice."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "copy"
        for name in _files():
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Deleted and not committed yet, or a compiled kernel that another process is just writing anew.
            with suppress(FileNotFoundError):
                shutil.copy2(source, target)
        # The bulk reference tables stand beside the checkout where they are there at all.
        if (ROOT.parent / "shared").is_dir():
            (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())

    def passes(self, tests: tuple[str, ...]) -> str | None:
        """None where the tests pass as the copy stands, else the first that fails, or how the run ended.

        One file or folder after the other: most faults fall at the first, and the others are then not even collected.
        """
        return next((failed for name in tests if (failed := self._failed(name)) is not None), None)

    def _failed(self, tests: str, *marked: str) -> str | None:
        """The first test that fails, None where none does. marked: pytest's options that choose the longer ones instead."""
        left_out = [option for name in LEFT_OUT for option in ("--deselect", name)]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=no", "-rfE"]
        try:
            done = subprocess.run(
                [*command, *marked, *left_out, tests], cwd=self.root, env={**os.environ, "PYTHONPATH": str(self.root)},
                capture_output=True, text=True, check=False, timeout=LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"no end within {LIMIT_S} s"
        if done.returncode == NO_TESTS and not marked:
            return self._failed(tests, *LONGER)
        if done.returncode in (0, NO_TESTS):
            return None
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        return found[1] if found else (done.stdout + done.stderr).strip()[-300:]

    def try_out(self, mutant: Mutant, tests: tuple[str, ...]) -> str | None:
        """`passes` with the fault planted; takes it out again."""
        path, text, stamp = self._plant(mutant.fault, mutant.number)
        try:
            return self.passes(tests)
        finally:
            path.write_text(text)
            os.utime(path, (stamp, stamp))
            self._restore_compiled()

    def _restore_compiled(self) -> None:
        """Kernels that were compiled before: those of a planted fault have taken their place."""
        for name in _compiled():
            if (ROOT / name).is_file():
                shutil.copy2(ROOT / name, self.root / name)

    def _plant(self, fault: Fault, number: int) -> tuple[Path, str, float]:
        """Writes the fault, with a time of change of its own: Python tells stale bytecode by size and second."""
        path = self.root / fault.file
        text, stamp = path.read_text(), path.stat().st_mtime
        path.write_text(text.replace(fault.old, fault.new))
        os.utime(path, (stamp + 10 * number, stamp + 10 * number))
        return path, text, stamp


def _files() -> list[str]:
    """Paths from the root: what git knows or would add; of an unpacked archive, all but caches."""
    compiled = [
        path.relative_to(ROOT).as_posix() for pattern in COMPILED for path in (ROOT / "simulator").rglob(pattern)
    ]
    if (ROOT / ".git").exists():
        command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [name for name in listed.split("\0") if name] + compiled
    hidden = (".", "__pycache__")
    paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
    return [path.as_posix() for path in paths if not any(part.startswith(hidden) for part in path.parts)] + compiled


def _compiled() -> list[str]:
    """Kernels that numba has compiled here, from the root."""
    return [path.relative_to(ROOT).as_posix() for pattern in COMPILED for path in (ROOT / "simulator").rglob(pattern)]
