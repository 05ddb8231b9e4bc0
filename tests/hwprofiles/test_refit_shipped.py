"""Calibrated stacks that are shipped: their files are what a fit of their own tables writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import hwprofiles
from hwprofiles.calibration.calibrate.folder import POINTS
from hwprofiles.calibration.calibrate.refit import main

STACKS = Path(hwprofiles.__file__).parent / "stacks"
CALIBRATED = sorted(path.parent.name for path in STACKS.glob(f"*/{POINTS}"))


def test_a_calibrated_stack_is_shipped() -> None:
    """Else the test below would try nothing."""
    assert "h100-measured" in CALIBRATED


@pytest.mark.slow
@pytest.mark.parametrize("name", CALIBRATED)
def test_a_shipped_calibration_is_the_fit_of_its_tables(name: str, tmp_path: Path) -> None:
    """Byte by byte, but for provenance.yaml's version of the program."""
    shipped, anew = STACKS / name, tmp_path / name
    shutil.copytree(shipped, anew)
    for path in anew.glob("*parameters.yaml"):
        path.unlink()
    (anew / "kernels.csv").unlink()
    assert main([str(anew)]) == 0
    assert {path.name for path in anew.iterdir()} == {path.name for path in shipped.iterdir()}
    changed = [
        path.name
        for path in shipped.iterdir()
        if path.name != "provenance.yaml" and path.read_bytes() != (anew / path.name).read_bytes()
    ]
    assert not changed, f"python -m hwprofiles.calibration refit {name}"
