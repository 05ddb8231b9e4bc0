"""Planted faults, and the tool that asks whether the tests see them: `python -m tests.mutants`."""
