"""Committed figures of the presets: `python -m tests.expected` writes them again."""
