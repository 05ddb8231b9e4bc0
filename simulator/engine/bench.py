"""How fast the compiled engine is beside the reference, on the same graph in one run, and that both say the same."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from simulator.engine.dag import FloatArray, StepDag
from simulator.engine.reference import simulate_reference
from simulator.engine.sweep import sweep

NUM_SWEEPS = 5


def bench(dag: StepDag, class_seconds: FloatArray, draws: FloatArray | None = None) -> dict[str, Any]:
    """Runs both engines.

    num_ops: operators times lanes. reference_s, sweep_s: wall seconds (of the sweep, the median of 5 after one that
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
        "equal": bool(
            np.array_equal(reference.start_s, swept.start_s) and np.array_equal(reference.finish_s, swept.finish_s)
        ),
    }
