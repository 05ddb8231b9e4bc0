"""The figures that everybody asks for first, each as text with its range: what Markdown, HTML and previews begin with."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.report import facts, numbers
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import RunResult

ONE_STEP = "No length of the run is given: these are figures of one step."


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as texts. key: a name that does not change; range: of the 90 % interval, "" where there is none."""

    key: str
    label: str
    value: str
    range: str = ""
    note: str = ""


def figures(result: RunResult) -> tuple[Figure, ...]:
    """Cost, wall clock, memory, GPU-hours, step, throughput and MFU, in this order; no cost where there is no price."""
    totals, step = result.totals, result.step
    rows = [
        cost(result),
        Figure("wall_clock", "Wall clock", duration(totals.wall_s), duration_range(totals.wall_s)),
        memory(result),
        Figure("gpu_hours", "GPU-hours", facts.estimate(totals.gpu_hours), facts.estimate_range(totals.gpu_hours)),
        Figure("step", "Step", *_step(step.step_s, step.interval), f"{numbers.amount(step.tokens_per_step)} tokens"),
        Figure("throughput", "Tokens/s/GPU", throughput(result), _throughput_range(result)),
        Figure(
            "mfu", "MFU", numbers.percent(step.mfu.bf16_dense_causal),
            " to ".join(map(numbers.percent, _ends(step.mfu.bf16_dense_causal, result))),
            f"causal; non-causal {numbers.percent(step.mfu.bf16_dense_noncausal)}; of the dense BF16 peak",
        ),
    ]  # fmt: skip
    return tuple(row for row in rows if row is not None)


def cost(result: RunResult) -> Figure | None:
    """What the run costs, and the price that this rests on; None without a price."""
    total, price = result.totals.cost_usd, result.price
    if total is None:
        return None
    at = "" if price is None else f"at {numbers.usd(price.usd_per_gpu_hour)} per GPU-hour"
    return Figure("cost", "Cost", numbers.usd(total.value, _half(total)), _money_range(total), at)


def memory(result: RunResult) -> Figure:
    """Whether the plan fits, on which stage it is tightest, and by how much."""
    used = result.memory
    worst, margin = used.worst_stage, used.usable_bytes - used.peak_bytes_per_gpu
    share = numbers.percent(abs(margin) / used.usable_bytes)
    room = f"{numbers.amount_of_bytes(abs(margin))} ({share}) {'to spare' if used.fits else 'too much'}"
    low, high = (numbers.amount_of_bytes(worst.peak_bytes * (1 + end)) for end in (used.margin.low, used.margin.high))
    return Figure(
        "memory", "Memory", used.verdict, f"needs {low} to {high} of {numbers.amount_of_bytes(used.capacity_bytes)}",
        f"{room} on the fullest rank, pipeline rank {worst.pp_rank}",
    )  # fmt: skip


def throughput(result: RunResult) -> str:
    """Tokens a second and GPU, with the digits that the step's interval bears."""
    value = result.step.tokens_per_s_per_gpu
    low, high = _ends(value, result)
    return numbers.whole(value, (high - low) / 2)


def duration(found: Estimate) -> str:
    """A wall clock in days, hours or what suits it, with the digits that its interval bears."""
    return numbers.duration_estimate(found.value, found.interval)[0]


def duration_range(found: Estimate) -> str:
    """Its interval, in the same unit."""
    return numbers.duration_estimate(found.value, found.interval)[1]


def is_one_step(result: RunResult) -> bool:
    """Whether the scenario gave no length of its run."""
    return len(result.phases) == 1 and result.phases[0].steps <= 1


def _throughput_range(result: RunResult) -> str:
    low, high = _ends(result.step.tokens_per_s_per_gpu, result)
    return " to ".join(numbers.whole(end, (high - low) / 2) for end in (low, high))


def _ends(value: float, result: RunResult) -> tuple[float, float]:
    """Ends of what falls as the step's time rises; where the step may take no time, the value itself is the upper end."""
    step = result.step
    high = value * step.step_s / step.interval.low if step.interval.low > 0 else value
    return value * step.step_s / step.interval.high, high


def _step(step_s: float, interval: Interval) -> tuple[str, str]:
    value, _, rest = numbers.step_time(step_s, interval).partition(" (")
    return value, f"{rest.rstrip(')')} s"


def _half(found: Estimate) -> float:
    return found.interval.width / 2


def _money_range(found: Estimate) -> str:
    return f"{numbers.amount_range(found.low, found.high)} USD"
