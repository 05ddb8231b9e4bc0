"""What a total of GPU-hours or money contains, here and as others publish theirs."""

from __future__ import annotations

from typing import Final

from simulator.report import facts, numbers
from simulator.results.run_result import RunResult

NOTES: Final = (
    "Published GPU-hours are most often a steady rate times the tokens: a total that a run really took has ramps, failures, "
    "checkpoints and evaluation in it. Compare the column that says the same.",
    "A cost here is a rental price times GPU-hours: storage, data, staff, research, failed experiments and inference are in "
    "none of these figures.",
)
IN, OUT = "in it", "not in it"


def rows(result: RunResult) -> tuple[tuple[str, str, str], ...]:
    """(what, in this report's total, in a total at full batch)."""
    totals, steady = result.totals, result.steady_state
    half = totals.gpu_hours.interval.width / 2
    found = [
        ("GPU-hours", facts.estimate(totals.gpu_hours), numbers.quantity(steady.gpu_hours, half)),
        ("per trillion tokens", "", numbers.amount(steady.gpu_hours_per_trillion_tokens)),
    ]
    if totals.cost_usd is not None and steady.cost_usd is not None:
        width = totals.cost_usd.interval.width / 2
        found.append(("cost", numbers.usd(totals.cost_usd.value, width), numbers.usd(steady.cost_usd, width)))
    ramps = [phase.name for phase in result.phases if phase.ramp is not None]
    others = [phase.name for phase in result.phases[1:]]
    failures = "in it" if result.scenario.get("reliability") else OUT
    return (
        *found,
        ("steps of the first phase at full batch", IN, IN),
        ("the first phase's ramp of the batch", IN if ramps else "there is none", OUT),
        ("later phases", f"in it: {', '.join(others)}" if others else "there is none", OUT),
        ("GPUs that idle in their scale-up domains", _idle(result), OUT),
        ("failures, restarts, checkpoints, evaluation", failures, OUT),
    )


def _idle(result: RunResult) -> str:
    paid = result.totals.gpu_hours_paid
    return "there are none" if paid is None else f"not in it; with them {facts.estimate(paid)} GPU-hours"
