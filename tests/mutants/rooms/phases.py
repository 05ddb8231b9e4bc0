"""Faults of phases, ramps, GPU-hours and money."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

PHASES = Room(
    "phases",
    ("tests/run", "tests/results/test_interval_ends.py"),
    (
        Fault(
            "simulator/run/batch_ramp.py",
            "return Level(batch, tokens, tokens / (batch.global_batch_size * seq_len))",
            "return Level(batch, tokens, tokens / batch.global_batch_size)",
            "a step trains a token of each sequence",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "share = min(1.0, tokens / each.tokens, steps / each.steps)",
            "share = min(1.0, tokens / each.tokens)",
            "a phase cut by steps runs its whole ramp",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "if num_micro_batches >= minimum or schedule_below is None",
            "if num_micro_batches > minimum or schedule_below is None",
            "the smallest batch of a schedule runs the other one",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "chosen.add(longest[len(longest) // 2])",
            "chosen.add(longest[0])",
            "a ramp is interpolated between its ends alone",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "return simulated[lower] + share * (simulated[upper] - simulated[lower])",
            "return simulated[upper] + share * (simulated[lower] - simulated[upper])",
            "step times interpolate backwards",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "return max(errors) if errors else None",
            "return min(errors) if errors else None",
            "the smallest error of interpolation is told",
        ),
        Fault(
            "simulator/run/step_key.py",
            '("name", "phases", "prices", "start_date", "currency")',
            '("name", "phases", "prices", "start_date", "currency", "seed")',
            "another seed takes kept steps",
        ),
        Fault(
            "simulator/run/step_key.py",
            '("name", "phases", "prices", "start_date", "currency")',
            '("name", "phases", "start_date", "currency")',
            "another price simulates again",
        ),
        Fault(
            "simulator/run/kept_steps.py",
            "for size in batch_sizes(scenario) if size not in kept.steps",
            "for size in batch_sizes(scenario)",
            "kept steps are simulated again",
        ),
        Fault(
            "simulator/run/kept_steps.py",
            "return self._of(scenario).changes",
            "return {}",
            "what the assumptions are worth is lost",
        ),
        Fault(
            "simulator/run/kept_steps.py",
            "        if key == self.key:\n            return self\n",
            "        if self.key:\n            return self\n",
            "kept steps answer for any scenario",
        ),
        Fault(
            "simulator/run/economics.py",
            "((hours.value, price.value), (hours.low, price.low), (hours.high, price.high))",
            "((hours.value, price.value), (hours.low, price.value), (hours.high, price.value))",
            "the range of a price is ignored",
        ),
        Fault(
            "simulator/run/economics.py",
            "return num_gpus * wall_s / SECONDS_PER_HOUR",
            "return num_gpus * wall_s / 3660.0",
            "an hour has 61 minutes",
        ),
        Fault(
            "simulator/run/economics.py",
            "Price.of(entry.usd_per_gpu_hour, source, entry.low, entry.high, **origin)",
            "Price.of(entry.usd_per_gpu_hour, source, **origin)",
            "a sheet's price has no range",
        ),
        Fault(
            "simulator/run/phases.py",
            'tokens_left = limits["tokens"] - math.fsum(each.tokens for each in ramp)',
            'tokens_left = limits["tokens"]',
            "tokens of the ramp are trained twice",
        ),
        Fault(
            "simulator/run/phases.py",
            "dp(scenario) * training.micro_batch_size,",
            "dp(scenario),",
            "a ramp steps by single sequences",
        ),
        Fault(
            "simulator/run/phases.py", "and scenario.mechanisms.batch_ramp\n", "\n", "the ramp cannot be switched off"
        ),
        Fault(
            "simulator/run/phase_runs.py",
            '"low": {size: result.step.interval.low for',
            '"low": {size: result.step.step_s for',
            "GPU-hours have no low end",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "hours_per_token = gpu_hours(run.num_gpus, step.step_s) / useful",
            "hours_per_token = gpu_hours(run.num_gpus, step.interval.high) / useful",
            "steady state at the high end",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "(math.fsum(getattr(change, end) * hours for change, hours in found)",
            "(math.fsum(getattr(change, end) for change, hours in found)",
            "effects are shares, not hours",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "longest[len(longest) // 2]",
            "longest[len(longest) // 3]",
            "the point between the ends stands at a third",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "/ (full - start), 0.0) * over_tokens",
            "/ full, 0.0) * over_tokens",
            "the ramp's line starts at an empty batch",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "nearest = min(sizes, key=lambda size: abs(size.global_batch_size - start))",
            "nearest = next(size for size in sizes if size.global_batch_size >= start)",
            "a ramp starts at the next size above, not at the nearest",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "    if set(sizes) <= set(simulated):\n        return 0.0\n",
            "",
            "a ramp all of whose sizes are simulated tells an error",
        ),
        Fault(
            "simulator/run/economics.py",
            "ROUND_HALF_EVEN) for",
            '"ROUND_DOWN") for',
            "money is cut off, not rounded",
        ),
        Fault(
            "simulator/run/economics.py",
            "return Decimal(repr(float(number)))",
            "return Decimal(number)",
            "a price is the float's binary value",
        ),
        Fault(
            "simulator/run/economics.py",
            'f"{sheet.name}, {sheet.date}: {entry.source}"',
            'f"{sheet.name}: {entry.source}"',
            "a sheet's price does not say its date",
        ),
        Fault(
            "simulator/run/phases.py",
            'step_s=times["value"][plan.full],',
            "step_s=wall.value / math.fsum(each.steps for each in plan.levels),",
            "a phase tells the mean step, ramp included",
        ),
        Fault(
            "simulator/run/phases.py",
            "ramp.from_ < scenario.training.global_batch_size and",
            "ramp.from_ <= scenario.training.global_batch_size and",
            "a ramp from the full batch counts as one",
        ),
        Fault(
            "simulator/run/phases.py",
            "wall = _wall(plan.ramp, times)",
            "wall = wall_time(plan, times)",
            "a ramp takes as long as its phase",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "run.changes if run.joint is None else run.joint, run.hours.value)",
            "run.changes if run.joint is None else run.joint, run.hours.high)",
            "effects are shares of the most GPU-hours",
        ),
        Fault(
            "simulator/run/training_run.py",
            "steady_state_of(runs[0])",
            "steady_state_of(runs[-1])",
            "steady state has the tokens of the last phase",
        ),
        Fault(
            "simulator/run/training_run.py",
            'return document | {"assumptions": canonical(document["assumptions"])}',
            "return document",
            "overrides stand in the order of the file",
        ),
        Fault(
            "simulator/run/training_run.py",
            "seed=scenario.seed,",
            "seed=0,",
            "the document says that the seed is 0",
        ),
        Fault(
            "simulator/run/phases.py",
            "tokens=math.fsum(each.tokens for each in plan.ramp),",
            "tokens=plan.phase.batch_ramp.over_tokens if plan.phase.batch_ramp else 1.0,",
            "a ramp that is cut short has all its tokens",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "if schedule_below is None and minimum > 1 and start < minimum",
            "if schedule_below is None and minimum > 1 and start <= minimum",
            "a ramp from the least batch is refused in a run",
        ),
        Fault(
            "simulator/run/training_run.py",
            "stack_kind=stack_kind(scenario.stack),",
            'stack_kind="measured",',
            "every stack is told to be measured",
        ),
        Fault(
            "simulator/run/training_run.py",
            "warnings=scenario.warnings,",
            "warnings=scenario.warnings[:1],",
            "one warning is kept in the document",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "return self.plan.scenario.cluster.num_gpus",
            "return 64",
            "every phase has the same GPUs",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "prices = [price_of(each) for each in own]",
            "prices = [price_of(scenario) for each in own]",
            "a phase's own price is ignored",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "groups.setdefault(step_key(each), []).append(idx)",
            "groups.setdefault(str(idx), []).append(idx)",
            "equal steps of two phases are simulated twice",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "else run.joint, run.hours.value) for run in runs]",
            "else run.joint, run.hours.value) for run in runs[:1]]",
            "an assumption acts in the first phase alone",
        ),
        Fault(
            "simulator/run/joint_run.py",
            "at_low=hours(stated, 1.0 + each.at_low) / whole - 1.0,",
            "at_low=each.at_low,",
            "a step moves all hours of a phase that has others beside it",
        ),
        Fault(
            "simulator/results/sensitivity.py",
            "effect_low=value * source.at_low,",
            "effect_low=source.at_low,",
            "effects are told as shares",
        ),
        Fault(
            "simulator/report/narrowing.py",
            "result.totals.ranges if result.totals.ranges is not None else result.step.ranges",
            "result.step.ranges",
            "what would change a run is what would change its first phase's step",
        ),
    ),
)
