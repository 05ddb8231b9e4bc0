"""Faults of the What-if page: its controls, answers, differences, remedies and file."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

WHAT_IF = Room(
    "what_if",
    ("tests/dashboards/test_what_if.py", "tests/dashboards/test_link.py"),
    (
        Fault(
            "dashboards/answers.py",
            "late = [jobs.of(*each, later=True) for each in whole]",
            "late = [jobs.of(*each) for each in whole]",
            "a refinement goes before first answers",
        ),
        Fault(
            "dashboards/views/what_if.py",
            "if answer.is_first else None) or base.result",
            "if answer.is_whole else None) or base.result",
            "a first answer is compared with other draws",
        ),
        Fault(
            "dashboards/controls.py",
            "asked.source)) != text:",
            "asked.source)) == text:",
            "a control that is moved changes nothing",
        ),
        Fault(
            "dashboards/exported.py",
            "if source.text is not None:",
            "if source.text is None:",
            "a preset's file repeats every key",
        ),
        Fault(
            "dashboards/views/what_if.py",
            "return asked.pinned or asked.source.plain()",
            "return asked.source.plain()",
            "what is pinned is not compared with",
        ),
        Fault(
            "simulator/report/what_if.py",
            "'better' if changed.is_better else 'worse'",
            "'worse' if changed.is_better else 'better'",
            "bad news are told as good ones",
        ),
        Fault(
            "dashboards/widgets/run_controls.py",
            'text_of(float(f"{found * GIGA:.12g}"))',
            'text_of(float(f"{found:.12g}"))',
            "a billion tokens are one",
        ),
        Fault(
            "dashboards/widgets/controls.py",
            "kind = text_of(LoadImbalance(load_imbalance=float(given)))",
            "kind = text_of(given)",
            "a given imbalance is no mapping",
        ),
    ),
)
