"""What a row's notes say of how it was run and no column holds: dispatcher, scope of CUDA graphs, overlap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from validation.published.row import Row

WORDS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "dispatcher": ((r"\bhybridep\b", "hybridep"), (r"\bdeepep\b", "deepep"), (r"\balltoall\b", "alltoall")),
    "graph_scope": (
        (r"full[_ -]iteration|full cuda graph", "full_iteration"),
        (r"cuda graph transformer_engine|te scoped", "transformer_engine"),
        (r"\blaunch-bound\b|no cuda graph", "none"),
    ),
    "overlap": (
        (r"no ep overlap", "none"),
        (r"ep all-to-all overlap|1f1b overlap", "expert all-to-all"),
        (r"vanilla tp", "none"),
        (r"overlaps dp, tp and pp", "dp, tp and pp"),
        (r"async tp", "tp"),
    ),
}
"""Label → (pattern of the notes and the schedule in lower case, its value); the first that fits."""


def labels(row: Row) -> dict[str, str]:
    """Label → value of those that the row states."""
    prose = f"{row.prose()} | {row.text('schedule').lower()}"
    found = {}
    for label, patterns in WORDS.items():
        value = next((value for pattern, value in patterns if re.search(pattern, prose)), None)
        if value is not None:
            found[label] = value
    return found
