"""Options, progress, table and JSON of `python -m hwprofiles.calibration.train`. torch is imported when work begins."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Final

from hwprofiles.calibration.command import Parser
from hwprofiles.calibration.errors import EXIT_BAD_INPUT, CalibrationError
from hwprofiles.calibration.extra import require_torch
from hwprofiles.calibration.train.figures import FIRST, LAST, Record, figures, violation
from hwprofiles.problem import Problem

EXIT_INTERRUPTED: Final = 130
MAX_STEPS: Final = 50_000
MAX_SEED: Final = 2**31 - 1
MAX_THREADS: Final = 1024
THREADS: Final = 2
"""Of a CPU, whatever it has: sums in another order would end in other digits."""
REPORT_EVERY: Final = 10
"""Steps between two lines of progress."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 2 for input or a device that cannot be, 130 where somebody ended it."""
    try:
        asked = _asked(argv)
        require_torch()
        records = _train(asked)
    except CalibrationError as wrong:
        print(f"train: {wrong}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("train: ended before its three runs were done; nothing is printed", file=sys.stderr)
        return EXIT_INTERRUPTED
    found = figures(records)
    print(json.dumps(found, indent=2) if asked.json else "\n".join(table(records, found)))
    return 0


def _asked(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m hwprofiles.calibration.train",
        description="Trains a small model of DeepSeek-V3's kind three times: bias rule, no balancing, bias rule in FP8.",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the figures as JSON and nothing else on standard output"
    )
    parser.add_argument("--steps", type=int, default=None, help="of each run (default 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order of the text (default 0)")
    parser.add_argument("--device", default="cpu", help="a device of torch: cpu (default), cuda, cuda:1")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"of a CPU (default {THREADS})")
    parser.add_argument(
        "--own", action="store_true", help="FP8 products by this project's kernels instead of the GPU's library"
    )
    asked = parser.parse_args(argv)
    for name, least, most in (("steps", 2, MAX_STEPS), ("seed", 0, MAX_SEED), ("threads", 1, MAX_THREADS)):
        value = getattr(asked, name)
        if value is not None and not least <= value <= most:
            raise CalibrationError([Problem("", f"--{name}", f"{value} is not between {least} and {most}")])
    return asked


def _train(asked: argparse.Namespace) -> dict[str, Record]:
    """The three runs in order, with a line of progress now and then on standard error."""
    import torch

    from hwprofiles.calibration.numerics.device import cpu_or_gpu
    from hwprofiles.calibration.train.loop import formats, train
    from hwprofiles.calibration.train.settings import MODEL, RUNS, Training

    device = cpu_or_gpu(asked.device)
    runs = {
        name: replace(run, gemms="own") if asked.own and run.recipe == "fp8-blockwise" else run
        for name, run in RUNS.items()
    }
    for run in runs.values():
        formats(run, device)  # what the device has not is said before the first run, not behind the second
    torch.set_num_threads(asked.threads)
    training = Training(seed=asked.seed)
    if asked.steps is not None:
        training = replace(training, steps=asked.steps)

    def tell(run: str, step: int, main: float, mtp: float, loads: Sequence[Sequence[int]]) -> None:
        if step % REPORT_EVERY == 0 or step == training.steps:
            line = f"{run:5} step {step:4} of {training.steps}  loss {main:.3f}  mtp {mtp:.3f}"
            print(f"{line}  max load / mean - 1 {violation(loads):.2f}", file=sys.stderr, flush=True)

    return {
        name: train(MODEL, run, training, device, lambda *seen, name=name: tell(name, *seen))
        for name, run in runs.items()
    }


def table(records: Mapping[str, Record], found: Mapping[str, Any]) -> list[str]:
    """Lines for people: what the JSON holds, a run a line, loads by layer below."""
    lines = [
        f"Losses: nats a byte, means of the first {FIRST} and the last {LAST} steps; violation: the largest over MoE layers of",
        f"max load / mean load - 1, loads summed over the last {LAST} steps. Text: language reference of Python"
        f" {platform.python_version()}.",
        "",
        f"{'run':6}{'loss first':>12}{'loss last':>12}{'mtp first':>12}{'mtp last':>12}{'violation':>12}",
    ]
    for name, record in records.items():
        means = [
            fmean(losses)
            for losses in (record.main[:FIRST], record.main[-LAST:], record.mtp[:FIRST], record.mtp[-LAST:])
        ]
        values = [*means, violation(record.last_loads)]
        lines.append(f"{name:6}" + "".join(f"{value:12.4f}" for value in values))
    lines += [
        "",
        "Loads of the experts over the mean load, by MoE layer (the last is the multi-token-prediction module's)",
    ]
    for name, layers in found["loads"].items():
        for idx, layer in enumerate(layers):
            lines.append(f"{name:6}{idx}  " + " ".join(f"{load / fmean(layer):5.2f}" for load in layer))
    return lines
