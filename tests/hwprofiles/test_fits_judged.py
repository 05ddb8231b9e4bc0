"""What is said of a fit: ranges of what was left out, of calls too few to leave any out, and rooflines beside it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hwprofiles.calibration.attention_fit import AttentionFit, fit_attention
from hwprofiles.calibration.fits import overlap
from hwprofiles.calibration.fits.attention import Folds
from hwprofiles.calibration.fits.gemm import fit_family, limits_of
from hwprofiles.calibration.fits.judged import best_factor, judge, one_factor, share_inside, spread
from hwprofiles.calibration.fits.memory_forms import without_late
from hwprofiles.calibration.fits.points import MemoryPoint, attention_points
from hwprofiles.calibration.gemm_fit import GemmPoint
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.attention import core_limits
from hwprofiles.kernels.gemm_formula import GemmSize
from hwprofiles.units import MICRO

H100 = load_gpu("h100")


def test_the_range_holds_the_share_that_it_says() -> None:
    """Of residuals of twenty alike groups nine tenths; of three groups it is wider."""
    residuals = [math.sin(1.0 + 12.9898 * i) * 0.1 for i in range(400)]
    groups = [i % 20 for i in range(400)]
    assert share_inside(residuals, groups) == pytest.approx(0.9, abs=0.03)
    few, many = spread(residuals, 3), spread(residuals, 30)
    assert few[0] < many[0] < 0.0 < many[1] < few[1]
    assert judge("x", residuals, groups, residuals, 0.05).error == pytest.approx(2 * 0.1 / math.pi, rel=0.05)


def test_a_roofline_has_its_best_factor() -> None:
    """Of ratios 1 and 2 the factor is 1: 2 weighs half. Without its own group the odd one is judged by the others' factor."""
    assert (
        best_factor([0.0, math.log(2.0)]) == 1.0
        and best_factor([0.0, math.log(2.0), math.log(2.0), math.log(2.1)]) == 2.0
    )
    assert one_factor([math.log(3.0)] * 4, [0, 0, 1, 1]) == pytest.approx(0.0)
    assert one_factor([0.0, 0.0, 0.0, math.log(2.0)], [0, 1, 2, 3]) == pytest.approx(0.125)


def test_a_range_of_errors_on_one_side_holds_the_value() -> None:
    """All calls slower, or all faster, than predicted: the other end is the value itself."""
    assert spread([0.1, 0.2, 0.3], 3)[0] == 0.0 < spread([0.1, 0.2, 0.3], 3)[1]
    assert spread([-0.1, -0.2, -0.3], 3)[1] == 0.0 > spread([-0.1, -0.2, -0.3], 3)[0]


def test_gemms_too_few_to_leave_any_out_have_twice_their_residuals() -> None:
    limits = limits_of(H100, "bf16")
    sizes = [GemmSize(m, 4096, 7168, 1, "fprop", "bf16") for m in (512, 1024, 2048, 4096, 8192)]
    points = [GemmPoint(size, 40.0 * MICRO * (i + 1) ** 1.7) for i, size in enumerate(sizes)]
    fit = fit_family(points, limits, H100)
    assert max(map(abs, fit.residuals)) > 0.01
    assert fit.left_out == pytest.approx([2.0 * each for each in fit.residuals])


def test_a_head_size_of_one_configuration_has_twice_its_residuals() -> None:
    """Without it no constant of its head size is left; the other two configurations are judged blind."""
    points = attention_points(row for heads, size in ((16, 128), (32, 128), (16, 64)) for row in cores(heads, size))
    limits = core_limits(H100, "bf16", "fwd", "cudnn")
    folds = Folds(points, limits, "cudnn")
    whole: AttentionFit = fit_attention(points, limits, "cudnn")
    alone = [i for i, point in enumerate(points) if point.shape.head_dim_qk == 64]
    for i, (residual, left_out) in enumerate(zip(whole.residuals, folds.left_out, strict=True)):
        assert (left_out == pytest.approx(2.0 * residual)) == (i in alone)


def cores(heads: int, size: int) -> list[dict[str, str]]:
    """Three lengths of a configuration, at odd rates."""
    cells = {"op": "attention_fwd", "library": "cudnn", "causal": "true", "batch": "1", "kv_heads": str(heads)}
    dims = {"heads": str(heads), "head_dim_qk": str(size), "head_dim_v": str(size)}
    return [
        {**cells, **dims, "seq": str(seq), "seconds": repr(heads * size * seq**2 * rate)}
        for seq, rate in ((2048, 6e-15), (4096, 5e-15), (16384, 4e-15))
    ]


def test_a_call_that_waited_for_its_host_is_left_out() -> None:
    """Slower than one of as many elements and more bytes."""

    def point(moved: int, seconds: float) -> MemoryPoint:
        return MemoryPoint("copy", "torch", "", "bf16", moved, 1, 1024, 1024, seconds)

    points = [point(1 << 20, 30 * MICRO), point(1 << 21, 10 * MICRO), point(1 << 22, 12 * MICRO)]
    assert without_late(points) == points[1:]


@pytest.mark.parametrize(("measured", "kept"), [((116, 1.2), 1.0 / 1.25), ((122, 1.1), 1.0 / 1.2)])
def test_what_fewer_held_sms_slow_goes_on_in_proportion(measured: tuple[int, float], kept: float) -> None:
    """A core with 16 or 10 SMs held, asked for 20."""
    rows: list[dict[str, Any]] = [{**cores(16, 128)[0], "sms": "132"}, {**cores(16, 128)[0], "sms": str(measured[0])}]
    rows[1]["seconds"] = repr(measured[1] * float(rows[0]["seconds"]))
    assert list(overlap.kept(rows, 132)) == pytest.approx([kept])
