"""Ratios of rows that took turns, their geometric means, and what was aimed at. No torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from hwprofiles.units import GIGA, MICRO

Row = Mapping[str, Any]
OWN: Final = "moesim"


@dataclass(frozen=True)
class Target:
    """A geometric mean of ratios. reach, aim: of the ratio; 0: none of its own."""

    what: str
    reach: float = 0.0
    aim: float = 0.0


DENSE: Final = Target("dense fprop over cuBLAS block-wise", 1.0)
GROUPED: Final = Target("grouped fprop over torch row-wise", 0.92)
WGRAD: Final = Target("wgrad over fprop of equal FLOP", 0.75, 0.85)
STREAMS: Final = {
    "stream": Target("streaming kernels over a copy", 0.85, 0.92),
    "transpose": Target("transposing kernels over a copy", 0.75, 0.85),
    "permute": Target("permuting kernels over a copy", 0.55, 0.70),
}
"""Kind of a streaming kernel (column `variant`) → its target."""


def summary(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """A line a comparison: what, ratio (geometric mean), least and greatest, how many, reach, aim, whether it is reached."""
    timed = [row for row in rows if row.get("seconds")]
    by_name: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in timed:
        by_name[row["name"]][row["library"]] = row
    found = [
        _line(DENSE, _over(by_name, "dense", "fprop", "torch-block")),
        _line(Target("dense dgrad over cuBLAS block-wise", 1.0), _over(by_name, "dense", "dgrad", "torch-block")),
        _line(Target("dense wgrad over cuBLAS block-wise"), _over(by_name, "dense", "wgrad", "torch-block")),
        _line(GROUPED, _over(by_name, "grouped", "fprop", "torch-row")),
        _line(Target("grouped dgrad over torch row-wise", 0.92), _over(by_name, "grouped", "dgrad", "torch-row")),
        _line(Target("grouped wgrad over torch row-wise"), _over(by_name, "grouped", "wgrad", "torch-row")),
        _line(WGRAD, _of_equal_flop(timed, OWN)),
        _line(Target("wgrad that adds over fprop of equal FLOP", 0.75, 0.85), _of_equal_flop(timed, f"{OWN}-added")),
    ]
    found += [_line(target, _over(by_name, "streaming", kind, "copy")) for kind, target in STREAMS.items()]
    return [line for line in found if line["number"]]


def _over(by_name: Mapping[str, Mapping[str, Row]], kind: str, variant: str, other: str) -> dict[str, float]:
    """Name → speed of the own kernel over that of another library in the same rounds."""
    return {
        name: of[other]["seconds"] / of[OWN]["seconds"]
        for name, of in by_name.items()
        if OWN in of and other in of and (of[OWN]["kind"], of[OWN]["variant"]) == (kind, variant)
    }


def _of_equal_flop(rows: Sequence[Row], library: str) -> dict[str, float]:
    """Name of a weight gradient → its FLOP/s over those of the forward product of the same layer, rows and loads."""
    forward = {_layer(row): row for row in rows if row["library"] == OWN and row["variant"] == "fprop"}
    return {
        row["name"]: row["tflops"] / forward[_layer(row)]["tflops"]
        for row in rows
        if row["library"] == library and row["variant"] == "wgrad" and _layer(row) in forward
    }


def _layer(row: Row) -> tuple[Any, ...]:
    """Rows, n and k of the layer, and the loads."""
    m, n, k = row["m"], row["n"], row["k"]
    sizes = (k, m, n) if row["variant"] == "wgrad" else (m, n, k)
    return (row["kind"], *sizes, row["loads"])


def _line(target: Target, ratios: Mapping[str, float]) -> dict[str, Any]:
    if not ratios:
        return {"what": target.what, "number": 0}
    mean = math.exp(fmean(map(math.log, ratios.values())))
    worst, best = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    return {
        "what": target.what, "number": len(ratios), "mean": mean, "least": ratios[worst], "least_of": worst,
        "most": ratios[best], "most_of": best, "reach": target.reach or None, "aim": target.aim or None,
        "reached": mean >= target.reach,
    }  # fmt: skip


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Lines for a terminal."""
    for row in rows:
        name = f"{row['name']:42}"[:42]
        if not row.get("seconds"):
            yield f"{name} {row['library']:15} - {row.get('note', '')[:60]}"
            continue
        share = f"{row['peak_share']:6.1%}" if row.get("peak_share") else "     -"
        clock = f"{row['clock_hz'] / GIGA:5.2f} GHz" if row.get("clock_hz") else ""
        watts = f"{row['watts']:4.0f} W" if row.get("watts") else ""
        yield (
            f"{name} {row['library']:15} {row['seconds'] / MICRO:9.1f} us {row['tflops']:7.1f} TFLOPS "
            f"{row['gb_per_s']:7.0f} GB/s {share} {clock} {watts}"
        )


def lines(found: Iterable[Row]) -> Iterator[str]:
    """Of a summary."""
    for line in found:
        aim = f", aim {line['aim']:.2f}" if line["aim"] else ""
        verdict = (
            f"; reach {line['reach']:.2f}{aim}: {'' if line['reached'] else 'NOT '}reached" if line["reach"] else ""
        )
        ends = f"{line['least']:.3f} {line['least_of']} to {line['most']:.3f} {line['most_of']}"
        yield f"{line['what']}: {line['mean']:.3f} ({line['number']}; {ends}){verdict}"
