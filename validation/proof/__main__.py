"""`python -m validation.proof`."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from hwprofiles.proof_cases.sets import FIRST, SETS, by_products
from hwprofiles.proof_cases.sizes import Products
from simulator.errors import InputError
from validation.instrument.show import print_tables
from validation.proof.compare import KINDS, compared, read
from validation.proof.predict import LAYER_COLUMNS, STEP_COLUMNS, layer_rows, step_rows
from validation.proof.tables import tables


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0, 2 for input that cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.proof", description="Layers and steps of the torch model."
    )
    ways = parser.add_subparsers(dest="way", required=True)
    predict = ways.add_parser("predict", help="write predictions from a stack")
    predict.add_argument("stack", help="its name, or a calibration folder")
    predict.add_argument(
        "-o", "--out", type=Path, required=True, metavar="PREFIX", help="PREFIX-layers.csv, PREFIX-steps.csv"
    )
    predict.add_argument("--cases", default=FIRST, choices=tuple(SETS), help="which proof's (default first)")
    predict.add_argument("--products", default=None, choices=get_args(Products), help="as of the measuring command")
    predict.add_argument("--node", default="h100-x8", help="node of the catalogue (default h100-x8)")
    compare = ways.add_parser("compare", help="print predictions beside a measurement")
    compare.add_argument("predicted", type=Path, metavar="PREFIX")
    compare.add_argument("measured", type=Path, metavar="DIR", help="what python -m hwprofiles.calibration.proof wrote")
    given = parser.parse_args(arguments)
    try:
        if given.way == "predict":
            cases = SETS[given.cases]
            layers, steps = by_products(cases.layers(), given.products), by_products(cases.steps(), given.products)
            _write(given.out, "layers", LAYER_COLUMNS, layer_rows(layers, given.stack, given.node))
            _write(given.out, "steps", STEP_COLUMNS, step_rows(steps, given.stack, given.node))
        else:
            predicted = [_read(_path(given.predicted, kind)) for kind in KINDS]
            measured = [_read(given.measured / f"{kind}.csv") for kind in KINDS]
            if not (any(predicted) and any(measured)):
                raise InputError(f"{given.predicted}-layers.csv, -steps.csv and {given.measured}: nothing to compare")
            proof = compared(given.measured.name, predicted[0], measured[0], predicted[1], measured[1])
            print_tables(tables(proof), sys.stdout)
    except (InputError, OSError) as wrong:
        print(f"proof: {wrong}", file=sys.stderr)
        return 2
    return 0


def _path(prefix: Path, kind: str) -> Path:
    return prefix.with_name(f"{prefix.name}-{kind}.csv")


def _read(path: Path) -> list[dict[str, str]]:
    """Rows of a table; none where a proof has no cases of the kind."""
    return read(path) if path.exists() else []


def _write(prefix: Path, kind: str, columns: Mapping[str, str], rows: Iterator[Mapping[str, Any]]) -> None:
    """A table, unless there is no case."""
    if (first := next(rows, None)) is None:
        return
    with _path(prefix, kind).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        for row in chain((first,), rows):
            writer.writerow(
                {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
