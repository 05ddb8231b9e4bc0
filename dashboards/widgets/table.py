"""A table of few rows, whose texts are shown as they are."""

from __future__ import annotations

from typing import Any

import streamlit as st


def table(frame: Any, key: str, columns: dict[str, Any] | None = None, **options: Any) -> Any:
    """Show a pandas DataFrame of simulator/report/frames without its index; columns: Streamlit's column configuration."""
    return st.dataframe(frame, key=key, hide_index=True, width="stretch", column_config=columns, **options)
