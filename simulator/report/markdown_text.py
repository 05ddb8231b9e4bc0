"""Text from scenarios and documents inside Markdown: shown as it is, never a tag, a link, a mention or a new cell."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from simulator.report.facts import cut

MARKS: Final = re.compile(r"([\\`*_{}\[\]<>~|&$^#])")
"""Letters that mean something wherever they stand in a line."""
FIRST: Final = re.compile(r"^(\s*\d*)([-+=.)])")
"""What makes a line a list, a heading or a rule."""
WORD_JOINER: Final = "\u2060"
"""Has no width: breaks what sites turn into links, mentions, references and pictures by themselves."""
LINKED: Final = re.compile(r"(@|#|www\.|://|mailto:|:(?=\w+:))", re.IGNORECASE)
TICKS: Final = re.compile(r"`+")
MAX_CODE: Final = 60


def printable(text: str) -> str:
    """Without what would steer a reader's screen: line ends and other controls, bidirectional marks."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "�" for letter in text)


def prose(text: str) -> str:
    """A sentence whose every character stands for itself."""
    broken = LINKED.sub(lambda found: found[0][:1] + WORD_JOINER + found[0][1:], printable(text))
    return FIRST.sub(r"\1\\\2", MARKS.sub(r"\\\1", broken))


def code(text: str, longest: int = MAX_CODE) -> str:
    """A name as a span of code, also inside a table."""
    shown = cut(printable(text), longest).strip() or "–"
    fence = "`" * (1 + max(map(len, TICKS.findall(shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}".replace("|", r"\|")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[int] = ()) -> list[str]:
    """Lines of a table, its first column and those of `left` to the left, others to the right; cells are Markdown already."""
    rule = [":--" if place == 0 or place in left else "--:" for place in range(len(headers))]
    return ["| " + " | ".join(cells) + " |" for cells in (headers, rule, *rows)]


def folded(title: str, lines: Iterable[str]) -> list[str]:
    """Lines that open on a click. title: plain words of ours."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]
