"""What it costs the processor to issue work: torch's operators, autograd, modules, collectives, graphs, waits, whole layers.

    python -m hwprofiles.calibration.host_dispatch -o FILE.csv [--index 0] [--date 2026-11-27] [--quick] [--device cpu]

Runs on one NVIDIA GPU with torch, from one process; tensors are so small that the device is always done first. Seconds of a
call: until it returns, median of SAMPLES samples behind a warm-up, the device idle in front of each. Writes FILE.csv and
FILE.yaml. A kind of case that the machine cannot run is named in `left_out` with the reason.
"""

# ruff: noqa: E402
from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch(__name__)

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from hwprofiles.calibration.command import Parser, check_output, guarded, write_table
from hwprofiles.calibration.host import device_calls, layers, operators
from hwprofiles.calibration.host.core import COLUMNS, Case, HostRow, counted, measured, processor
from hwprofiles.calibration.machine.part import told
from hwprofiles.calibration.measuring import device_facts
from hwprofiles.units import MEGA

SAMPLES: Final = 60
QUICK_SAMPLES: Final = 5

Kind = tuple[str, Callable[[torch.device], Iterator[Case]]]


def kinds(recipes: tuple[str, ...]) -> tuple[Kind, ...]:
    """(name, what gives its cases) in the order of the CSV; graphs first, as a capture allows no other work."""
    return (
        ("graphs", device_calls.graphs),
        ("operators", operators.cases),
        ("waits", device_calls.waits),
        ("layers", partial(layers.cases, recipes=recipes)),
        ("collectives", device_calls.collectives),
        ("triton_kernels", device_calls.triton_kernels),
        ("compiled", device_calls.compiled),
    )


def rows(device: torch.device, samples: int, recipes: tuple[str, ...]) -> tuple[list[HostRow], dict[str, str]]:
    """All rows, and what could not be run: its kind → why.

    Everything is timed before anything is counted: once torch's profiler was attached, calls of the driver stay slower.
    """
    found: dict[tuple[str, ...], HostRow] = {}
    left_out: dict[str, str] = {}

    def timed(case: Case) -> None:
        row = measured(case, device, samples)
        found[key_of(case)] = row
        print(f"{row.host_s * MEGA:9.2f} us  {row.name} {row.variant} {row.phase}", flush=True)

    def looked_into(case: Case) -> None:
        operators, kernels = (number / case.calls for number in counted(case, device))
        found[key_of(case)] = replace(found[key_of(case)], operators=operators, kernels=kernels)

    for work in (timed, looked_into):
        for kind, cases in kinds(recipes):
            try:
                for case in cases(device):
                    work(case)
            except (RuntimeError, ImportError, OSError, AttributeError, KeyError) as error:
                if kind not in left_out:
                    left_out[kind] = told(error)
                    print(f"left out: {kind}: {left_out[kind]}", flush=True)
    return list(found.values()), left_out


def key_of(case: Case) -> tuple[str, ...]:
    """What tells its row from the others."""
    return case.name, case.variant, case.phase


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 for what cannot be measured."""
    return guarded("host_dispatch", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.host_dispatch", description="What issuing work costs a host."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="of the measurement")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES} samples: a rehearsal")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal without a GPU")
    given = parser.parse_args(arguments)
    check_output(given.out)
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_MODULE_LOADING="EAGER")
    on_gpu = given.device == "cuda"
    if on_gpu and torch.cuda.device_count() <= given.index:
        parser.error(f"--index {given.index}: torch finds {torch.cuda.device_count()} GPUs; --device cpu rehearses")
    device = torch.device("cuda", given.index) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    torch.manual_seed(0)
    recipes = ("bf16", "fp8-blockwise") if on_gpu else ("bf16",)
    found, left_out = rows(device, QUICK_SAMPLES if given.quick else SAMPLES, recipes)
    facts: dict[str, Any] = device_facts(given.index) if on_gpu else {"gpu": "none", "torch": torch.__version__}
    facts.pop("index", None)
    facts |= {
        "cpu": processor(), "cpus": os.cpu_count(), "python": platform.python_version(),
        "made_by": "python -m hwprofiles.calibration.host_dispatch", "date": given.date,
        "samples": QUICK_SAMPLES if given.quick else SAMPLES, "left_out": left_out,
    }  # fmt: skip
    write_table(given.out, found, facts, COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
