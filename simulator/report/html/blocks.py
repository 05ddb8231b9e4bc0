"""What a page is made of. All texts are plain: the templates escape them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Tone = Literal["", "note", "warning", "good", "fair", "bad"]


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph."""

    text: str
    tone: Tone = ""
    kind: Literal["words"] = "words"


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences."""

    texts: tuple[str, ...]
    kind: Literal["items"] = "items"


@dataclass(frozen=True, slots=True)
class Table:
    """caption: what the rows are. The first cell of each row is its header; columns in `left` hold text, others numbers."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = frozenset()
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture. key: unique on the page; alt: the same in words; data: JSON that cannot end its script element."""

    key: str
    caption: str
    alt: str
    height: int
    data: Markup
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that open on a click. is_printed: whether they stand open in print; else they are left out there."""

    summary: str
    blocks: tuple[Block, ...]
    is_printed: bool = True
    kind: Literal["folded"] = "folded"


@dataclass(frozen=True, slots=True)
class Card:
    """A figure of the first screen. sign: a letter that says the same as the tone's colour."""

    label: str
    value: str
    range: str = ""
    notes: tuple[str, ...] = ()
    tone: Tone = ""
    sign: str = ""
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Cards:
    """The first screen."""

    cards: tuple[Card, ...]
    kind: Literal["cards"] = "cards"


Block = Words | Items | Table | Chart | Folded | Cards


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it. key: unique on the page, the anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """Sections of one scenario, or of all of them. title: "" where the page has but one."""

    key: str
    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The whole document. lead: lines below the title; foot: the last line."""

    title: str
    lead: tuple[str, ...]
    chapters: tuple[Chapter, ...]
    foot: str


def section(key: str, title: str, blocks: Sequence[Block | None]) -> Section | None:
    """A section of the blocks that there are; None where there is none."""
    there = tuple(block for block in blocks if block is not None)
    return Section(key, title, there) if there else None
