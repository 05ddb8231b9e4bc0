"""Measures the layers and the steps, one after another, into a folder; a run that was ended goes on where it was."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.host.models import Turns
from hwprofiles.calibration.machine import host
from hwprofiles.calibration.measuring import facts_of, query_gpu
from hwprofiles.calibration.proof import measure_layers, steps
from hwprofiles.calibration.proof.store import Table, begin, finish
from hwprofiles.proof_cases import layer_cases, step_cases
from hwprofiles.proof_cases.sets import SETS, by_products
from hwprofiles.proof_cases.sizes import Products
from hwprofiles.units import MEGA

SIZES: Final[dict[str, tuple[Callable[[], Iterator[Any]], Callable[[], Iterator[Any]]]]] = {
    **{name: (each.layers, each.steps) for name, each in SETS.items()},
    "quick": (layer_cases.quick, step_cases.quick),
    "cpu": (layer_cases.small, step_cases.small),
}
"""Size of a run, or the set of a proof → its layers and its steps."""
BUDGET_S: Final = 470.0
"""Seconds behind which nothing more is begun; what is missing is said, and the next run measures it."""
LAYERS_NOTE: Final = (
    "the torch model of hwprofiles/calibration, random weights, inputs and gradients; loads of experts are forced, routers do "
    "not look for NaN; the GPU waits until a pass is queued whole, then runs it without the host"
)
STEPS_NOTE: Final = (
    "the torch model of hwprofiles/calibration, first weights, random tokens, even loads of experts forced, routers do not "
    "look for NaN, so that nothing in a step waits for the GPU; AdamW with FP32 moments and masters; Python collects no "
    "garbage in a step"
)

HOST_NOTE: Final = "a round of the small models of hwprofiles/calibration/host/models.py in front of each step's case"


@dataclass(frozen=True)
class Work:
    """One case: its name, where its rows go, and what gives them."""

    name: str
    table: Table
    rows: Callable[[], Iterator[Mapping[str, Any]]]


def run(
    folder: Path, device: torch.device, size: str, say: Callable[[str], None], budget_s: float = BUDGET_S,
    products: Products | None = None,
) -> int:  # fmt: skip
    """Exit code 0: all is there; 1: time was up before. Raises CalibrationError: folder or device cannot be used.

    A case that fails is a row whose note says why. products: as of `by_products`.
    """
    begin(folder, {**facts_of(device), "size": f"{size} {products}" if products else size})
    layers = Table(folder / "layers.csv", measure_layers.COLUMNS)
    whole = Table(folder / "steps.csv", steps.COLUMNS)
    missing = [work for work in _works(size, products, device, layers, whole) if not work.table.done(work.name)]
    end, turns = time.monotonic() + budget_s, _turns(size, device) if missing else None
    left = _measure(missing, device, say, end, turns.round if turns else None)
    tables = [(layers, "one row a layer and pass", LAYERS_NOTE), (whole, "one row a model and way", STEPS_NOTE)]
    if turns:
        between = Table(folder / host.TABLE, dict.fromkeys(host.COLUMNS, "as in a calibration's host.csv"))
        between.add(host.cells(row, device) for row in turns.rows())
        tables.append((between, "what small models take the host", HOST_NOTE))
    for table, title, note in tables:
        if table.rows:
            finish(folder, title, table, note)
    if left:
        say(f"time is up: {left} of {len(missing)} cases are missing; the same command measures them")
    return 1 if left else 0


def _turns(size: str, device: torch.device) -> Turns | None:
    """The small models of the set's recipes, where the host is looked at between its steps."""
    if size not in SETS or not SETS[size].looks_at_host:
        return None
    return Turns(device, dict.fromkeys(case.recipe for case in SETS[size].steps()))


def _works(size: str, products: Products | None, device: torch.device, layers: Table, whole: Table) -> Iterator[Work]:
    clock_hz = partial(_clock_hz, device)
    of_layers, of_steps = SIZES[size]
    for case in by_products(of_layers(), products):
        yield Work(case.name, layers, partial(measure_layers.rows_of, case, device, clock_hz))
    for each in by_products(of_steps(), products):
        yield Work(each.name, whole, lambda step=each: iter([steps.row_of(step, device, clock_hz)]))  # type: ignore[misc]


def _measure(
    works: Sequence[Work], device: torch.device, say: Callable[[str], None], end: float,
    before: Callable[[], None] | None = None,
) -> int:  # fmt: skip
    """How many were left when the time was up. before: called in front of each case."""
    for number, work in enumerate(works):
        if time.monotonic() > end:
            return len(works) - number
        begun = time.monotonic()
        if before:
            before()
        try:
            rows = list(work.rows())
        except torch.OutOfMemoryError:
            rows = [{"name": work.name, "note": "not enough memory on the GPU"}]
        except (RuntimeError, CalibrationError) as wrong:
            rows = [{"name": work.name, "note": " ".join(str(wrong).split())[:200]}]
        work.table.add(rows)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        told = next((str(row["note"]) for row in rows if row.get("note")), f"{time.monotonic() - begun:.1f} s")
        say(f"{number + 1}/{len(works)} {work.name}: {told}")
    return 0


def _clock_hz(device: torch.device) -> Any:
    if device.type != "cuda":
        return ""
    try:
        return float(query_gpu(device.index or 0, "clocks.sm")) * MEGA
    except (OSError, ValueError):
        return ""
