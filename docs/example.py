"""moesim from Python: a prediction, what it is made of, what it costs, and two what-ifs.

    python docs/example.py [DRAWS]

DRAWS: random draws of the expert load (default: the preset's; fewer are quicker and less exact).
"""

from __future__ import annotations

import sys

from simulator import load_scenario, simulate_run, simulate_step

PRESET = "deepseek-v3"
WHAT_IFS = {
    "experts evenly loaded": "moe.balance=forced",
    "1F1B in place of DualPipe": "parallel.schedule=1f1b",
}


def main() -> None:
    """Prints the prediction; every number of the result is in SI units (seconds, bytes, FLOP, USD)."""
    draws = [f"draws={sys.argv[1]}"] if len(sys.argv) > 1 else []

    # A scenario is a preset or a YAML file, and what differs from it. It is frozen: a change is another scenario.
    scenario = load_scenario(PRESET, draws)
    result = simulate_run(scenario)

    step = result.step
    print(f"step {step.step_s:.2f} s ({step.interval.low:.2f} to {step.interval.high:.2f})")
    print(f"{step.tokens_per_s_per_gpu:,.0f} tokens/s/GPU, MFU {step.mfu.bf16_dense_causal:.1%} of dense BF16, causal")

    # Parts of the step on a rank sum to it: here on pipeline rank 0, in the middle, and the mean over all ranks.
    for name, edge in step.parts.edge.model_dump().items():
        print(f"  {name:<18} {edge:7.3f} {getattr(step.parts.middle, name):7.3f} {getattr(step.parts.mean, name):7.3f}")

    # What binds: what the step would gain if one thing were free, strongest first.
    for binding in step.binding[:3]:
        print(f"  {binding.seconds:6.2f} s {binding.what}: {binding.why}")

    memory = result.memory
    print(f"memory {memory.peak_bytes_per_gpu:,} of {memory.usable_bytes:,} bytes, fits: {memory.fits}")
    hours, cost = result.totals.gpu_hours, result.totals.cost_usd
    print(f"run {hours.value:,.0f} GPU-hours ({hours.low:,.0f} to {hours.high:,.0f})")
    if cost is not None:
        print(f"run {cost.value:,.0f} USD ({cost.low:,.0f} to {cost.high:,.0f})")

    # What if: one step is enough to compare, and takes a few seconds. Warnings say what is odd, or what differs in kind.
    for label, override in WHAT_IFS.items():
        other = load_scenario(PRESET, [*draws, override])
        other_s = simulate_step(other).step.step_s
        print(f"{label}: step {other_s:.2f} s, {other_s / step.step_s - 1:+.1%}")
        for warning in other.warnings:
            print(f"  warning: {warning}")


if __name__ == "__main__":
    main()
