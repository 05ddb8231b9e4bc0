"""The header of a CSV table whose columns are fixed."""

from __future__ import annotations

from collections.abc import Collection


def columns_problem(found: Collection[str] | None, columns: Collection[str]) -> str | None:
    """What is wrong with the header of a table of `columns`, in any order; None where nothing is."""
    missing, unknown = set(columns) - set(found or ()), set(found or ()) - set(columns)
    return f"columns missing {sorted(missing)}, unknown {sorted(unknown)}" if missing or unknown else None
