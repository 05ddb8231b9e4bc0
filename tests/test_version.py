"""The version names the code that ran: the commit of a checkout, and whether the packages differ from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from simulator import version
from simulator.version import PACKAGES, RELEASE, UNKNOWN, checkout_version, names_one_state

ROOT = Path(__file__).parents[1]
NEEDS_GIT = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *settings, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with two packages and a committed file in each, and a file outside them."""
    root = tmp_path / "checkout"
    for name in ("simulator", "hwprofiles"):
        (root / name).mkdir(parents=True)
        (root / name / "data.yaml").write_text("a: 1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    return root


def commit_of(root: Path) -> str:
    return git(root, "rev-parse", "HEAD")[:10]


@NEEDS_GIT
def test_a_clean_checkout_carries_its_commit(checkout: Path) -> None:
    assert checkout_version(checkout) == f"{RELEASE}+g{commit_of(checkout)}"
    git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
    assert checkout_version(checkout) == f"{RELEASE}+g{commit_of(checkout)}"


@NEEDS_GIT
def test_every_change_of_a_package_is_seen(checkout: Path) -> None:
    clean = checkout_version(checkout)
    file = checkout / "hwprofiles" / "data.yaml"
    file.write_text("a: 2\n")
    assert checkout_version(checkout) == f"{clean}.dirty"
    git(checkout, "add", ".")
    assert checkout_version(checkout) == f"{clean}.dirty"
    git(checkout, "reset", "-q", "--hard")
    assert checkout_version(checkout) == clean
    file.unlink()
    assert checkout_version(checkout) == f"{clean}.dirty"
    file.write_text("a: 1\n")
    assert checkout_version(checkout) == clean


@NEEDS_GIT
def test_a_change_of_the_same_size_and_time_is_seen(checkout: Path) -> None:
    file = checkout / "simulator" / "data.yaml"
    before = file.stat()
    time.sleep(0.01)
    file.write_text("a: 7\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checkout_version(checkout).endswith(".dirty")


@NEEDS_GIT
def test_a_new_file_counts_and_what_is_ignored_or_outside_does_not(checkout: Path) -> None:
    clean = checkout_version(checkout)
    (checkout / "notes.txt").write_text("x")
    (checkout / "pyproject.toml").write_text("[project]\nname = 'a'\n")
    (checkout / "simulator" / "__pycache__").mkdir()
    (checkout / "simulator" / "__pycache__" / "a.pyc").write_text("x")
    assert checkout_version(checkout) == clean
    (checkout / "hwprofiles" / "mine.yaml").write_text("b: 1\n")
    assert checkout_version(checkout) == f"{clean}.dirty"


@NEEDS_GIT
def test_a_linked_work_tree_says_its_own(checkout: Path, tmp_path: Path) -> None:
    clean = checkout_version(checkout)
    other = tmp_path / "other"
    git(checkout, "worktree", "add", "-q", "-b", "other", str(other))
    assert (other / ".git").is_file()
    (other / "simulator" / "data.yaml").write_text("a: 3\n")
    git(other, "commit", "-q", "-am", "three")
    assert checkout_version(other) == f"{RELEASE}+g{commit_of(other)}" != clean
    assert checkout_version(checkout) == clean


@NEEDS_GIT
def test_variables_of_a_hook_point_nowhere_else(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean = checkout_version(checkout)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert checkout_version(checkout) == clean


@NEEDS_GIT
def test_it_writes_nothing_into_the_repository(checkout: Path) -> None:
    os.utime(checkout / "simulator" / "data.yaml")
    index = checkout / ".git" / "index"
    before = index.read_bytes()
    checkout_version(checkout)
    assert index.read_bytes() == before


def test_without_git_or_a_commit_no_commit_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkout_version(tmp_path) == UNKNOWN
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout_version(ROOT) == UNKNOWN
    assert not names_one_state(UNKNOWN)


def test_only_unchanged_code_is_one_state() -> None:
    assert names_one_state(RELEASE)
    assert names_one_state(f"{RELEASE}+g0123456789")
    assert not names_one_state(f"{RELEASE}+g0123456789.dirty")


@NEEDS_GIT
def test_a_build_carries_the_commit_but_for_the_releases_own_tag(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "_ROOT", checkout)
    clean = checkout_version(checkout)
    assert version.build_version() == clean
    git(checkout, "tag", "v9.9.9")
    assert version.build_version() == clean
    git(checkout, "tag", f"v{RELEASE}")
    assert version.build_version() == RELEASE
    (checkout / "simulator" / "data.yaml").write_text("a: 2\n")
    assert version.build_version() == f"{clean}.dirty"


def test_an_unpacked_source_is_built_as_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "_ROOT", tmp_path)
    assert version.build_version() == RELEASE


def test_the_packages_are_those_of_the_wheel() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    assert hatch["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert hatch["version"] == {"source": "code", "path": "simulator/version.py", "expression": "build_version()"}


def test_the_build_needs_no_package_of_ours_nor_of_others() -> None:
    code = "import runpy; print(runpy.run_path('simulator/version.py')['RELEASE'])"
    command = [sys.executable, "-S", "-I", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{RELEASE}\n"


def test_it_is_a_version_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = version.package_version()
    assert re.fullmatch(r"\d+\.\d+\.\d+(\+(g[0-9a-f]{10}(\.dirty)?|unknown))?", found)
    monkeypatch.setattr(version, "_git", lambda *arguments: None)
    assert version.package_version() == found


@pytest.mark.slow
@NEEDS_GIT
def test_a_wheel_from_a_checkout_carries_its_commit(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(ROOT), str(clone))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(clone)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("moesim-*.whl")
    assert wheel.name == f"moesim-{RELEASE}+g{commit_of(clone)}-py3-none-any.whl"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path / "installed")], check=True)
    code = "import simulator.version as v; print(v.package_version())"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{RELEASE}+g{commit_of(clone)}"
