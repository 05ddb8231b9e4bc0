"""A stack's own constants of power (hwprofiles.power), of the rows of power.csv.

A kernel alone gives its energy a FLOP or byte from its watts, a chip at rest the waiting power. beta, how energy goes with the
speed, is the one of a grid with which the points with idle time come out best; mixes are no part of that and judge it. Seconds
weigh most: watts far below the limit also go with the temperature, which the mechanism does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

from hwprofiles.calibration.machine.part import number
from hwprofiles.calibration.machine.power import BLIND, REST
from hwprofiles.calibration.power_fit import AT_LIMIT, BELIEVED_BETA, BETAS, Kernel, Mix, fitted, sweep_of
from hwprofiles.power.model import Chip, Load, solve
from hwprofiles.provenance import Source
from hwprofiles.stack_records import Parameter
from hwprofiles.units import PICO

WAITING: Final = (0.18, 0.15, 0.23)
"""Waiting power over the limit where none was measured, with its ends: stacks/transfer/power.yaml."""
LEAST_WARM: Final = 0.965
"""Low end of warm_speed: of two H100 and an H200, stacks/transfer/power.yaml."""
SECONDS_SD: Final = 0.01
WATTS_SD: Final = 0.05
"""Errors of a point that no constant explains: a weight each, and how much worse a value in the range may be."""
FEWER_BITS: Final = 0.85
OTHER_CHIP: Final = 1.07
"""Ends of an energy over its value: trained numbers toggle fewer bits than random ones; two chips of a kind differ by 2 to 13 %
(stacks/transfer/power.yaml)."""
KIND_KEYS: Final[Mapping[str, str]] = {
    "bf16_gemm": "gemm.bf16", "fp8_gemm": "gemm.fp8", "attention_fwd": "attention_fwd", "attention_bwd": "attention_bwd",
}  # fmt: skip
"""Kind of a kernel → key of its energy a FLOP."""


@dataclass(frozen=True)
class Sweep:
    """Kernels alone, points with idle time, mixes; the board's limit, the one it was delivered with, watts at rest."""

    kernels: Mapping[str, Kernel]
    points: tuple[Mix, ...]
    mixes: tuple[Mix, ...]
    limit_w: float
    usual_w: float
    rest_w: float | None = None


@dataclass(frozen=True)
class Constants:
    """idle_share of the limit as delivered, beta; warm: most speed of a chip that is not limited, over its first launches."""

    idle_share: float
    beta: float
    warm: float


def read(rows: Sequence[Mapping[str, Any]]) -> Sweep | None:
    """None: no kernel of either sort was measured, arithmetic and copy."""
    kernels, mixes = sweep_of([{**row, "case": row["name"]} for row in rows if row["name"] != REST])
    if len({kernel.is_arithmetic for kernel in kernels.values()}) < 2:
        return None
    kernels = {name: replace(kernel, first_s=_fastest(kernel, rows)) for name, kernel in kernels.items()}
    known = [mix for mix in mixes if set(mix.parts) <= kernels.keys()]
    blind = tuple(mix for mix in known if mix.name.startswith(BLIND))
    rest_w = next((number(row, "watts") for row in rows if row["name"] == REST), None)
    limit_w, usual_w = (number(rows[0], column) for column in ("limit_w", "usual_w"))
    return Sweep(kernels, tuple(mix for mix in known if mix not in blind), blind, limit_w, usual_w, rest_w)


