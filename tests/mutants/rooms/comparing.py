"""Faults of what is said of two runs, and of how right the method is."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

COMPARING = Room(
    "comparing",
    (
        "tests/results/test_comparison.py",
        "tests/report/test_comparison_report.py",
        "tests/report/test_compare_figures.py",
        "tests/report/test_accuracy.py",
        "tests/report/test_accuracy_figures.py",
        "tests/validation/test_accuracy.py",
        "tests/dashboards/test_compare.py",
        "tests/dashboards/test_accuracy.py",
        "tests/cli/test_compare.py",
    ),
    (
        Fault(
            "simulator/results/comparison.py",
            "rest = fsum([total, *(-seconds for seconds in parts.values())])",
            "rest = 0.0",
            "parts of a difference need not sum to it",
        ),
        Fault(
            "simulator/results/comparison.py",
            "name: after.get(name, 0.0) - before.get(name, 0.0)",
            "name: after.get(name, 0.0) - before.get(name, after.get(name, 0.0))",
            "a category that the base has not counts as unchanged",
        ),
        Fault(
            "simulator/results/changes.py",
            "return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)",
            "return bool(one == other)",
            "true is the same as 1",
        ),
        Fault(
            "simulator/results/changes.py",
            "len(set(names)) == len(names)",
            "len(names) > 0",
            "phases of one name hide one another",
        ),
        Fault(
            "simulator/results/compared_figures.py",
            "there.low <= here.high and here.low <= there.high",
            "there.low <= here.high",
            "an interval below another one overlaps it",
        ),
        Fault(
            "simulator/results/compared_figures.py",
            "return float(abs(two - one) / step_s)",
            "return abs(math.log(two / one)) if one and two else math.inf",
            "a sliver of the step that doubles comes first",
        ),
        Fault(
            "simulator/results/compared_figures.py",
            "value * step.step_s / step.interval.high, value * step.step_s / step.interval.low",
            "value * step.interval.low / step.step_s, value * step.interval.high / step.step_s",
            "a rate has the interval of a time",
        ),
        Fault(
            "simulator/report/comparison_text.py",
            "is_better = (row.to < row.from_) == lower",
            "is_better = row.to < row.from_",
            "fewer tokens a second are good news",
        ),
        Fault(
            "simulator/report/comparison_text.py",
            "if base.stack == other.stack and base.version == other.version and shares_assumptions:",
            "if base.version == other.version and shares_assumptions:",
            "runs on two stacks share their errors",
        ),
        Fault(
            "simulator/report/figures/compare.py",
            "return 100.0 * row.to_interval.low / row.from_, value",
            "return 100.0 * row.to_interval.low / row.to, value",
            "an interval is drawn in per cent of its own value",
        ),
        Fault(
            "simulator/report/accuracy.py",
            "return self.measured / self.predicted - 1.0 if self.is_time else self.error_frac",
            "return self.error_frac",
            "a predicted time that is too long counts as too fast",
        ),
        Fault(
            "simulator/report/accuracy.py",
            "1 / self.predicted, 1 / self.high, 1 / self.low",
            "1 / self.predicted, 1 / self.low, 1 / self.high",
            "the ends of a speed's interval are those of the time",
        ),
        Fault(
            "simulator/report/accuracy.py",
            "row: -max(1.0 + row.speed_error_frac, 1.0 / (1.0 + row.speed_error_frac))",
            "row: -row.speed_error_frac",
            "runs that are predicted too slow are never the worst",
        ),
        Fault(
            "simulator/report/accuracy_text.py",
            "if found.coverage < CLAIMED - CLOSE:",
            "if found.coverage < 0.5:",
            "an interval that holds three quarters passes for a good one",
        ),
        Fault(
            "validation/accuracy.py",
            'if (cells["group"] == PUBLISHED and PUBLISHED not in groups)',
            'if (cells["group"] == PUBLISHED and not groups)',
            "writing a case takes the published runs away",
        ),
        Fault(
            "validation/instrument/outcome.py",
            '"step_time_s": "step.step_s",\n    "tflops_per_gpu": "step.tflops.noncausal",',
            '"tflops_per_gpu": "step.tflops.noncausal",\n    "step_time_s": "step.step_s",',
            "a row that gives its step is read as TFLOP/s",
        ),
        Fault(
            "dashboards/compared.py",
            '"draws": answer.all_draws}',
            '"draws": answer.draws}',
            "a first answer passes its few draws off as a changed input",
        ),
    ),
)
