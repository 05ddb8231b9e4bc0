"""Attention cores: constants of kernels/attention.py by format, pass and library, judged on whole configurations left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hwprofiles.calibration.attention_fit import AttentionFit, configuration, fit_attention
from hwprofiles.calibration.fits.judged import Judged, judge, spread
from hwprofiles.calibration.fits.parameter import NEAR, Entry, Origin, parameters
from hwprofiles.calibration.fits.points import Cells, attention_points, is_alone, measured, state_of
from hwprofiles.calibration.reference_points import AttentionPoint
from hwprofiles.kernels.anchoring import ANCHOR
from hwprofiles.kernels.attention import CoreLimits, computed_head, core_limits, core_seconds
from hwprofiles.kernels.attention_libraries import LIBRARIES
from hwprofiles.schema import Gpu

MIN_SEQ: Final = 1024
"""Shorter sequences are launch and prologue, not attention: they are judged and not fitted."""
GOAL: Final = 0.06
UNITS: Final = {"t0_s": "s", "c_tokens": "tokens", "softmax_clocks": "clocks", "tail": "1"}
FEW: Final = 2
"""Configurations that are too few to leave one out."""
ELEMENT: Final = 2.0
"""Bytes of an element of queries, keys, values and results."""


def fitted(rows: Sequence[Cells], gpu: Gpu, origin: Origin) -> tuple[dict[str, Mapping[str, Any]], list[Judged]]:
    """Parameters of all libraries, formats and passes in the rows, and how right each is."""
    families: dict[tuple[str, str, str], list[Cells]] = {}
    for row in measured(rows, "attention"):
        if is_alone(row, gpu.num_sms):
            key = row.get("dtype") or "bf16", row["op"].removeprefix("attention_"), row["library"]
            families.setdefault(key, []).append(row)
    found: dict[str, Mapping[str, Any]] = {}
    judged: list[Judged] = []
    for (dtype, direction, library), own in sorted(families.items()):
        points = [point for point in attention_points(own) if point.shape.seq >= MIN_SEQ or _all_short(own)]
        stem = ".".join(part for part in ("attention", dtype, direction, library) if part)
        limits = core_limits(gpu, dtype, direction, library)
        folds = Folds(points, limits, library)
        verdict = folds.judged(stem, gpu)
        judged.append(verdict)
        if library in LIBRARIES:  # no key asks for others
            found |= parameters(folds.entries(stem), origin, state_of(own), verdict.line())
    return found, judged


def _all_short(rows: Sequence[Cells]) -> bool:
    return all(int(row["seq"]) < MIN_SEQ for row in rows)


class Folds:
    """A family fitted to all its calls, and once without each configuration."""

    def __init__(self, points: Sequence[AttentionPoint], limits: CoreLimits, library: str) -> None:
        self._points, self._limits, self._library = points, limits, library
        self.whole = fit_attention(points, limits, library)
        self._groups = [configuration(point) for point in points]
        names = list(dict.fromkeys(self._groups))
        self._is_few = len(names) < FEW
        self._blind: dict[object, AttentionFit] = {}
        for name in names if not self._is_few else ():
            rest = [point for point, group in zip(points, self._groups, strict=True) if group != name]
            self._blind[name] = fit_attention(rest, limits, library)

    @property
    def left_out(self) -> list[float]:
        """log(measured / predicted) of each call by constants that had not seen its configuration; of a head size that no other
        configuration has, twice the error in fit.
        """
        return [self._left_out(i) for i in range(len(self._points))]

    def _left_out(self, i: int) -> float:
        if not self._is_blind(i):
            return 2.0 * self.whole.residuals[i]
        point = self._points[i]
        return math.log(point.seconds / self._seconds(point, self._blind[self._groups[i]]))

    def _is_blind(self, i: int) -> bool:
        """Whether a fit without the call's configuration has its head size."""
        fit = self._blind.get(self._groups[i])
        return fit is not None and computed_head(self._points[i].shape, self._library) in fit.rate_share

    def _seconds(self, point: AttentionPoint, fit: AttentionFit) -> float:
        constants = fit.of(computed_head(point.shape, self._library))
        return core_seconds(constants, self._limits, self._library, point.shape)

    def judged(self, name: str, gpu: Gpu) -> Judged:
        """How right it is."""
        judged = [i for i in range(len(self._points)) if self._is_blind(i)]
        shown = judged or range(len(self._points))
        rooflines = [math.log(self._points[i].seconds / self._roofline(self._points[i], gpu)) for i in shown]
        residuals = [self._left_out(i) if judged else self.whole.residuals[i] for i in shown]
        return judge(name, residuals, [self._groups[i] for i in shown], rooflines, GOAL, in_fit=not judged)

    def _roofline(self, point: AttentionPoint, gpu: Gpu) -> float:
        flop = point.shape.flop or point.shape.attention_flop
        return max(flop / self._limits.peak, _bytes(point) / gpu.hbm_bytes_per_s)

    def entries(self, stem: str) -> Iterator[Entry]:
        """Constants with their range over the folds."""
        fits = [self.whole, *self._blind.values()]
        for name, unit in UNITS.items():
            values = [getattr(fit, name) for fit in fits]
            yield f"{stem}.{name}", values[0], min(values), max(values), unit
        yield f"{stem}.{ANCHOR}", *NEAR, "doublings"
        low, high = (math.exp(end) for end in spread(self.left_out, len(set(self._groups))))
        yield f"{stem}.residual", 1.0, low, high, "1"
        for size, value in self.whole.rate_share.items():
            values = [value, *(fit.rate_share[size] for fit in fits if size in fit.rate_share)]
            yield f"{stem}.d{size}.rate_share", value, min(values), max(values), "1"


def _bytes(point: AttentionPoint) -> float:
    """Queries, keys, values and results, read or written once; a backward moves their gradients too."""
    s = point.shape
    width = s.heads * (s.head_dim_qk + s.head_dim_v) + (s.kv_heads or s.heads) * (s.head_dim_qk + s.head_dim_v)
    return ELEMENT * s.batch * s.seq * width * (1.0 if s.op.endswith("fwd") else 2.0)
