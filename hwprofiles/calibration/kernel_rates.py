"""Rates of the kernels of training steps on this GPU, a row a kernel, its sizes and the state of the chip.

    python -m hwprofiles.calibration.kernel_rates --out FILE.csv [--only gemm|grouped|attention|memory|eager] [--quick]

Two states: `first_launches`, the shortest of a few launches after a rest, and `benchmark_loop`, the mean of launches one
behind the other for some 50 ms (median of BATCHES). Launches wait behind a sleeping kernel, so that the host's own time
does not count. Operands take turns and are together larger than the level-2 cache. The kernels come in a shuffled order, always
the same, and rows are written as they come: a run that ends early has some of every kind. A kernel that the GPU or this torch
lacks is a row without seconds that says why.
"""

# ruff: noqa: E402
from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch(__name__)

import csv
import gc
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, Final

import torch

from hwprofiles.calibration.command import Parser, check_output, guarded
from hwprofiles.calibration.measuring import Clock, device_facts
from hwprofiles.calibration.rates.case import COLUMNS, Call, RateCase
from hwprofiles.calibration.rates.kinds import KINDS
from hwprofiles.units import MEBI

MEASURED: Final = ("state", "seconds", "low", "high", "calls", "note")
DEVICE: Final = ("gpu", "power_limit_w", "torch")
REST_S: Final = 0.3
FIRST: Final = 4
"""Launches of which the shortest is the first launches' time; one more goes before the rest, to load the kernel."""
LOOP_S: Final = 0.05
BATCHES: Final = 5
ROTATED_BYTES: Final = 160 * MEBI
"""Operands that take turns are together at least as large: three times the level-2 cache of Hopper."""
MAX_COPIES: Final = 16
MAX_CALLS: Final = 400
HOST_S: Final = 15e-6
"""Time of the host for a launch, more than it takes."""
SEED: Final = 7
SLEEP_CYCLES_PER_S: Final = 2e9


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the CSV file. Exit code: 0, 2 for input or a device that cannot be."""
    return guarded("kernel_rates", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.kernel_rates", description="Times kernels of training steps."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--only", choices=sorted(KINDS), help="kernels of one kind")
    parser.add_argument(
        "--quick", action="store_true", help="a few small kernels: a rehearsal, with --device cpu as well"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="no kernel is begun after that")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("needs a CUDA GPU; --device cpu --quick rehearses without one")
    if given.device == "cpu" and not given.quick:
        parser.error("--device cpu rehearses only; add --quick")
    check_output(given.out)
    device = torch.device(given.device)
    kinds = [given.only] if given.only else list(KINDS)
    cases = [case for kind in kinds for case in KINDS[kind](device, "cpu" if given.quick else "full")]
    random.Random(SEED).shuffle(cases)  # noqa: S311
    facts = device_facts(0) if given.device == "cuda" else {"gpu": "cpu", "torch": torch.__version__}
    with given.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, (*DEVICE, *COLUMNS, *MEASURED), restval="", extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        done = 0
        for rows in measure(cases, device, rest_s=0.0 if given.quick else REST_S, limit_s=given.limit):
            writer.writerows({**facts, **row} for row in rows)
            file.flush()
            done += 1
    print(f"{done} of {len(cases)} kernels")
    return 0


def measure(
    cases: Sequence[RateCase], device: torch.device, *, rest_s: float, limit_s: float
) -> Iterator[list[dict[str, Any]]]:
    """Rows of each case in turn, until limit_s seconds have passed."""
    end = time.monotonic() + limit_s
    for case in cases:
        if time.monotonic() > end:
            return
        try:
            yield [{**case.cells, **row} for row in _time(case, device, rest_s)]
        except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            yield [{**case.cells, "note": lines[0][:160]}]
        if device.type == "cuda":
            gc.collect()


def _time(case: RateCase, device: torch.device, rest_s: float) -> list[dict[str, Any]]:
    """A row a state."""
    copies = min(MAX_COPIES, max(1, math.ceil(ROTATED_BYTES / case.operand_bytes))) if device.type == "cuda" else 1
    calls = cycle([case.make() for _ in range(copies)])
    next(calls)()
    _wait(device)
    time.sleep(rest_s)
    first = _spans(list(islice(calls, FIRST)), device, case.launches, each=True)
    count = min(MAX_CALLS, max(1, round(LOOP_S / BATCHES / min(first))))
    batches = [_spans(list(islice(calls, count)), device, case.launches, each=False)[0] / count for _ in range(BATCHES)]
    return [
        {"state": "first_launches", **_figures(min(first), first), "calls": FIRST},
        {"state": "benchmark_loop", **_figures(statistics.median(batches), batches), "calls": count * BATCHES},
    ]


def _figures(seconds: float, of: Sequence[float]) -> dict[str, str]:
    return {"seconds": f"{seconds:.6g}", "low": f"{min(of):.6g}", "high": f"{max(of):.6g}"}


def _spans(calls: Sequence[Call], device: torch.device, launches: int, *, each: bool) -> list[float]:
    """Seconds of each call, or of all together, launched while the device still sleeps."""
    clock = Clock(device)
    if device.type == "cuda":
        torch.cuda._sleep(int(len(calls) * launches * HOST_S * SLEEP_CYCLES_PER_S))
    moments = [clock.mark()]
    for call in calls:
        call()
        if each:
            moments.append(clock.mark())
    if not each:
        moments.append(clock.mark())
    _wait(device)
    return [clock.between(begin, end) for begin, end in pairwise(moments)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
