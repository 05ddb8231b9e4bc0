"""`moesim calibrate`: hands the options to hwprofiles.calibration, which alone knows torch."""

from __future__ import annotations

from pathlib import Path

import typer


def calibrate_gpu(
    out: Path, quick: bool, device: str, gpu: str | None, parts: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """Measures and writes the stack folder; leaves with the exit code of `python -m hwprofiles.calibration calibrate`."""
    from hwprofiles.calibration.calibrate.cli import Asked, calibrate

    code = calibrate(Asked(out, quick, device, gpu, parts, force, as_json))
    if code:
        raise typer.Exit(code)
