"""The page put together: text.md, which people write, with a block of what was predicted under each of its marks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from hwprofiles.problems import show
from simulator.errors import InputError, Problem

TEXT: Final = Path(__file__).parent / "text.md"
"""What people write; a change of it reaches the page by `python -m validation.page`."""
HEAD: Final = (
    "<!-- Written by python -m validation.page from its text.md and predictions: what is changed here is lost. -->"
)
END: Final = "<!-- end -->"
MARK: Final = re.compile(r"^<!-- block: (.+) -->$", re.MULTILINE)
BLOCK: Final = re.compile(rf"^<!-- block: ([^\n]+) -->\n(.*?)^{re.escape(END)}$", re.MULTILINE | re.DOTALL)


def blocks_of(page: str) -> dict[str, str]:
    """Name → text of the blocks of a page that was written before."""
    return {match[1]: match[2].strip("\n") for match in BLOCK.finditer(page)}


def marks(text: str) -> list[str]:
    """Names of the blocks that a text has a place for, in order."""
    return MARK.findall(text)


def check(text: str, names: Collection[str]) -> None:
    """Raise InputError, all at once: marks without one of the blocks' names, names without a mark, marks there twice."""
    wanted = marks(text)
    problems = [
        f"nothing is predicted for the block {show(name)}" for name in dict.fromkeys(wanted) if name not in names
    ]
    problems += [f"has no line <!-- block: {name} -->" for name in names if name not in wanted]
    problems += [f"has the block {show(name)} twice" for name in dict.fromkeys(wanted) if wanted.count(name) > 1]
    if problems:
        advice = "without names `python -m validation.page` predicts all"
        raise InputError([Problem("", TEXT.name, f"{problem}; {advice}") for problem in problems])


def composed(text: str, blocks: Mapping[str, str]) -> str:
    """The page: the text, each mark followed by its block. The marks and the blocks are those that `check` lets pass."""
    body = MARK.sub(lambda match: f"{match[0]}\n\n{blocks[match[1]]}\n\n{END}", text)
    return f"{HEAD}\n\n{body}"


def by_hand(page: str) -> str:
    """The text that a page was written from."""
    return BLOCK.sub(lambda match: f"<!-- block: {match[1]} -->", page.removeprefix(f"{HEAD}\n\n"))