def _fastest(kernel: Kernel, rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of a launch of a rested chip: the least of the kernel's first ones, with and without idle time behind them, as
    clocks may still be on their way up behind a short rest.
    """
    of_kernel = (row for row in rows if row["parts"] == f"{kernel.name}*1")
    return min(kernel.first_s, kernel.sustained_s, *(number(row, "first_s") for row in of_kernel))


def predicted(mix: Mix, sweep: Sweep, constants: Constants) -> tuple[float, float]:
    """Seconds and watts of a round under the limit, with the energies of single kernels."""
    made = fitted(sweep.kernels.values(), constants.idle_share * sweep.usual_w, constants.beta)
    parts = [(sweep.kernels[name], count) for name, count in mix.parts.items()]
    compute_s = math.fsum(kernel.first_s * count for kernel, count in parts if kernel.is_arithmetic)
    settled_s = math.fsum(kernel.sustained_s * count for kernel, count in parts if kernel.is_arithmetic)
    load = Load(
        compute_s=compute_s,
        other_s=mix.idle_s
        + math.fsum(kernel.sustained_s * count for kernel, count in parts if not kernel.is_arithmetic),
        flop_j=math.fsum(made.flop_j[kernel.name] * count for kernel, count in parts if kernel.is_arithmetic),
        byte_j=math.fsum(made.byte_pj * PICO * kernel.bytes_moved * count for kernel, count in parts),
    )
    limit_w = mix.watts if mix.watts >= AT_LIMIT * sweep.limit_w else sweep.limit_w
    chip = Chip(made.p0_w, constants.beta, min(1.0, compute_s / settled_s), limit_w, constants.warm)
    speed = solve(load, chip)
    return load.seconds(speed), load.mean_w(speed, chip)


def errors(mixes: Sequence[Mix], sweep: Sweep, constants: Constants) -> dict[str, tuple[float, float]]:
    """Mix → predicted over measured less one: seconds, watts."""
    found = {mix.name: predicted(mix, sweep, constants) for mix in mixes}
    return {
        mix.name: (found[mix.name][0] / mix.sustained_s - 1.0, found[mix.name][1] / mix.watts - 1.0) for mix in mixes
    }


def warm_speed(sweep: Sweep) -> float:
    """First launches over busy seconds of the points that the limit leaves alone, the mean; 1: no such point."""
    free = [
        math.fsum(sweep.kernels[name].first_s * count for name, count in mix.parts.items())
        / (mix.sustained_s - mix.idle_s)
        for mix in sweep.points
        if mix.watts < AT_LIMIT * sweep.limit_w
    ]
    return min(1.0, fmean(free)) if free else 1.0


def best(sweep: Sweep) -> tuple[Constants, tuple[Constants, ...]]:
    """The grid's point that errs least, and all that err little more."""
    warm = warm_speed(sweep)
    grid = [Constants(waiting(sweep)[0], beta, warm) for beta in BETAS]
    losses = {each: _loss(sweep, each) for each in grid}
    least = min(grid, key=lambda each: (losses[each], abs(each.beta - BELIEVED_BETA)))
    bound = losses[least] + len(sweep.points)
    return least, tuple(each for each in grid if losses[each] <= bound)


def parameters(rows: Sequence[Mapping[str, Any]], where: str, date: str) -> dict[str, Parameter]:
    """`power.*` of the stack; {}: too little was measured."""
    sweep = read(rows) if rows else None
    if sweep is None or not sweep.points:
        return {}
    chosen, near = best(sweep)
    blind = errors(sweep.mixes, sweep, chosen)
    worst = max((abs(error) for pair in blind.values() for error in pair), default=0.0)
    told = ", ".join(
        f"{name} {seconds:+.1%} in seconds, {watts:+.1%} in watts" for name, (seconds, watts) in blind.items()
    )
    source = Source(
        kind="measurement", where=where, date=date, note=f"mixes that are no part of the fit: {told or 'none'}"
    )
    found = dict(_constants(sweep, chosen, near)) | dict(_energies(sweep, chosen, worst))
    return {
        f"power.{key}": Parameter(value=value, low=low, high=high, unit=unit, basis="measured", source=source)
        for key, (value, low, high, unit) in found.items()
    }


Found = tuple[str, tuple[float, float, float, str]]
"""Key → value, low, high, unit."""


def _constants(sweep: Sweep, chosen: Constants, near: Sequence[Constants]) -> Iterator[Found]:
    betas = [each.beta for each in near]
    yield "idle_share", (*waiting(sweep), "1")
    yield "beta", (chosen.beta, min(betas), max(betas), "1")
    reference = _reference(sweep)
    yield "reference_speed", (reference, reference, reference, "1")
    yield "warm_speed", (chosen.warm, min(chosen.warm, LEAST_WARM), 1.0, "1")


def _loss(sweep: Sweep, constants: Constants) -> float:
    found = errors(sweep.points, sweep, constants).values()
    return math.fsum((seconds / SECONDS_SD) ** 2 + (watts / WATTS_SD) ** 2 for seconds, watts in found)


def waiting(sweep: Sweep) -> tuple[float, float, float]:
    """Power of a chip at rest over the usual limit, with its ends: a tenth each way, as it goes with the temperature."""
    if sweep.rest_w is None:
        return WAITING
    share = sweep.rest_w / sweep.usual_w
    return share, 0.9 * share, 1.1 * share


def _reference(sweep: Sweep) -> float:
    """Speed of the arithmetic kernels alone, the geometric mean."""
    speeds = [min(1.0, each.first_s / each.sustained_s) for each in sweep.kernels.values() if each.is_arithmetic]
    return math.exp(math.fsum(map(math.log, speeds)) / len(speeds))


def _energies(sweep: Sweep, chosen: Constants, worst: float) -> Iterator[Found]:
    made = fitted(sweep.kernels.values(), chosen.idle_share * sweep.usual_w, chosen.beta)
    reference, high = _reference(sweep), max(OTHER_CHIP, 1.0 + worst)
    for name, energy_j in made.flop_j.items():
        kernel = sweep.kernels[name]
        scale = (reference / min(1.0, kernel.first_s / kernel.sustained_s)) ** chosen.beta
        value = energy_j * scale / kernel.flop / PICO
        yield f"{KIND_KEYS[kernel.kind]}.pj_per_flop", (value, FEWER_BITS * value, high * value, "pJ/FLOP")
    yield "memory.pj_per_byte", (made.byte_pj, FEWER_BITS * made.byte_pj, high * made.byte_pj, "pJ/byte")
