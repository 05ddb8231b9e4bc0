"""Problems and notices as plain text: what a user wrote is never read as markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import streamlit as st

from simulator.errors import MAX_SHOWN_PROBLEMS, Problem

_MARKUP: Final = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>()#+-.!|~:$&"})


def as_text(text: str) -> str:
    """A text that Streamlit's Markdown shows as it is."""
    return text.translate(_MARKUP)


def show_problems(problems: Sequence[Problem], title: str = "This cannot be computed") -> None:
    """Problems, one a line: key, what is wrong with it, what is allowed."""
    lines = [
        f"- {as_text(': '.join(filter(None, (each.field, each.message))))}" for each in problems[:MAX_SHOWN_PROBLEMS]
    ]
    rest = len(problems) - MAX_SHOWN_PROBLEMS
    more = [f"- and {rest} more"] if rest > 0 else []
    st.error("\n".join([f"**{as_text(title)}**", "", *lines, *more]), icon="⚠️")


def show_notice(text: str) -> None:
    """One line that something was left out."""
    st.warning(as_text(text), icon="ℹ️")
