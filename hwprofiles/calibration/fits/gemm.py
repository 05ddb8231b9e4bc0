"""GEMMs, dense and grouped: constants of gemm_formula.py by format, pass and whether a launch has several groups.

Judged on whole weight shapes left out, calls of m * n * k >= 2^30 and smaller ones apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hwprofiles.calibration.fits.judged import Judged, judge, spread
from hwprofiles.calibration.fits.overlap import LIMITED
from hwprofiles.calibration.fits.parameter import NEAR, Entry, Origin, parameters
from hwprofiles.calibration.fits.points import (
    OWN_WRITTEN,
    WRITTEN,
    Cells,
    free_sms,
    gemm_points,
    is_alone,
    measured,
    state_of,
)
from hwprofiles.calibration.gemm_families import CUBLAS_TILES, DEEPGEMM_TILES
from hwprofiles.calibration.gemm_fit import (
    BIG,
    STRICT_HUBER,
    GemmFit,
    GemmPoint,
    Prior,
    fit_gemm,
    with_folds,
)
from hwprofiles.calibration.gemm_groups import gemm_entries, priors_of
from hwprofiles.kernels.anchoring import ANCHOR
from hwprofiles.kernels.gemm import OUT
from hwprofiles.kernels.gemm_formula import GemmConstants, GemmLimits, GemmSize, Tiles, gemm_seconds, moved_bytes
from hwprofiles.kernels.parameters import MissingKernelError, peak_flop_per_s
from hwprofiles.kernels.shape import OWN_GEMMS, PEAK_OF_DTYPE
from hwprofiles.schema import Gpu
from hwprofiles.units import MICRO

PASSES: Final = ("fprop", "dgrad", "wgrad")
MIN_POINTS: Final = 4
"""Fewer calls give rows and no constants."""
MIN_SHAPES: Final = 3
"""Weight shapes from which one is left out at a time; of fewer the residuals in fit are doubled."""
GOALS: Final = {"large": 0.05, "small": 0.10, "grouped": 0.07}
SPLITS: Final = 16
"""Parts of K of a single launch, of cuBLAS."""
TILES: Final = {
    ("grouped", "bf16"): Tiles(256, 256, 128), ("grouped", "fp8-row"): CUBLAS_TILES,
    ("deepgemm", "fp8-block"): DEEPGEMM_TILES, ("cublas", "fp8-block"): Tiles(256, 256, 128, bm_min=128),
    ("cublas-fp32-out", "fp8-block"): CUBLAS_TILES, ("cublas", "fp8-row"): Tiles(256, 256, 128, bm_min=128),
    ("cublas-bf16-out", "fp8-row"): Tiles(256, 256, 128, bm_min=128),
    (OWN_GEMMS, "fp8-block"): Tiles(256, 128, 128, bm_min=128), (OWN_WRITTEN, "fp8-block"): Tiles(256, 128, 128, bm_min=128),
}  # fmt: skip
"""Library cell, format → tiles; else those of cuBLAS, with SPLITS. torch's grouped product in BF16 has kernels of 64 rows for
groups of few: on the loads of h100-measured, many of them uneven, its three passes err by 4.5, 6.6 and 5.1 % left out, with
tiles of 256 rows alone by 6.7, 7.1 and 4.9 (on even loads alone, h100-kernel-rates, by 3.5 and 3.6, and by 2.7 and 2.8).
Products scaled by blocks and rows split no K: with splits they err by 6.7 and 7.9 % instead of 2.6 and 4.7.
"""
STEP: Final = Prior(0.15 * MICRO, 0.6)
"""Start and pull of t_step_s."""
SLOW: Final = Prior(2.4, 0.2)
"""Start and pull of what torch's slow kernel of grouped products by rows takes longer."""
SKEW: Final = Prior(1.2, 0.4)
"""Start and pull of what a step takes longer whose operands begin anywhere: 128 bytes of them lie in five sectors of memory."""
NEARER: Final = 0.6
"""Width of priors around another pass's constants over that of the general ones."""
OF_RESULT: Final = ("st_bytes_per_s", "q")
"""Constants that go with what becomes of a result."""
STORE_BESIDE: Final = Prior(1.3, 0.25)
"""Start and pull of q: stores hardly beside the next tile's main loop."""
SERVING: Final = ("cublas", "cublas-fp32-out", "cublas-bf16-out", "grouped", OWN_GEMMS, OWN_WRITTEN)
"""Library cells that become the stack's constants, the first that a pass was measured with, this project's by their name;
others are judged only."""
APART: Final = "loop"
"""Library cell of a launch for each group: no kernel of its own."""


