"""`moesim kernels`: seconds of a list of kernel shapes on a stack."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hwprofiles.record_file import CatalogError
from simulator.cli.output import check_output, write_atomically
from simulator.errors import InputError

if TYPE_CHECKING:
    from hwprofiles.stack_records import Stack


def predict_kernels(stack: str, shapes: Path, as_json: bool, out: Path | None, force: bool) -> None:
    """Print, or write to `out`, the rows of `shapes` with what they take on a stack of a name or of a folder.

    Raises InputError with every problem of the stack and of the file; nothing is written then.
    """
    from hwprofiles.kernel_answers import answered_rows, csv_cells
    from hwprofiles.kernel_list import ANSWERS, read_shapes

    if out is not None:
        check_output(out, force, "-o")
    try:
        asked = read_shapes(shapes)
        rows = list(answered_rows(_stack(stack), asked.rows))
    except CatalogError as error:
        raise InputError(error.problems) from None
    if as_json:
        text = json.dumps({"rows": rows}, indent=2, allow_nan=False) + "\n"
    else:
        file = io.StringIO()
        writer = csv.DictWriter(file, [*asked.columns, *ANSWERS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_cells(row, each) for row, each in zip(rows, asked.rows, strict=True))
        text = file.getvalue()
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text)


def _stack(given: str) -> Stack:
    """The stack of a name or a path. Raises CatalogError."""
    from hwprofiles.stack_choice import is_stack, load_stack
    from hwprofiles.stack_folders import looks_like_folder, open_folder

    if looks_like_folder(given) or (not is_stack(given) and Path(given).is_dir()):
        return load_stack(open_folder(Path(given)).stack.name)
    return load_stack(given)
