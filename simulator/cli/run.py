"""`moesim run`: load, check, simulate, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from hwprofiles.names import nearest
from hwprofiles.problems import show
from simulator.check import load_scenario
from simulator.cli.output import check_output, option_position, print_warnings, write_atomically
from simulator.errors import InputError, Problem
from simulator.scenario.scenario import Scenario

if TYPE_CHECKING:
    from simulator.step.batches import StepSimulator

ENGINES: Final = ("reference", "sweep")
LONG_S: Final = 60.0
"""A step of the reference that takes longer is announced."""


def run_scenario(
    source: str, overrides: Sequence[str], as_json: bool, out: Path | None, force: bool, engine: str = "sweep"
) -> None:
    """Predict a scenario; the JSON document to standard output (as_json) and to `out`, else the report for people.

    engine: what simulates the steps, "sweep" or "reference" (the same numbers, slowly: a long one is announced).
    Raises InputError before anything is computed or written, MoesimError where writing fails.
    """
    if engine not in ENGINES:
        message = f"no engine {show(engine)}{nearest(engine, ENGINES)}"
        raise InputError([Problem("", "--engine", message)])
    if out is not None:
        check_output(out, force)
    scenario = load_scenario(source, overrides, position_of=option_position)
    print_warnings(scenario.warnings)

    from simulator.report.console import print_run
    from simulator.results.document import to_json
    from simulator.run.beside import StepsBeside
    from simulator.run.training_run import simulate_run

    with StepsBeside(_simulator(scenario, cast(Literal["reference", "sweep"], engine))) as simulate:
        result = simulate_run(scenario, simulate=simulate, report=_searching)
    document = to_json(result)
    if out is not None:
        check_output(out, force)
        write_atomically(out, document)
    if as_json:
        sys.stdout.write(document)
    else:
        print_run(result)
    sys.stdout.flush()


def _searching(phase: str, done: float) -> None:
    """A line on standard error where the search for a phase's layout begins."""
    if done == 0:
        print(f"{phase}: looking for a layout", file=sys.stderr, flush=True)


def _simulator(scenario: Scenario, engine: Literal["reference", "sweep"]) -> StepSimulator:
    """What simulates the steps, by this engine; warns of a long wait."""
    from simulator.step.batches import StepSimulator

    if engine == "sweep":
        return StepSimulator()
    from simulator.engine.reference import BYTES_PER_OP, OPS_PER_S
    from simulator.report import numbers
    from simulator.step.graph import build_graph
    from simulator.step.prepared import prepare

    step = prepare(scenario)
    num_ops = build_graph(step).dag.num_ops
    lanes, draws = (step.random.lanes, scenario.draws) if step.random.is_random else (1, 1)
    needed_s = num_ops * lanes * draws / OPS_PER_S
    if needed_s > LONG_S:
        size = numbers.amount_of_bytes(num_ops * lanes * BYTES_PER_OP)
        work = f"{num_ops:,} operators x {lanes:,} lanes x {draws:,} draws"
        cost = f"about {numbers.seconds(needed_s)} a step and {size} of memory"
        print_warnings([f"--engine reference: {work}: {cost}{_quicker(scenario, lanes, draws)}"])
    return StepSimulator(engine)


def _quicker(scenario: Scenario, lanes: int, draws: int) -> str:
    """'; …' with the options that would shorten a run of the reference; '' where all of them are set already."""
    remedies = []
    if draws > 1:
        remedies.append("--set draws=1 takes less time")
    lone = (("moe.balance=forced", scenario.moe.balance != "forced" and scenario.parallel.ep > 1),
            ("device.speed_cv=0", scenario.device.speed_cv != 0))  # fmt: skip
    options = " ".join(f"--set {option}" for option, helps in lone if helps)
    if lanes > 1 and options:
        remedies.append(f"{options} (one lane) takes little of both")
    return "".join(f"; {remedy}" for remedy in remedies)
