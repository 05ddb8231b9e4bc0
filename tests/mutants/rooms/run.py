"""Faults of the run, of its money and of what it warns of."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

RUN = Room(
    "run",
    ("tests/run", "tests/results", "tests/scenario/test_inherited.py", "tests/scenario/test_ages.py"),
    (
        Fault(
            "simulator/run/economics.py",
            "(hours.high, price.high)",
            "(hours.high, price.value)",
            "a cost's upper end forgets the price's",
        ),
        Fault(
            "simulator/run/phases.py",
            "rest_tokens = min(tokens_left, steps_left * full_batch * useful)",
            "rest_tokens = tokens_left",
            "a phase of steps does not end",
        ),
        Fault(
            "simulator/run/phases.py",
            "last_global_batch_size=plan.ramp[-1].batch",
            "last_global_batch_size=plan.sizes[-1]",
            "a ramp that is cut short says that it ended",
        ),
        Fault(
            "simulator/run/batch_ramp.py",
            "middle = (lower.global_batch_size + upper.global_batch_size) / 2",
            "middle = lower.global_batch_size",
            "a ramp rounds its batches up",
        ),
        Fault(
            "simulator/run/phase_runs.py",
            "return {size: widened(step, changes) for size, step in steps.items()}, changes",
            "return steps, changes",
            "a run's interval forgets the assumptions",
        ),
        Fault(
            "simulator/run/training_run.py",
            "warnings=scenario.warnings",
            "warnings=()",
            "the document keeps no warnings",
        ),
        Fault(
            "simulator/scenario/inherited.py",
            "if base is not None and base.stack_kind != kind:",
            "if base is not None and base.stack_kind == kind:",
            "a stack of another kind is not warned of",
        ),
        Fault(
            "simulator/scenario/inherited.py",
            "and priced != gpu:",
            "and priced == gpu:",
            "a price of another GPU is not warned of",
        ),
        Fault(
            "simulator/scenario/ages.py",
            "if found.is_outdated:",
            "if not found.is_outdated:",
            "young sheets are warned of",
        ),
    ),
)
