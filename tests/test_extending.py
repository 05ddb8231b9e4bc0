"""docs/extending.md is true: its files, written beside ours and nothing else changed, are listed, run and pass the tests."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [
    line for block in re.findall(r"<!-- try -->\n```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
NAMED = re.compile(r"`((?:hwprofiles|simulator|validation|tests|docs)/[\w./-]+)`")
"""Paths that the page speaks of."""
ROOMS = ("schedule", "network", "scenario")
LISTS = re.compile(r"\b(SCHEDULES|TOPOLOGIES|list_names|load_(node|fabric|gpu)|(model|preset|stack)_names)\b")
"""What a file of tests reads that goes over a family or the catalogue."""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and tests with the page's files in it."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("hwprofiles", "simulator", "validation", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name, content in FILES.items():
        assert not (folder / name).exists(), f"{name} is there already"
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def run(folder: Path, *command: str) -> str:
    """Standard output of a Python command in the copy."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_every_command_of_the_page_runs_and_every_file_is_listed(extended: Path) -> None:
    assert len(FILES) >= 6 and len(COMMANDS) >= 8
    printed = "\n".join(run(extended, "-m", "simulator.cli.app", *shlex.split(line)[1:]) for line in COMMANDS)
    for name in FILES:
        assert Path(name).stem in printed, f"{name} is listed nowhere"


def test_paths_on_the_page_exist(extended: Path) -> None:
    """But for those with a NAME to fill in."""
    missing = [name for name in NAMED.findall(PAGE) if "NAME" not in name and not (extended / name).exists()]
    assert missing == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_newcomers_pass_the_tests_over_families_and_catalogues(extended: Path) -> None:
    """Without one written for them: schedules' legality, hardware's sources and bounds, links, laws of a step."""
    found = [path for room in ROOMS for path in sorted((ROOT / "tests" / room).glob("test_*.py"))]
    over = [path.relative_to(ROOT / "tests").as_posix() for path in found if LISTS.search(path.read_text("utf-8"))]
    assert {room for room in ROOMS if any(name.startswith(room) for name in over)} == set(ROOMS)
    others = ["hwprofiles/test_hardware_catalog.py", "laws/test_catalogue.py", "laws/test_engines.py"]
    made_up = ("test_no_model_is_without_a_published_size", "test_model_has_its_published_parameters[little-moe]")
    left_out = [f"--deselect=tests/scenario/test_catalog.py::{name}" for name in made_up]
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", *left_out)
    run(extended, "-m", "pytest", *options, *(f"tests/{name}" for name in (*over, *others)))
