"""`moesim calibrate`: hands the options to hwprofiles.calibration, which alone knows torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def calibrate_gpu(out: Path, **options: Any) -> None:
    """Measures and writes the stack folder; leaves with the exit code of `python -m hwprofiles.calibration calibrate`.

    options: fields of calibrate.cli.Asked.
    """
    from hwprofiles.calibration.calibrate.cli import Asked, calibrate

    code = calibrate(Asked(out, **options))
    if code:
        raise typer.Exit(code)
