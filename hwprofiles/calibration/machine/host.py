"""What issuing work costs the host: the cases of `host` that a stack's own host costs follow from (host_fit).

Seconds of a call: until it returns, nothing else queued; median of the samples with a tenth below and above.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.host import device_calls, layers, models, operators, stacked
from hwprofiles.calibration.host.core import COLUMNS as HOST_COLUMNS
from hwprofiles.calibration.host.core import Case, HostRow, measured, processor
from hwprofiles.calibration.machine.host_fit import LAYERS
from hwprofiles.calibration.machine.part import Emit, Row, Size, told

TABLE: Final = "host.csv"
COLUMNS: Final = (
    "name",
    "call",
    *(each for each in HOST_COLUMNS if each not in ("name", "operators", "kernels")),
    "cpu",
    "device",
)
SAMPLES: Final[dict[Size, int]] = {"full": 30, "quick": 8, "cpu": 1}
MODEL_SAMPLES: Final = 10
"""Of small models, which take turns; by how many of them layers of the torch model are known."""
CALLS_S: Final[dict[Size, float]] = {"full": 40.0, "quick": 8.0, "cpu": 3.0}
"""After which no further case of single calls begins: a host that is slow leaves out the last ones."""
LIMIT_S: Final[dict[Size, float]] = {**CALLS_S, "full": CALLS_S["full"] + 30.0}
REGIONS: Final = (4, 16)
"""Pairs in a compiled region; two sizes give what a kernel and what a region takes."""

Kind = tuple[str, Callable[[torch.device], Iterator[Case]]]


def kinds(size: Size) -> tuple[Kind, ...]:
    """In the order of their worth to a step; graphs first, as a capture allows no other work."""
    if size == "cpu":  # a rehearsal: without a GPU a call is the kernel, and no cost of a launch follows
        return ("waits", device_calls.waits), ("operators", operators.cases), ("collectives", device_calls.collectives)
    found: tuple[Kind, ...] = (
        ("graphs", device_calls.graphs), ("operators", operators.cases), ("modules", stacked.cases),
        ("waits", device_calls.waits), ("loops", layers.loops), ("collectives", device_calls.collectives),
        ("triton_kernels", device_calls.triton_kernels), ("captures", device_calls.captures),
    )  # fmt: skip
    regions = partial(device_calls.compiled, pairs=REGIONS, recorded=(True,))
    if size != "full":
        return found
    return (*found, ("layers", whole_layers), ("compiled", regions))


def whole_layers(device: Any) -> Iterator[Case]:
    """Whose calls are counted: what they take beside one another."""
    wanted = {name.rpartition(" ")[0] for name in LAYERS}
    return (case for case in layers.cases(device, ("bf16",)) if f"{case.name} {case.variant}" in wanted)


def seconds(size: Size) -> float:
    """At most about so long."""
    return LIMIT_S[size]


def measure(device: Any, size: Size, emit: Emit, done: Collection[str] = ()) -> tuple[str, ...]:
    """Rows of host.csv. Returns the kinds that were left out, each with its reason."""
    begin = time.perf_counter()
    left_out: list[str] = []

    for kind, cases in kinds(size):
        try:
            for case in cases(device):
                if time.perf_counter() - begin > CALLS_S[size]:
                    left_out.append(f"host: {kind} from {case.name} {case.variant} on: {CALLS_S[size]:g} s were over")
                    break
                if _name(case) not in done:
                    emit(cells(measured(case, device, SAMPLES[size]), device))
        except (RuntimeError, ImportError, OSError, AttributeError) as error:
            left_out.append(f"host: {kind}: {told(error)}")
    if size == "full" and not any(name.startswith(f"{models.CALL} ") for name in done):
        try:
            for row in models.rows(device, MODEL_SAMPLES):
                emit(cells(row, device))
        except (RuntimeError, ImportError, OSError, AttributeError) as error:
            left_out.append(f"host: models: {told(error)}")
    return tuple(left_out)


def cells(found: HostRow, device: Any) -> Row:
    """A row of host.csv."""
    row = asdict(found)
    return {
        **{key: row[key] for key in HOST_COLUMNS if key in COLUMNS}, "name": _name(found), "call": found.name,
        "cpu": processor(), "device": torch.device(device).type,
    }  # fmt: skip


def _name(of: Case | HostRow) -> str:
    return " ".join(each for each in (of.name, of.variant, of.phase) if each)
