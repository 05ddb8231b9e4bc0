"""What kernels keep of their rate where other kernels hold SMs: overlap.<class>.ratio at overlap.comm_sms held ones.

A kernel was measured with several numbers of SMs left; what it takes longer is interpolated over SMs that are held. Products
whose library was told how many SMs are left (library cell `<name>-limited`) and those that were not are pooled: frameworks do
either. Held SMs alone take no bandwidth, dispatch and combine do: BANDWIDTH.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final

from hwprofiles.calibration.fits.judged import middle
from hwprofiles.calibration.fits.parameter import Entry, Origin, parameters
from hwprofiles.calibration.fits.points import Cells, free_sms, measured
from hwprofiles.kernels.shape import OWN_GEMMS, Bound
from hwprofiles.schema import Gpu

HELD: Final = 20
"""SMs that dispatch and combine hold, as the public stacks have it: where the ratios stand, nothing that was measured here."""
HELD_SOURCE: Final[Mapping[str, str]] = {
    "kind": "paper", "where": "arXiv:2412.19437 section 3.2.2: 20 of 132 SMs", "date": "2024-12-27",
}  # fmt: skip
CLASSES: Final[tuple[Bound, ...]] = ("gemm", "attention", "memory")
LIMITED: Final = "-limited"
"""End of the library cell of a call that was told how many SMs are left."""
CELLS: Final = (
    "op", "variant", "dtype", "m", "n", "k", "groups", "loads", "batch", "seq", "heads", "kv_heads", "head_dim_qk",
    "head_dim_v", "causal", "bytes",
)  # fmt: skip
BANDWIDTH: Final = (0.95, 0.82, 1.0)
"""What dispatch and combine leave of the memory's bandwidth, and its range: arXiv:2507.03114, as stacks/transfer has it."""
NOTE: Final = (
    "products by cuBLAS, told of the SMs that are left and not, and grouped; cores; copies, sums and norms, at 0.95 (0.82 to "
    "1) of their rate for what dispatch moves itself, by arXiv:2507.03114"
)


def fitted(rows: Sequence[Cells], gpu: Gpu, origin: Origin) -> Mapping[str, Mapping[str, Any]]:
    """The four keys, or none where a class was not measured with fewer SMs."""
    ratios = {bound: list(kept(measured(rows, bound), gpu.num_sms)) for bound in CLASSES}
    if not all(ratios.values()):
        return {}
    held = {"value": float(HELD), "unit": "SMs", "basis": "transferred", "source": dict(HELD_SOURCE)}
    return {**dict(parameters(_entries(ratios), origin, "", NOTE)), "overlap.comm_sms": held}


def _entries(ratios: Mapping[Bound, Sequence[float]]) -> Iterator[Entry]:
    for bound, found in ratios.items():
        low, high = middle(found)
        left = BANDWIDTH if bound == "memory" else (1.0, 1.0, 1.0)
        yield f"overlap.{bound}.ratio", median(found) * left[0], low * left[1], high * left[2], "1"


def kept(rows: Sequence[Cells], num_sms: int) -> Iterator[float]:
    """Of each kernel and library, the share of its rate that it keeps with HELD SMs held; at most 1.

    Kernels that were not measured with all SMs, or with none of numbers around HELD, say nothing.
    """
    for times in _by_kernel(rows, num_sms).values():
        alone = times.pop(0, None)
        if alone is not None and times:
            slower = {held: max(0.0, seconds / alone - 1.0) for held, seconds in times.items()}
            yield 1.0 / (1.0 + _at(slower, HELD))


def _by_kernel(rows: Sequence[Cells], num_sms: int) -> dict[tuple[str, ...], dict[int, float]]:
    """Kernel and library → SMs held → seconds; a library that was told has those of all SMs of the one that was not.

    Without this project's products, which no framework runs.
    """
    found: dict[tuple[str, ...], dict[int, float]] = {}
    for row in rows:
        if not row.get("beside") and row["library"].removesuffix(LIMITED) != OWN_GEMMS:
            times = found.setdefault((*(row.get(cell, "") for cell in CELLS), row["library"]), {})
            held, seconds = num_sms - free_sms(row, num_sms), float(row["seconds"])
            times[held] = min(seconds, times.get(held, seconds))
    for key, times in found.items():
        untold = found.get((*key[:-1], key[-1].removesuffix(LIMITED)), {})
        if key[-1].endswith(LIMITED) and 0 in untold:
            times.setdefault(0, untold[0])
    return found


def _at(values: Mapping[int, float], place: int) -> float:
    """Linear between the nearest two places, 0 at 0; beyond the last in proportion."""
    places = sorted({0, *values})
    known = {0: 0.0, **values}
    above = next((each for each in places if each >= place), None)
    if above is None:
        return known[places[-1]] * place / places[-1]
    below = max(each for each in places if each <= place)
    weight = (place - below) / (above - below) if above > below else 0.0
    return known[below] + weight * (known[above] - known[below])
