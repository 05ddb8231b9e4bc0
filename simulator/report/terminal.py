"""Writes text to a terminal, a pipe or a file, in the columns, colours and letters that it can show.

Plain text where the output is no terminal or NO_COLOR is set; as wide as the terminal or COLUMNS say, between MIN_WIDTH
and MAX_WIDTH; ASCII where the encoding has nothing else.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from typing import Final, TextIO

from rich.console import Console, RenderableType

DEFAULT_WIDTH: Final = 100
"""Columns where neither a terminal nor COLUMNS says how many there are."""
MIN_WIDTH: Final = 60
MAX_WIDTH: Final = 140
ASCII: Final = str.maketrans({"µ": "u", "·": "-", "×": "x", "…": "~", "�": "?", **dict.fromkeys("█▉▊▋▌▍▎▏", "#")})
"""What stands for the report's own characters where the output cannot show them."""


def print_plainly(render: Callable[[int], RenderableType], out: TextIO, width: int | None = None) -> None:
    """Writes what `render` makes of the number of columns, in the colours and letters that `out` can show."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    columns = min(max(width or columns_of(out), MIN_WIDTH), MAX_WIDTH)
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=columns, force_terminal=_is_terminal(out), highlight=False, markup=False, emoji=False
    )
    console.print(render(columns))
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    words = "\n".join(lines) + "\n"
    if not _can_encode(words, encoding):
        words = words.translate(ASCII).encode(encoding, errors="replace").decode(encoding)
    out.write(words)


def columns_of(out: TextIO) -> int:
    """Columns of an output: what COLUMNS says, else the terminal's, else DEFAULT_WIDTH."""
    if _is_terminal(out):
        return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else DEFAULT_WIDTH


def _is_terminal(out: TextIO) -> bool:
    return bool(getattr(out, "isatty", lambda: False)())


def _can_encode(words: str, encoding: str) -> bool:
    try:
        words.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
