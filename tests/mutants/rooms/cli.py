"""Faults of exit codes, files and streams."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

CLI = Room(
    "cli",
    ("tests/cli",),
    (
        Fault(
            "simulator/cli/output.py",
            "if path.exists() and not force:",
            "if path.exists() and force:",
            "a file is replaced without being asked",
        ),
        Fault(
            "simulator/cli/output.py",
            "temporary.replace(path)",
            "path.write_text(text)",
            "a file is not replaced at once",
        ),
        Fault(
            "simulator/cli/output.py",
            'print(f"warning: {warning}", file=sys.stderr)',
            'print(f"warning: {warning}")',
            "warnings stand in the document",
        ),
        Fault(
            "simulator/cli/output.py",
            "json.dumps(value, indent=2, allow_nan=False)",
            "json.dumps(value, indent=2)",
            "NaN is written as JSON",
        ),
    ),
)
