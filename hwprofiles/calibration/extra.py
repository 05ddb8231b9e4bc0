"""The extra that brings torch: whoever needs it asks here first, and gets a message that names it."""

from __future__ import annotations

import sys
from importlib import import_module

from hwprofiles.calibration.errors import EXIT_BAD_INPUT, INSTALL, MissingExtra


def require_torch(asking: str = "") -> None:
    """Raises MissingExtra where torch cannot be imported; a command (`asking` "__main__") says so in a line and exits with 2.

    A command's package is imported before the command itself has begun: sys.argv[0] is "-m" as long as Python looks for it.
    """
    try:
        import_module("torch")
    except (ImportError, OSError) as wrong:  # OSError: a library that it loads
        reason = "is not installed" if isinstance(wrong, ModuleNotFoundError) else f"cannot be imported ({wrong})"
        message = f"torch {' '.join(reason.split())}; {INSTALL}"
        if asking == "__main__" or sys.argv[:1] == ["-m"]:
            print(message, file=sys.stderr)
            raise SystemExit(EXIT_BAD_INPUT) from None
        raise MissingExtra(message) from None
