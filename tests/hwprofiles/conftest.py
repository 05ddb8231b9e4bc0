"""Catalogues in a temporary folder, read in place of the committed one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwprofiles import age, catalog, same_chip, stack_choice, transfer

COMMITTED = Path(catalog.__file__).parent


def forget() -> None:
    """Drop what the catalogue's functions remember of files."""
    for module in (age, catalog, same_chip, stack_choice, transfer):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


@pytest.fixture
def empty_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty catalogue."""
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "_ROOT", tmp_path)
        forget()
        yield tmp_path
    forget()


@pytest.fixture
def own_catalogue(empty_catalogue: Path) -> Path:
    """The committed catalogue in folders to which files may be added."""
    for kind in catalog.KINDS:
        (empty_catalogue / kind).mkdir()
        for path in (COMMITTED / kind).glob("*.yaml"):
            (empty_catalogue / kind / path.name).symlink_to(path)
    (empty_catalogue / "stacks").symlink_to(COMMITTED / "stacks")
    return empty_catalogue
