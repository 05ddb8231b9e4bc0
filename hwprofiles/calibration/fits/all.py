"""All constants of a stack from one table of measured kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hwprofiles.calibration.fits import attention, gemm, memory, overlap
from hwprofiles.calibration.fits.judged import Judged
from hwprofiles.calibration.fits.parameter import Origin
from hwprofiles.calibration.fits.points import Cells
from hwprofiles.schema import Gpu


def fit_points(
    points: Sequence[Cells], gpu: Gpu, where: str = "points.csv of this folder (own measurement)", date: str = ""
) -> tuple[dict[str, Mapping[str, Any]], list[Judged]]:
    """Parameters (key → value, low, high, unit, state, basis, source, as parameters.yaml has them) and what was judged.

    points: rows of points.csv, column → text. where, date: of the parameters' source. Kernels that were not measured, and
    formats that the GPU lacks, have no parameters; GEMMs of fewer than four calls neither.
    """
    found: dict[str, Mapping[str, Any]] = {}
    judged: list[Judged] = []
    for part in (gemm, attention, memory):
        more, verdicts = part.fitted(points, gpu, Origin(where, date))
        found |= more
        judged += verdicts
    found |= overlap.fitted(points, gpu, Origin(where, date))
    return found, judged