class Family(NamedTuple):
    """Calls of one fit."""

    dtype: str
    library: str
    variant: str
    is_grouped: bool

    @property
    def stem(self) -> str:
        """Prefix of the keys."""
        words = ("gemm", self.dtype, self.named, "grouped" if self.is_grouped else "")
        return ".".join(filter(None, (*words, self.variant if self.variant != "fprop" else "")))

    @property
    def written_stem(self) -> str:
        """The same of weight gradients whose result is written, beside those that are added; "" of others."""
        result = WRITTEN.get(self.library, "")
        return f"{self.stem}.{result}{OUT}" if result and not self.is_grouped else ""

    @property
    def named(self) -> str:
        """The library where its constants go by its name, else ""."""
        return OWN_GEMMS if self.library in (OWN_GEMMS, OWN_WRITTEN) else ""

    @property
    def as_kind(self) -> Family:
        """Whatever its library: kinds of which the first fitted is the one that serves."""
        return self._replace(library=self.named)

    @property
    def nearest(self) -> Family:
        """The forward pass of the format."""
        return self.as_kind._replace(variant="fprop")

    @property
    def own_priors(self) -> Mapping[str, Prior]:
        """Of constants that only its library has."""
        if (self.library, self.dtype) != ("grouped", "fp8-row"):
            return {}
        return {"slow": SLOW, "skew": SKEW} if self.variant == "wgrad" else {"slow": SLOW}

    @property
    def tiles(self) -> Tiles:
        """Of its kernels."""
        return TILES.get((self.library, self.dtype), CUBLAS_TILES._replace(splits=SPLITS))


def limits_of(gpu: Gpu, dtype: str, sms: int = 0) -> GemmLimits:
    """Datasheet limits with so many SMs free (0: all). Raises MissingKernelError where the GPU lacks the format."""
    return GemmLimits(peak_flop_per_s(gpu, dtype), gpu.hbm_bytes_per_s, gpu.num_sms, sms or gpu.num_sms)


def fitted(rows: Sequence[Cells], gpu: Gpu, origin: Origin) -> tuple[dict[str, Mapping[str, Any]], list[Judged]]:
    """Parameters of all GEMM families in the rows, and how right each is."""
    found: dict[str, Mapping[str, Any]] = {}
    judged: list[Judged] = []
    fits: dict[Family, GemmFit] = {}
    for family, own in families(rows, gpu).items():
        points, limits = gemm_points(own), limits_of(gpu, family.dtype)
        if len(points) < MIN_POINTS:
            continue
        fit = fit_family(points, limits, gpu, family.tiles, fits.get(family.nearest), family.own_priors)
        fits.setdefault(family.as_kind, fit)
        stem = family.stem if f"{family.stem}.eta" not in found else family.written_stem
        serves = family.library in SERVING and bool(stem)
        name = stem if serves else f"{family.stem} of {family.library}"
        verdicts = list(_judged(name, family, points, fit, limits))
        judged += verdicts
        if serves:
            judged += _with_fewer_sms(family, fit, rows, gpu) if stem == family.stem else ()
            note = "; ".join(each.line() for each in verdicts)
            shapes = len({point.weight_shape for point in points})
            found |= parameters(_entries(stem, fit, shapes), origin, state_of(own), note)
    return found, judged


def families(rows: Sequence[Cells], gpu: Gpu) -> dict[Family, list[Cells]]:
    """Rows of each family that had the whole chip, those that serve first; formats that the GPU lacks left out."""
    found: dict[Family, list[Cells]] = {}
    for row in measured(rows, "gemm"):
        if row["library"] != APART and not row["library"].endswith(LIMITED) and is_alone(row, gpu.num_sms):
            found.setdefault(_family(row), []).append(row)
    ranked = sorted(
        found, key=lambda family: (family.dtype, family.is_grouped, PASSES.index(family.variant), _rank(family.library))
    )
    return {family: found[family] for family in ranked if _has_format(gpu, family.dtype)}


def _family(row: Cells) -> Family:
    """Of a row. FP8 forward and input gradient are one call: FP8 operands have the summed dimension innermost in both."""
    grouped = int(row.get("groups") or 1) > 1
    is_one = row["variant"] == "dgrad" and PEAK_OF_DTYPE[row["dtype"]] == "fp8"
    return Family(row["dtype"], row["library"], "fprop" if is_one else row["variant"], grouped)


def _rank(library: str) -> tuple[int, str]:
    return (SERVING.index(library) if library in SERVING else len(SERVING)), library


def _has_format(gpu: Gpu, dtype: str) -> bool:
    try:
        peak_flop_per_s(gpu, dtype)
    except MissingKernelError:
        return False
    return True


