"""Faults of what people read: the report, its numbers, the summaries behind it, README."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

REPORT = Room(
    "report",
    ("tests/report", "tests/results", "tests/test_readme.py"),
    (
        Fault(
            "simulator/report/numbers.py",
            "({interval.low:,.{decimals}f} to",
            "({step_s:,.{decimals}f} to",
            "the low end of the headline interval is the step",
        ),
        Fault(
            "simulator/report/numbers.py",
            "1.0) * width * 8)",
            "1.0) * (width - 1) * 8)",
            "a full bar is a letter too short",
        ),
        Fault(
            "simulator/report/numbers.py",
            'rounded = float(f"{abs(value):.{DEFAULT_DIGITS - 1}e}")  # 99.96',
            "rounded = abs(value)  # 99.96",
            "99.99 has a decimal more than 100",
        ),
        Fault(
            "simulator/report/layout.py",
            "numbers.bar(fraction / longest, columns)",
            "numbers.bar(fraction, columns)",
            "the longest bar does not fill its width",
        ),
        Fault(
            "simulator/report/layout.py",
            "if needed_width(columns) <= width:",
            "if needed_width(columns) <= 2 * width:",
            "a table that is too wide is not turned",
        ),
        Fault(
            "simulator/report/step_sections.py",
            '("rank 0", parts.edge), ("middle", parts.middle)',
            '("rank 0", parts.middle), ("middle", parts.edge)',
            "the rows of rank 0 and of the middle rank are swapped",
        ),
        Fault(
            "simulator/report/step_sections.py",
            "sorted(result.step.by_category, key=lambda each: -each.seconds)",
            "sorted(result.step.by_category, key=lambda each: each.seconds)",
            "the categories that matter least are shown",
        ),
        Fault(
            "simulator/report/step_sections.py",
            "sorted(result.step.binding, key=lambda each: -each.seconds)",
            "sorted(result.step.binding, key=lambda each: each.seconds)",
            "what binds least comes first",
        ),
        Fault(
            "simulator/report/run_sections.py",
            "if ramp.last_global_batch_size < full:",
            "if False:",
            "a ramp that is never left is told as if it were",
        ),
        Fault(
            "simulator/report/run_sections.py",
            "len(result.phases) == 1 and first.steps <= 1",
            "False",
            "a scenario without a run length shows zeros",
        ),
        Fault(
            "simulator/report/run_sections.py",
            "if base is not None and base.stack_kind != result.stack_kind:",
            "if False:",
            "the heading keeps silent about a stack of another kind",
        ),
        Fault(
            "simulator/report/run_sections.py",
            "(row for row in result.assumptions if _moves(row, result))",
            "(row for row in result.assumptions if row.effect_on_gpu_hours)",
            "assumptions that move nothing are among those that matter most",
        ),
        Fault(
            "simulator/report/terminal.py",
            "return int(given) if given.isascii()",
            "return DEFAULT_WIDTH if given.isascii()",
            "a pipe ignores COLUMNS",
        ),
        Fault(
            "simulator/results/step_result.py",
            "edge=summary(by_rank[:1])",
            "edge=summary(by_rank[-1:])",
            "the edge is the last rank",
        ),
        Fault(
            "simulator/results/widening.py",
            "low=max(0.0, step.step_s - down)",
            "low=step.step_s",
            "the assumptions make no step shorter",
        ),
        Fault(
            "README.md",
            "| bubble, edge rank | 2.06 s |",
            "| bubble, edge rank | 2.16 s |",
            "README's published bubble is another",
        ),
    ),
)
