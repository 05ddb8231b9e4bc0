"""Costs that are carried from other GPUs, on GPUs whose measurements were left out."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean

import pytest

from hwprofiles.calibration.fits.transfer import Carried, carried, main
from tests.hwprofiles.test_kernel_table_published import REFERENCE, needs_reference


def error_of(found: list[Carried]) -> float:
    return fmean(abs(math.expm1(-log)) for each in found for log in each.logs)


def test_our_own_hoppers_are_met_by_each_other_within_8_percent(tmp_path: Path) -> None:
    """Without any public table. GEMMs of 1,024 rows and more; a row of the other card itself would err by 8.4 %."""
    found = [each for each in carried(tmp_path / "nowhere") if each.left == "gpu"]
    near = [each for each in found if each.carried_from == "another GPU of its generation"]
    assert {each.gpu for each in near} == {"h100", "h200"}
    for kind in ("GEMM", "grouped", "attention"):
        own = [each for each in near if each.kind.startswith(kind)]
        assert len(own) >= 6 and error_of(own) < 0.045, kind
    assert all(each.error < 0.085 for each in near)
    assert fmean(each.inside for each in near) > 0.9


@pytest.mark.slow
@needs_reference
def test_all_gpus_left_out_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    """8 % from another Hopper, 16 % from another generation; 8-bit attention, Blackwell's FP8 and AMD's are above it."""
    found = [each for each in carried(REFERENCE) if each.carried_from != "no measurement"]
    hopper = [each for each in found if each.gpu in ("h100", "h200", "h800")]
    for kind in ("GEMM", "attention, BF16"):
        own = [each for each in hopper if each.kind.startswith(kind)]
        near = [each for each in own if each.carried_from == "another GPU of its generation"]
        assert error_of(near) < 0.08
        assert error_of([each for each in own if each not in near]) < 0.16
    blackwell = [each for each in found if "b200" in each.gpu and each.left == "family"]
    assert error_of([each for each in blackwell if each.kind.startswith("GEMM")]) < 0.165
    assert error_of([each for each in blackwell if each.kind == "attention, BF16"]) < 0.11
    assert fmean(each.inside for each in found if each.left == "family" and each.kind.startswith(("GEMM", "att"))) > 0.9
    main([str(REFERENCE)])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| h200 |") for line in lines) >= 20
