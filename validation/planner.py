"""How good the planner is: its closed form beside the simulation, layout by layout, and its choice beside the best of them.

    python -m validation.planner -o validation/data/planner_ranks.csv [--case NAME] [--layouts 40]

Of each case so many layouts that fit are drawn at random (a stated seed) from the planner's space and simulated as the planner
simulates; its own 16 stand beside them. A row is a layout. What is said of a case: Spearman's rank correlation over the random
layouts, the screen's error against the simulated peak, and the regret: the choice's step over the least of all rows, less one.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulator.check import load_scenario
from simulator.run.planner.candidates import Candidates
from simulator.run.planner.legal import whole_scenario
from simulator.run.planner.plan import plan_layout
from simulator.run.planner.simulated import SimulatedLayout, simulate_layout
from simulator.scenario.scenario import Scenario

SEED: Final = 1
LAYOUTS: Final = 40
PHASES: Final = [{"name": "pretrain", "steps": 1}]

CASES: Final[Mapping[str, Mapping[str, Any] | tuple[str, tuple[str, ...]]]] = {
    "deepseek-v3-4k-2048-h800": (
        "deepseek-v3", ("training.global_batch_size=4096", "phases.pretrain.batch_ramp=null"),
    ),
    "deepseek-v3-32k-2048-h800": (
        "deepseek-v3", ("training.seq_len=32768", "training.global_batch_size=512", "parallel.schedule=1f1b",
                        "phases.pretrain.batch_ramp=null"),
    ),
    "qwen3-235b-a22b-4k-256-h100": {
        "model": "qwen3-235b-a22b", "cluster": {"node": "h100-x8", "num_gpus": 256}, "phases": PHASES,
        "training": {"seq_len": 4096, "global_batch_size": 512},
    },
    "mixtral-8x22b-4k-224-h100": ("mixtral-8x22b", ("training.global_batch_size=512",)),
    "llama-3.1-70b-8k-256-h100": (
        "llama-3.1-70b", ("training.seq_len=8192", "training.global_batch_size=256"),
    ),
}  # fmt: skip
"""Presets with overrides, or scenarios. Batches are smaller than usual, so that layouts of few replicas simulate in seconds."""


@dataclass(frozen=True)
class Row:
    """A layout. drawn: at random, or one of the planner's own. margins in bytes, of the screen and simulated."""

    case: str
    layout: str
    drawn: str
    screen_peak_bytes: float
    peak_bytes: float
    rough_s: float
    closed_form_s: float
    step_s: float
    is_chosen: bool = False


def scenario_of(case: str) -> Scenario:
    """The scenario of a case."""
    source = CASES[case]
    if isinstance(source, tuple):
        return load_scenario(source[0], source[1])
    return load_scenario({"schema_version": 1, "name": case, **source})


def rows_of(case: str, layouts: int = LAYOUTS) -> Iterator[Row]:
    """The planner's own layouts of a case, then random ones."""
    scenario = scenario_of(case)
    candidates = Candidates(scenario)
    screen, form = candidates.screen, candidates.closed_form
    _, plan = plan_layout(scenario)
    for each in plan.simulated:
        yield Row(
            case, each.layout, "planner", 0.0, screen.usable - each.margin_bytes, 0.0, each.closed_form_s,
            each.step_s or 0.0, each.layout == plan.chosen.layout,
        )  # fmt: skip
    found = sorted(candidates.feasible(every=True))
    random.Random(SEED).shuffle(found)  # noqa: S311 (no secret)
    number = 0
    for layout, margin in found:
        result = simulate_layout(whole_scenario(candidates.space, layout).model_copy(update={"draws": 1}))
        if not isinstance(result, SimulatedLayout):
            continue
        yield Row(
            case, candidates.space.text_of(layout), "random", screen.usable - margin,
            screen.usable - result.margin_bytes, candidates.rough_form.step_s(layout), form.exact(layout).step_s, result.step_s,
        )  # fmt: skip
        number += 1
        if number == layouts:
            return


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation."""
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (one, other))
    return float(np.corrcoef(first, second).item(1))


@dataclass(frozen=True)
class Summary:
    """Of a case's rows. ratio: median of the closed form over the simulation; screen_error: largest, of a peak, relative."""

    case: str
    layouts: int
    spearman: float
    rough_spearman: float
    ratio: float
    regret: float
    screen_mean_error: float
    screen_error: float


def summary(case: str, rows: Sequence[Row]) -> Summary:
    """What is said of a case."""
    drawn = [row for row in rows if row.case == case and row.drawn == "random"]
    steps, formed = [row.step_s for row in drawn], [row.closed_form_s for row in drawn]
    chosen = next(row.step_s for row in rows if row.case == case and row.is_chosen)
    errors: NDArray[np.float64] = np.array([abs(row.screen_peak_bytes / row.peak_bytes - 1.0) for row in drawn])
    return Summary(
        case=case,
        layouts=len(drawn),
        spearman=spearman(steps, formed),
        rough_spearman=spearman(steps, [row.rough_s for row in drawn]),
        ratio=float(np.median(np.array(formed) / np.array(steps))),
        regret=chosen / min(row.step_s for row in rows if row.case == case) - 1.0,
        screen_mean_error=float(errors.mean()),
        screen_error=float(errors.max()),
    )


def read_rows(path: Path) -> list[Row]:
    """The rows of a file."""

    def value(name: str, text: str) -> Any:
        if name == "is_chosen":
            return text == "True"
        return text if name in ("case", "layout", "drawn") else float(text)

    with path.open(newline="") as file:
        return [Row(**{name: value(name, text) for name, text in row.items()}) for row in csv.DictReader(file)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as they come, so that a run that is cut keeps what it has."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in asdict(row).items()}
            )
            file.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the rows, print what is said of each case."""
    parser = argparse.ArgumentParser(prog="python -m validation.planner")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--case", choices=[*CASES], action="append")
    parser.add_argument("--layouts", type=int, default=LAYOUTS)
    parsed = parser.parse_args(arguments)
    cases = parsed.case or list(CASES)
    write_rows(parsed.output, (row for case in cases for row in rows_of(case, parsed.layouts)))
    rows = read_rows(parsed.output)
    for case in cases:
        sys.stdout.write(f"{summary(case, rows)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
