"""`moesim bench`: the compiled engine beside the reference, on the graph of a scenario's own step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from simulator.check import load_scenario
from simulator.cli.output import option_position, print_json, print_warnings
from simulator.engine import are_draws_equal, bench
from simulator.errors import InconsistentSimulation, InputError, Problem
from simulator.report import numbers
from simulator.step.draws import draw_rows
from simulator.step.graph import build_graph
from simulator.step.power import power_of
from simulator.step.prepared import prepare

MAX_DRAWS: Final = 1_000


def bench_scenario(source: str, overrides: Sequence[str], as_json: bool, num_draws: int) -> None:
    """Time both engines on the folded step and compare them: one lane, with the slowest rank's multiplier in every draw row,
    at the speeds that the power limit leaves.

    The first of `num_draws` random draws is timed; all must agree bit for bit. Raises InputError, and
    InconsistentSimulation, after the output, where the engines do not say the same.
    """
    if not 1 <= num_draws <= MAX_DRAWS:
        raise InputError([Problem("", "--draws", f"is out of range ({num_draws}); allowed 1 to {MAX_DRAWS:,}")])
    scenario = load_scenario(source, overrides, position_of=option_position)
    print_warnings(scenario.warnings)
    step = prepare(scenario)
    graph = power_of(step, build_graph(step)).graph
    folded = []
    for draw in range(num_draws if step.random.is_random else 1):
        rows = draw_rows(step.random, graph, draw)
        folded.append(np.ones((graph.dag.num_draw_rows, 1)) if rows is None else rows.max(axis=1, keepdims=True))
    result = bench(graph.dag, graph.class_seconds(), folded[0])
    if len(folded) > 1:
        result["equal"] &= are_draws_equal(graph.dag, graph.class_seconds(), np.stack(folded[1:]))
    if as_json:
        print_json(result)
    else:
        _print_table(result, f"{len(folded):,} draw(s)" if step.random.is_random else "nothing is random")
    if not result["equal"]:
        raise InconsistentSimulation("bench: the compiled engine and the reference disagree")


def _print_table(result: dict[str, Any], compared: str) -> None:
    verdict = "equal bit for bit" if result["equal"] else "NOT equal"
    for label, text in (
        ("operators", numbers.whole(result["num_ops"])),
        ("reference (simpy)", numbers.seconds(result["reference_s"])),
        ("sweep (compiled)", numbers.seconds(result["sweep_s"])),
        ("ratio", numbers.whole(result["ratio_sweep_over_simpy"])),
        ("makespan, reference", f"{result['makespan_reference']} s"),
        ("makespan, sweep", f"{result['makespan_sweep']} s"),
        ("start and finish", f"{verdict} ({compared})"),
    ):
        print(f"{label:<20}  {text}")
