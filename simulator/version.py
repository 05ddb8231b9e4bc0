"""The version of the code that runs: the release, and in a development checkout the commit that it stands at.

`0.2.0` is the release as published, `0.2.0+g0123456789` a commit, `0.2.0+g0123456789.dirty` a commit with changes in the
packages that nobody else has, `0.2.0+unknown` a checkout of which git told nothing. The build reads `build_version`
from this file (pyproject.toml), so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

PACKAGE: Final = "moesim"
RELEASE: Final = "0.2.0"
"""The only place where the release's number stands."""
PACKAGES: Final = ("hwprofiles", "simulator", "validation", "dashboards")
"""Folders whose code and data make the figures: those of the wheel."""
UNKNOWN: Final = f"{RELEASE}+unknown"

_DIGITS: Final = 10
"""Of a commit's hash; a fixed number, as git's own abbreviation differs between clones."""
_TIMEOUT_S: Final = 5
_COMMIT: Final = re.compile(r"# branch\.oid ([0-9a-f]{40,64})")
_ROOT: Final = Path(__file__).resolve().parents[1]


@cache
def package_version() -> str:
    """The version, taken once a process: of the checkout that this file lies in, else of the installed package."""
    if _is_checkout(_ROOT):
        return checkout_version(_ROOT)
    from importlib import metadata  # half of this module's import time, and no checkout needs it

    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def names_one_state(version: str) -> bool:
    """Whether all code of this version is the same: not of changed or unknown checkouts."""
    return not version.endswith((".dirty", "+unknown"))


def checkout_version(root: Path) -> str:
    """The release, the commit of the git work tree at `root`, and whether the packages differ from it (new files too).

    UNKNOWN where git is missing, refuses or has no commit: a guess would name code that did not run.
    """
    status = _git(root, "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *PACKAGES)
    lines = status.splitlines() if status is not None else []
    commits = [found[1] for found in map(_COMMIT.fullmatch, lines) if found]
    if not commits:
        return UNKNOWN
    is_dirty = any(not line.startswith("# ") for line in lines)
    return f"{RELEASE}+g{commits[0][:_DIGITS]}{'.dirty' if is_dirty else ''}"


def build_version() -> str:
    """What a built distribution carries: the release alone where its own tag is checked out unchanged, else the commit."""
    if not _is_checkout(_ROOT):
        return RELEASE
    version = checkout_version(_ROOT)
    tags = (_git(_ROOT, "tag", "--points-at", "HEAD") or "").split()
    return RELEASE if f"v{RELEASE}" in tags and names_one_state(version) else version


def _is_checkout(root: Path) -> bool:
    """Whether `root` is a git work tree of this project; .git is a file in a linked work tree."""
    return (root / ".git").exists() and (root / "pyproject.toml").is_file()


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, None where it does not answer. It writes nothing, starts no monitor, and heeds no hook's variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
