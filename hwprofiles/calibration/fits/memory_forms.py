"""Forms that a memory-bound kernel's seconds may have over its bytes, elements and rows, and the constants of each.

All are cases of kernels/memory_bound.py. The usual one is waiting and moving added up. Kernels that change with the size have
another: a warp or a block a row, however narrow (`rows`); more parallel as they grow (`exponent`); bytes alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from statistics import median
from typing import Final, Literal, NamedTuple

import numpy as np

from hwprofiles.calibration.attention_fit import Values, minimise
from hwprofiles.calibration.fits.judged import best_factor
from hwprofiles.calibration.fits.points import MemoryPoint
from hwprofiles.kernels.memory_bound import REFERENCE_BYTES, MemoryConstants
from hwprofiles.units import MICRO

Bound = Literal["bytes", "elements", "rows", "exponent"]
SHARP: Final = 3.0
"""p of kernels whose waiting passes beside the moving."""
WAIT: Final = (3.0 * MICRO, 1.0)
"""Seconds besides the bytes of a launch, and the standard deviation of their logarithm; so of all that follow."""
SHARE: Final = (0.7, 0.7)
"""Of the bandwidth."""
RATE: Final = 1.0
"""Of a rate of elements or rows, which is sought around the highest that any call reached."""
EXPONENT: Final = (0.7, 0.5)
"""Of the bytes."""
MANY: Final = 1.2
"""Bytes an element, or bytes a row, of two points that differ by such a factor tell one from the other."""
BY_ROW: Final = frozenset(
    {
        "cross_entropy",
        "cross_entropy_bwd",
        "reduce",
        "reduce_columns",
        "rmsnorm",
        "rmsnorm_bwd",
        "softmax",
        "softmax_bwd",
        "sort",
        "topk",
    }
)
"""Ops whose kernels give a row to a warp or a block, or walk down all rows."""
NORMS: Final = frozenset({"rmsnorm", "rmsnorm_bwd"})
NARROW: Final = 256
"""Numbers of a row, as of heads, up to which a norm's rows bind it before their bytes."""
LATE: Final = 1.1
"""A call that takes so much longer than one of more bytes, elements and rows waited for the host: it is left out."""


class Form(NamedTuple):
    """bound: what the moving is besides bytes over bandwidth; p: how waiting and moving add up; waits: whether it waits."""

    bound: Bound = "bytes"
    p: float = 1.0
    waits: bool = True


ALONE: Final = Form(p=SHARP, waits=False)
"""A roofline of one factor. p is for the launches' floor alone, which passes beside the bytes."""


def forms(points: Sequence[MemoryPoint], usual: Form) -> list[Form]:
    """The usual one of these points first, then what else they can tell."""
    bounds: list[Bound] = [usual.bound, "bytes"]
    if tells_rows(points):
        bounds.append("rows")
    bounds.append("exponent")
    found = [usual, *(Form(bound, p) for bound in bounds for p in (1.0, SHARP)), ALONE]
    return list(dict.fromkeys(found))


def usual_bound(points: Sequence[MemoryPoint]) -> Bound:
    """Beside the bytes, what points can tell: elements; rows of narrow norms, each of which takes a block's whole life."""
    if tells_elements(points):
        return "elements"
    is_narrow = points[0].op in NORMS and all(1 < point.width <= NARROW for point in points)
    return "rows" if is_narrow else "bytes"


def fit_form(form: Form, points: Sequence[MemoryPoint], bytes_per_s: float) -> MemoryConstants:
    """Its constants; latency_s: of the launches too. A roofline's factor is the one that errs least."""
    at = _Columns(points)
    if not form.waits:
        share = 1.0 / best_factor(list(np.log(at.seconds * bytes_per_s / at.bytes)))
        return MemoryConstants(share, p=form.p)
    start = [WAIT[0] * launches(points), SHARE[0]]
    width = [WAIT[1], SHARE[1]]
    if form.bound == "exponent":
        start.append(EXPONENT[0])
        width.append(EXPONENT[1])
    elif form.bound != "bytes":
        start.append(float(np.max(at.counts(form.bound) / at.seconds)))
        width.append(RATE)

    def residuals(logs: Values) -> Values:
        return np.asarray(np.log(at.seconds / _seconds(_constants(form, logs), at, bytes_per_s)))

    return _constants(form, minimise(residuals, np.log(np.array(start)), np.array(width)))


