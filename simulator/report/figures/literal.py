"""Text from scenarios and documents inside figures: plotly reads a few tags, links and entities, so these are taken apart."""

from __future__ import annotations

from typing import Final

ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
LONGEST: Final = 40


def literal(text: str, longest: int = LONGEST) -> str:
    """The text as a label that plotly shows as it is: no tag, no link, no control character, at most so many letters.

    It belongs into `text`, `customdata` or a tick label, never into a template: that would read %{...} in it.
    """
    shown = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(letter if letter.isprintable() else "�" for letter in shown).translate(ENTITIES)
