"""The command: correctness first, then every product and streaming kernel in turns with torch's, and a summary.

    python -m hwprofiles.calibration.kernel_bench -o FILE.json [--device cpu] [--only dense,grouped …] [--rounds N]
    python -m hwprofiles.calibration.kernel_bench --table FILE.json -o FILE.csv

On a CPU (TRITON_INTERPRET=1) small shapes rehearse all of it; its times mean nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from hwprofiles.calibration.calibrate import facts
from hwprofiles.calibration.command import Parser, check_output, guarded, write_json
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernel_bench import correct, operands, rows, shapes, summary
from hwprofiles.calibration.kernel_bench.contenders import BLOCK, OWN, ROW, contenders
from hwprofiles.calibration.kernel_bench.save import save_table
from hwprofiles.calibration.kernel_bench.shapes import Product
from hwprofiles.calibration.kernel_bench.turns import ROUNDS, Turns
from hwprofiles.calibration.numerics.device import cpu_or_gpu
from hwprofiles.catalog import gpu_of_device, load_gpu
from hwprofiles.names import nearest
from hwprofiles.problem import Problem
from hwprofiles.schema import Gpu

PARTS: Final = ("correct", "dense", "grouped", "streaming", "power")
LEAST_ROUNDS: Final = 15
PROG: Final = "python -m hwprofiles.calibration.kernel_bench"
READ_WATTS: Final = (OWN, BLOCK, ROW)
"""Whose power is read, of shapes.HEAVY, when all times are taken: it heats the chip."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file. Exit code: 0; 1 where a product is wrong; 2 for input or a device that cannot be."""
    return guarded("kernel_bench", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(prog=PROG, description="Own FP8 kernels: errors, and times beside torch's.")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}, joined by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"calls of a median, at least {LEAST_ROUNDS}")
    parser.add_argument(
        "--table", type=Path, metavar="FILE.json", help="write the rows of a measured file as CSV and YAML"
    )
    given = parser.parse_args(arguments)
    check_output(given.out)
    if given.table is not None:
        save_table(given.table, given.out)
        return 0
    device, parts = cpu_or_gpu(given.device), _parts(given.only)
    if given.rounds < LEAST_ROUNDS and device.type == "cuda":
        raise CalibrationError(
            [Problem("", "--rounds", f"{given.rounds} calls make no median; give {LEAST_ROUNDS} or more")]
        )
    result = run(device, parts, given.rounds if device.type == "cuda" else 2, partial(write_json, given.out))
    wrong = [each for each in (*result["correct"], *result["formats"]) if not each["right"]]
    for each in wrong:
        print(f"wrong: {each}", file=sys.stderr)
    return 1 if wrong else 0


def _parts(text: str) -> tuple[str, ...]:
    asked = tuple(filter(None, text.split(",")))
    for part in asked or ("",):
        if part not in PARTS:
            raise CalibrationError([Problem("", "--only", f"{part!r} is no part{nearest(part, PARTS)}")])
    return tuple(part for part in PARTS if part in asked)


def run(device: torch.device, parts: Sequence[str], rounds: int, keep: Callable[[Any], None]) -> dict[str, Any]:
    """The document, which `keep` gets after every part, so that a run that ends early leaves what it has."""
    small = device.type != "cuda"
    found = facts.gather(device, "cpu" if small else "full", tuple(parts)).as_dict()
    known = gpu_of_device(found["device"])
    gpu = load_gpu(known) if known else None
    result: dict[str, Any] = {
        "device": found, "date": time.strftime("%Y-%m-%d"), "gpu": known, "rounds": rounds, "correct": [], "formats": [],
        "rows": [], "summary": [],
    }  # fmt: skip
    if "correct" in parts:
        result["correct"] = list(_told(map(correct.as_row, correct.checks(device, small=small))))
        result["formats"] = list(_told(correct.formats(device, small=small)))
        keep(result)
    turns = Turns(device, rounds)
    timed: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "dense": partial(_products, shapes.dense(small=small), "dense", turns, gpu),
        "grouped": partial(_products, shapes.grouped(small=small), "grouped", turns, gpu),
        "streaming": partial(_streaming, turns, gpu, small=small),
    }
    heavy = shapes.heavy(small=small) if "power" in parts else ()
    for part in parts:
        for each in timed[part]() if part in timed else ():
            result["rows"].append(each)
            print(*summary.table([each]), flush=True)
        result["summary"] = summary.summary(result["rows"])
        keep(result)
    for product in heavy:
        _read_watts(product, turns, result["rows"])
        keep(result)
    print(*summary.lines(result["summary"]), sep="\n", flush=True)
    return result


def _told(checked: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is wrong is printed as it is found, and one line of all."""
    number = wrong = 0
    for each in checked:
        number += 1
        if not each["right"]:
            wrong += 1
            print(f"wrong: {each}", flush=True)
        yield each
    print(f"{number} checks, {wrong} wrong", flush=True)


def _products(products: Iterable[Product], kind: str, turns: Turns, gpu: Gpu | None) -> Iterator[dict[str, Any]]:
    for product in products:
        yield from time_product(product, kind, turns, gpu)


def _streaming(turns: Turns, gpu: Gpu | None, *, small: bool) -> Iterator[dict[str, Any]]:
    """Imported late: Triton is not everywhere."""
    from hwprofiles.calibration.kernel_bench import streaming

    yield from streaming.rows(turns, gpu, small=small)


def time_product(product: Product, kind: str, turns: Turns, gpu: Gpu | None) -> Iterator[dict[str, Any]]:
    """A row a contender; one that cannot run says why."""
    size = product.size
    cells = {
        "kind": kind, "name": product.name, "variant": product.variant, "m": size.m, "n": size.n, "k": size.k,
        "loads": " ".join(map(str, product.counts)),
    }  # fmt: skip
    what = rows.What(cells, product.flop, product.bytes)
    made = operands.of(product, turns.device)
    calls = {}
    for name, make in contenders(made):
        try:
            calls[name] = make()
            calls[name]()
            turns.chip.wait()
        except Exception as wrong:  # compilers and libraries have errors of their own
            calls.pop(name, None)
            yield rows.failed(what, name, correct.reason(wrong))
    if not calls:
        return
    for name, times in turns.times(calls).items():
        yield rows.row(what, name, times, gpu)


def _read_watts(product: Product, turns: Turns, timed: Iterable[dict[str, Any]]) -> None:
    """Into the rows of a product."""
    of_product = {row["library"]: row for row in timed if row["name"] == product.name and row.get("seconds")}
    made = operands.of(product, turns.device)
    for name, make in contenders(made):
        if name in READ_WATTS and name in of_product:
            watts, clock_hz = turns.watts(make(), of_product[name]["seconds"])
            if watts == watts:
                of_product[name] |= {"watts": watts, "watts_clock_hz": clock_hz}
                print(*summary.table([of_product[name]]), flush=True)