def predicted(constants: MemoryConstants, points: Sequence[MemoryPoint], bytes_per_s: float) -> Values:
    """Seconds of the points, as kernels/memory_bound.py has them; latency_s holds the launches."""
    return _seconds(constants, _Columns(points), bytes_per_s)


class _Columns:
    """Points as arrays."""

    def __init__(self, points: Sequence[MemoryPoint]) -> None:
        self.seconds = np.array([point.seconds for point in points])
        self.bytes = np.array([float(point.bytes) for point in points])
        self.elements = np.array([float(elements(point)) for point in points])
        self.rows = np.array([float(point.rows) for point in points])

    def counts(self, bound: Bound) -> Values:
        """Elements or rows."""
        return self.elements if bound == "elements" else self.rows


def _constants(form: Form, logs: Values) -> MemoryConstants:
    wait, share, *more = map(float, np.exp(logs))
    name = {"elements": "elements_per_s", "rows": "rows_per_s", "exponent": "exponent"}.get(form.bound)
    return MemoryConstants(share, wait, p=form.p, **({name: more[0]} if name else {}))


def _seconds(constants: MemoryConstants, at: _Columns, bytes_per_s: float) -> Values:
    of_bytes = at.bytes / (constants.share * bytes_per_s)
    if constants.exponent != 1.0:
        grown = of_bytes * (at.bytes / REFERENCE_BYTES) ** (constants.exponent - 1.0)
        of_bytes = np.maximum(grown, at.bytes / bytes_per_s)
    moving = np.maximum(of_bytes, at.elements / constants.elements_per_s)
    moving = np.maximum(moving, at.rows / constants.rows_per_s)
    return np.asarray((constants.latency_s**constants.p + moving**constants.p) ** (1.0 / constants.p))


def elements(point: MemoryPoint) -> int:
    """Of the result: rows times width; 0 where it is not stated."""
    return point.rows * max(point.width, 1)


def launches(points: Sequence[MemoryPoint]) -> float:
    """Of a call."""
    return median(point.launches for point in points)


def tells_elements(points: Sequence[MemoryPoint]) -> bool:
    """Whether bytes an element differ."""
    return _differ([point.bytes / elements(point) for point in points if elements(point)], len(points))


def tells_rows(points: Sequence[MemoryPoint]) -> bool:
    """Whether the op works by rows, and bytes a row differ."""
    known = [point for point in points if point.width > 1 and point.op in BY_ROW]
    return _differ([point.bytes / point.rows for point in known], len(points))


def _differ(ratios: Sequence[float], number: int) -> bool:
    return len(ratios) == number and max(ratios) > MANY * min(ratios)


def without_late(points: Sequence[MemoryPoint]) -> list[MemoryPoint]:
    """Points that are not slower than larger ones."""

    def larger(point: MemoryPoint) -> list[float]:
        return [
            other.seconds for other in points
            if other.bytes >= point.bytes and elements(other) >= elements(point) and other.rows >= point.rows
        ]  # fmt: skip

    return [point for point in points if point.seconds <= LATE * min(larger(point), default=np.inf)]


def _width(point: MemoryPoint) -> Hashable:
    return "width", point.width


def _size(point: MemoryPoint) -> Hashable:
    """Sizes within a factor 2 are one."""
    return "size", round(float(np.log2(point.bytes)))


GROUPS: Final = (_width, _size)


def not_in(point: MemoryPoint, name: Hashable) -> bool:
    """Whether a point is of neither the width nor the size of that name."""
    return all(group(point) != name for group in GROUPS)
