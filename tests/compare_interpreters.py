"""Runs presets under every supported Python of this machine and compares the bytes: `python -m tests.compare_interpreters`.

Each interpreter gets a fresh environment with this checkout installed as a wheel. Every preset is run under three hash seeds
and two locales, once more with numpy held to its baseline instructions and kernels compiled for a generic processor. All
documents of a preset must be the same bytes. With fewer than two interpreters the result is "not compared". Exit code 1
where bytes differ or a run fails.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRESETS = ("deepseek-v3", "mixtral-8x22b", "llama-3.1-70b")
DRAWS = 4
"""Random draws of a run: enough that their mean is a sum of several."""
SETTINGS = (("0", "C.UTF-8"), ("1", "C"), ("4242", "C.UTF-8"))
"""Hash seed and locale of a run."""
MINORS = range(11, 20)
"""Python 3.11 and whatever newer one the machine has."""


@dataclass(frozen=True)
class Interpreter:
    """A Python: its version, how it is started, and what must stand in the environment for it (pyenv)."""

    version: str
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def minor(self) -> tuple[int, ...]:
        """(3, 11)."""
        return tuple(map(int, self.version.split(".")[:2]))


def version_of(command: str, environment: Mapping[str, str]) -> str | None:
    """ "3.12.1" where `command --version` succeeds, else None: a shim without a version behind it does not count."""
    try:
        done = subprocess.run([command, "--version"], env={**os.environ, **environment}, capture_output=True, text=True)
    except OSError:
        return None
    found = re.fullmatch(r"Python (3\.\d+\.\d+)\S*\s*", done.stdout)
    return found[1] if done.returncode == 0 and found else None


def candidates() -> Iterator[tuple[str, dict[str, str]]]:
    """Commands that may be a Python, with their environment."""
    yield sys.executable, {}
    for minor in MINORS:
        yield f"python3.{minor}", {}
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True).stdout.split()
        for version in listed:
            yield "python3", {"PYENV_VERSION": version}


def interpreters() -> list[Interpreter]:
    """One Python of each supported minor version, the running one first."""
    found: dict[tuple[int, ...], Interpreter] = {}
    for command, environment in candidates():
        version = version_of(command, environment)
        if version is None:
            continue
        interpreter = Interpreter(version, command, environment)
        if interpreter.minor >= (3, MINORS.start):
            found.setdefault(interpreter.minor, interpreter)
    return list(found.values())


def install(interpreter: Interpreter, folder: Path) -> Path:
    """A fresh environment with the checkout in it; its `moesim`. Raises CalledProcessError where that fails."""
    environment = {**os.environ, **interpreter.environment}
    subprocess.run([interpreter.command, "-m", "venv", str(folder)], env=environment, check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(ROOT)]
    subprocess.run(pip, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return folder / "bin" / "moesim"


def settings() -> Iterator[dict[str, str]]:
    """Environments in which a document must be the same."""
    for seed, name in SETTINGS:
        yield {"PYTHONHASHSEED": seed, "LC_ALL": name}
    yield {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NPY_DISABLE_CPU_FEATURES": dispatched()}


def dispatched() -> str:
    """Instruction sets beyond numpy's baseline that this processor has, as NPY_DISABLE_CPU_FEATURES lists them."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # type: ignore[import-not-found]

    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))


def digests(moesim: Path, preset: str, folder: Path) -> Iterator[str]:
    """SHA-256 of the preset's document in each setting."""
    for variables in settings():
        done = subprocess.run(
            [str(moesim), "run", preset, "--json", "--set", f"draws={DRAWS}"],
            cwd=folder, env={**os.environ, **variables}, capture_output=True, check=True,
        )  # fmt: skip
        yield hashlib.sha256(done.stdout).hexdigest()


def main() -> int:
    """Compare and print; 0 where all is equal or nothing could be compared."""
    present = interpreters()
    print("interpreters: " + ", ".join(each.version for each in present))
    if len(present) < 2:
        print("bytes across interpreters: not compared (fewer than two supported interpreters)")
    seen: dict[str, dict[str, list[str]]] = {preset: {} for preset in PRESETS}
    with tempfile.TemporaryDirectory() as name:
        for interpreter in present:
            moesim = install(interpreter, Path(name) / interpreter.version)
            for preset in PRESETS:
                for digest in digests(moesim, preset, Path(name)):
                    seen[preset].setdefault(digest, []).append(interpreter.version)
    for preset, by_digest in seen.items():
        runs = sum(map(len, by_digest.values()))
        verdict = "the same bytes" if len(by_digest) == 1 else f"{len(by_digest)} DIFFERENT documents {by_digest}"
        print(f"{preset}: {runs} runs over {len(present)} interpreter(s), {verdict}")
    return int(any(len(by_digest) > 1 for by_digest in seen.values()))


if __name__ == "__main__":
    sys.exit(main())
