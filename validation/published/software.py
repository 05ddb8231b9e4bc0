"""Which framework release a row was run with, and what the release's file reads out of its notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from simulator.scenario.releases import RELEASES, Matches, load_release
from validation.published.row import Row

COLUMNS = ("framework", "source_url", "source_detail", "case_id")


def release_of(row: Row) -> str | None:
    """The release whose patterns fit the row best: of several the one with the longest words; None: software unknown."""
    found = [(size, name) for name in RELEASES for match in load_release(name).matches if (size := _fit(match, row))]
    return max(found)[1] if found else None


def _fit(match: Matches, row: Row) -> int:
    """Characters of the row that the patterns are about; 0 where one does not fit."""
    size = 0
    for column in COLUMNS:
        pattern = getattr(match, column)
        if pattern:
            found = _compiled(pattern).search(row.text(column))
            if found is None:
                return 0
            size += len(found[0])
    return size


def says(release: str | None, key: str) -> bool:
    """Whether a release's file has a switch of the key."""
    return release is not None and any(key in switch.set for switch in load_release(release).switches)


def readings(row: Row, release: str | None) -> Iterator[tuple[str, Any, str]]:
    """(key, value, source) of what the release's file reads in the row's notes."""
    if release is None:
        return
    for reading in load_release(release).reads:
        if _compiled(reading.pattern).search(row.prose()):
            for key, value in reading.set.items():
                yield key, value, reading.source


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
