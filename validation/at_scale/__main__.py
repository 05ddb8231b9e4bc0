"""`python -m validation.at_scale -o FILE.csv [VARIANT ...]`: a run of DeepSeek-V3 a variant of its kernels, some 20 s each."""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwprofiles.names import nearest
from hwprofiles.record_file import CatalogError
from simulator.cli.output import check_output, write_atomically
from simulator.errors import InputError
from validation.at_scale.runs import COLUMNS, VARIANTS, rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for input that cannot be."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(prog="python -m validation.at_scale", description="What kernels mean at scale.")
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"{', '.join(names)}; default: all")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.csv")
    given = parser.parse_args(arguments)
    for name in given.variants:
        if name not in names:
            print(f"VARIANT: no variant is called {name}{nearest(name, names)}", file=sys.stderr)
            return 2
    found = []
    try:
        check_output(given.out, force=True, field="-o")
        with tempfile.TemporaryDirectory() as folder:
            for row in rows(Path(folder), tuple(given.variants)):
                print(f"{row['variant']}: {row['step_s']:.2f} s, {row['gpu_hours']:,.0f} GPU-hours", flush=True)
                found.append(row)
        write_atomically(given.out, as_csv(found))
    except (CatalogError, InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def as_csv(found: Sequence[dict[str, Any]]) -> str:
    """The table; numbers with six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in COLUMNS} for row in found)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
