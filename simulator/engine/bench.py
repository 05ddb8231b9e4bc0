"""How fast the compiled engine is beside the reference, on the same graph in one run, and that both say the same."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from simulator.engine.dag import FloatArray, StepDag, Timeline
from simulator.engine.reference import simulate_reference
from simulator.engine.sweep import sweep, sweep_batch

NUM_SWEEPS = 21


def bench(dag: StepDag, class_seconds: FloatArray, draws: FloatArray | None = None) -> dict[str, Any]:
    """Runs both engines.

    num_ops: operators times lanes. reference_s, sweep_s: wall seconds (of the sweep, the median of 21 after one that
    compiles). ratio_sweep_over_simpy: operators a second of the sweep over those of simpy. makespan_*: hex floats.
    equal: every start and finish agrees bit for bit. Raises InconsistentSimulation as the engines do.
    """
    began = time.perf_counter()
    reference = simulate_reference(dag, class_seconds, draws)
    reference_s = time.perf_counter() - began
    swept = sweep(dag, class_seconds, draws)
    sweeps_s = []
    for _ in range(NUM_SWEEPS):
        began = time.perf_counter()
        swept = sweep(dag, class_seconds, draws)
        sweeps_s.append(time.perf_counter() - began)
    sweep_s = float(np.median(sweeps_s))
    return {
        "num_ops": int(swept.finish_s.size),
        "reference_s": reference_s,
        "sweep_s": sweep_s,
        "ratio_sweep_over_simpy": reference_s / sweep_s,
        "makespan_reference": reference.makespan_s.hex(),
        "makespan_sweep": swept.makespan_s.hex(),
        "equal": _are_equal(reference, swept),
    }


def are_draws_equal(dag: StepDag, class_seconds: FloatArray, draws_batch: FloatArray) -> bool:
    """Whether the engines agree bit for bit in every draw: each start and finish, and the makespans of the batch.

    draws_batch (draws, draw rows, lanes). Raises InconsistentSimulation as the engines do.
    """
    batch = sweep_batch(dag, class_seconds, draws_batch)
    for draws, makespan_s in zip(draws_batch, batch.makespan_s, strict=True):
        reference = simulate_reference(dag, class_seconds, draws)
        if reference.makespan_s != makespan_s or not _are_equal(reference, sweep(dag, class_seconds, draws)):
            return False
    return True


def _are_equal(one: Timeline, other: Timeline) -> bool:
    """Bit for bit: no time is NaN, and none is a negative zero."""
    return bool(np.array_equal(one.start_s, other.start_s) and np.array_equal(one.finish_s, other.finish_s))
