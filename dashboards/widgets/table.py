"""A table of few rows, whose texts are shown as they are."""

from __future__ import annotations

from typing import Any, Final

import streamlit as st

ROW_HEIGHT: Final = 35
"""Pixels of a row, and of the header."""
MOST_ROWS: Final = 10
"""Rows that are shown without scrolling: whole ones, so that nobody reads half a row."""


def table(frame: Any, key: str, columns: dict[str, Any] | None = None, **options: Any) -> Any:
    """Show a pandas DataFrame of simulator/report/frames, or its Styler, without its index; columns: their configuration."""
    if len(frame.index) > MOST_ROWS:
        options.setdefault("height", ROW_HEIGHT * (MOST_ROWS + 1) + 2)
    return st.dataframe(frame, key=key, hide_index=True, width="stretch", column_config=columns, **options)
