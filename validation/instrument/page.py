"""python -m validation.instrument.page RESULT.json PAGE.md: writes the tables of a validation into a page, in place.

RESULT.json: what `moesim validate --cases FILE.csv [--leave-out GROUP] [--ablate all] --json` printed. The page says where the
tables stand by a line `<!-- tables of moesim validate --cases -->`, with ` --leave-out GROUP` behind it for those of a group
and ` --ablate` for that of the mechanisms, and a line `<!-- end of tables -->` behind them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from simulator.cli.output import write_atomically
from simulator.errors import InputError, Problem
from validation.instrument.show import markdown
from validation.instrument.table import Table
from validation.instrument.tables import mechanisms, tables

END: Final = "<!-- end of tables -->"
MECHANISMS: Final = "<!-- tables of moesim validate --cases --ablate -->"
PART: Final = ("mechanisms", "deepseek_v3_step_s")
"""Keys of a document that its table of mechanisms is made of."""


def mark(document: Mapping[str, Any]) -> str:
    """The line before the document's tables."""
    group = document.get("left_out")
    return f"<!-- tables of moesim validate --cases{f' --leave-out {group}' if group else ''} -->"


def with_tables(page: str, document: Mapping[str, Any]) -> str:
    """The page with the document's tables between its marks. Raises InputError where a mark is missing."""
    runs = {key: value for key, value in document.items() if key not in PART}
    page = _between(page, mark(document), tables(runs))
    return _between(page, MECHANISMS, [mechanisms(document)]) if runs != document else page


def _between(page: str, first: str, found: Sequence[Table]) -> str:
    before, has_mark, rest = page.partition(f"{first}\n")
    _, closed, after = rest.partition(END)
    if not has_mark or not closed:
        raise InputError(
            [Problem("", "PAGE", f"has no line {first} with {END} behind it; put both where the tables go")]
        )
    return f"{before}{first}\n\n{markdown(found)}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a page or document that cannot be read or has no place for the tables."""
    parser = argparse.ArgumentParser(prog="python -m validation.instrument.page", description=__doc__)
    parser.add_argument("result", type=Path, help="document of moesim validate --cases FILE.csv --json")
    parser.add_argument("page", type=Path, help="Markdown page with the marks, docs/accuracy.md")
    given = parser.parse_args(arguments)
    try:
        document = json.loads(given.result.read_text(encoding="utf-8"))
        page = with_tables(given.page.read_text(encoding="utf-8"), document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(
            f"{given.result}: is no document of moesim validate --cases, or cannot be read ({error})", file=sys.stderr
        )
        return 2
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    write_atomically(given.page, page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