def fit_family(
    points: Sequence[GemmPoint], limits: GemmLimits, gpu: Gpu, tiles: Tiles = CUBLAS_TILES,
    nearest: GemmFit | None = None, own: Mapping[str, Prior] = MappingProxyType({}),
) -> GemmFit:  # fmt: skip
    """Constants with each weight shape left out once; of few shapes doubled residuals in fit stand for left-out ones.

    nearest: the fit of the format's forward pass, around whose constants those of another pass are sought. own: priors of
    constants that few libraries have.
    """
    general = {
        **priors_of(limits, peak_flop_per_s(gpu, "bf16") / gpu.num_sms, quantises=False), "q": STORE_BESIDE,
        "t_step_s": STEP, **own,
    }  # fmt: skip

    def without(shape: tuple[int, int]) -> Mapping[str, Prior]:
        if nearest is None:
            return general
        return _around(general, nearest.blind.get(shape, nearest.constants))

    priors = general if nearest is None else _around(general, nearest.constants)
    if is_few(points):
        return fit_gemm(points, limits, priors, tiles, STRICT_HUBER, drop_wild=True).doubled()
    return with_folds(points, limits, priors, tiles, STRICT_HUBER, drop_wild=True, without=without)


def _around(general: Mapping[str, Prior], constants: GemmConstants) -> dict[str, Prior]:
    """Priors at another pass's constants, pulled NEARER than the general ones; the store's stays, results differ."""
    return {
        name: prior if name in OF_RESULT else Prior(getattr(constants, name), NEARER * prior.width)
        for name, prior in general.items()
    }


def is_few(points: Sequence[GemmPoint]) -> bool:
    """Whether too few weight shapes are there to leave any out, or too few calls beside one."""
    shapes = [point.weight_shape for point in points]
    rest = min((len(shapes) - shapes.count(shape) for shape in set(shapes)), default=0)
    return len(set(shapes)) < MIN_SHAPES or rest < MIN_POINTS


def _entries(stem: str, fit: GemmFit, num_shapes: int) -> Iterator[Entry]:
    for name, value, low, high, unit in gemm_entries(fit):
        if name == "residual":
            low, high = (math.exp(end) for end in spread(fit.left_out, num_shapes))
        yield f"{stem}.{name}", value, low, high, unit
    yield f"{stem}.{ANCHOR}", *NEAR, "doublings"


def _judged(
    name: str, family: Family, points: Sequence[GemmPoint], fit: GemmFit, limits: GemmLimits
) -> Iterator[Judged]:
    for kind in ("large", "small"):
        idxs = [i for i, point in enumerate(points) if (point.size.flop >= 2.0 * BIG) == (kind == "large")]
        if idxs:
            yield judge(
                f"{name}, m * n * k {'>=' if kind == 'large' else '<'} 2^30", [fit.left_out[i] for i in idxs],
                [points[i].weight_shape for i in idxs], [_roofline(points[i], limits) for i in idxs],
                GOALS["grouped" if family.is_grouped and kind == "large" else kind], in_fit=is_few(points),
            )  # fmt: skip


def _roofline(point: GemmPoint, limits: GemmLimits) -> float:
    return math.log(point.seconds / roofline_seconds(point.size, limits))


def roofline_seconds(size: GemmSize, limits: GemmLimits) -> float:
    """The greater of FLOP at the datasheet's peak and bytes at its bandwidth."""
    return max(size.flop / limits.peak_flop_per_s, moved_bytes(size) / limits.hbm_bytes_per_s)


def _with_fewer_sms(family: Family, fit: GemmFit, rows: Sequence[Cells], gpu: Gpu) -> Iterator[Judged]:
    """How right the formula is where SMs are held, which no fit has seen: of libraries that were told so, and others."""
    for library, told in ((f"{family.library}{LIMITED}", "told"), (family.library, "not told")):
        residuals, rooflines, sizes = [], [], []
        for sms, points in with_fewer_sms(rows, gpu, family._replace(library=library)).items():
            limits = limits_of(gpu, family.dtype, sms)
            part = replace(limits, peak_flop_per_s=limits.peak_flop_per_s * sms / gpu.num_sms)
            for point in points:
                residuals.append(math.log(point.seconds / gemm_seconds(point.size, fit.constants, limits)))
                rooflines.append(_roofline(point, part))
                sizes.append(point.weight_shape)
        if residuals:
            name = f"{family.stem} on fewer SMs, of which its library was {told}"
            yield judge(name, residuals, sizes, rooflines, math.nan)


def with_fewer_sms(rows: Sequence[Cells], gpu: Gpu, family: Family) -> dict[int, list[GemmPoint]]:
    """Calls of a family that had a part of the chip, by SMs."""
    found: dict[int, list[Cells]] = {}
    for row in measured(rows, "gemm"):
        sms = free_sms(row, gpu.num_sms)
        if _family(row) == family and sms < gpu.num_sms and not row.get("beside"):
            found.setdefault(sms, []).append(row)
    return {sms: gemm_points(own) for sms, own in sorted(found.items())}
