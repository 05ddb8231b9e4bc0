"""python -m validation.page [PART ...]: writes docs/accuracy.md and its picture.

The page is validation/page/text.md, which people write, with blocks of what was predicted. PARTs are runs over the table of
published runs: all (as users have it), gpu, family, source (without what was measured there), mechanisms (one switched off at a
time). Without names all of them are made; with names the blocks of the others stay as the page has them. --saved FOLDER keeps
each part's document as FOLDER/PART.json and reads the ones that are there, so that slow parts can be made apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulator.cli.output import write_atomically
from simulator.errors import MoesimError
from validation.page.blocks import BY_PART, blocks
from validation.page.compose import TEXT, blocks_of, check, composed
from validation.page.runs import PARTS, part_document
from validation.page.scatter import scatter
from validation.published.eligible import CASES
from validation.published.row import read_rows

PAGE: Final = Path(__file__).parents[2] / "docs" / "accuracy.md"
PICTURE: Final = "images/accuracy.svg"
"""Beside the page."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a table, saved document or text that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all of them")
    parser.add_argument(
        "--cases", type=Path, default=CASES, help="table of measured runs (default: the published ones)"
    )
    parser.add_argument("--saved", type=Path, help="folder of the parts' documents, read and written")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page (default: docs/accuracy.md)")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        print(f"PART: no part is called {', '.join(unknown)}; allowed {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        write(given.parts or list(PARTS), given.cases, given.saved, given.page)
    except (MoesimError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def write(parts: Sequence[str], cases: Path, saved: Path | None, page: Path) -> None:
    """The page, with these parts made anew. Raises MoesimError and OSError."""
    text = TEXT.read_text(encoding="utf-8")
    before = blocks_of(page.read_text(encoding="utf-8")) if page.is_file() else {}
    check(text, {*before, *(block for part in ("", *parts) for block in BY_PART[part])})
    rows = read_rows(cases)
    documents = {name: part_document(name, rows, saved) for name in PARTS if name in parts}
    written = composed(text, {**before, **blocks(documents, PICTURE)})
    if "all" in documents:
        (page.parent / PICTURE).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(page.parent / PICTURE, scatter(documents["all"]["cases"]))
    write_atomically(page, written)


if __name__ == "__main__":
    sys.exit(main())
