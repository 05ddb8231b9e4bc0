"""Fits what NCCL reaches inside one scale-up network to sweeps: shares of the link, fills, the step that stays on the GPU.

    t of hwprofiles/collectives/ring_formula.py, with the launch and hop times of NCCL's tuner (stacks/transfer/network.yaml)

Sizes from MIN_BYTES on: below, launches and protocols that are not modelled decide. `own_step` follows from the algorithm and
is one number for all GPUs; share and fill are a GPU's. Judged on whole counts of GPUs left out, `own_step` then fitted on the
other generations alone. `exchange_share`, what an all-to-all of many GPUs leaves of the ring's rate, is one number for all too,
judged on whole GPUs left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hwprofiles.catalog import load_gpu
from hwprofiles.collectives.ring_formula import filled_seconds, flagged_seconds, switch_wire_seconds, wire_seconds
from hwprofiles.units import MEBI

MIN_BYTES: Final = 16 * int(MEBI)
LINK_BYTES_PER_S: Final = {"a100": 300e9, "h100": 450e9, "h200": 450e9, "b200": 900e9, "gb200": 900e9}
"""Datasheet rate of a GPU's links together, one way (hwprofiles/nodes)."""
SWITCH_RANKS: Final = 5
"""From so many GPUs on NCCL lets the switch add up (github.com/NVIDIA/nccl#1455), where there is one that can."""
BASE_S, HOP_S, LL_BASE_S, LL_HOP_S, LL_SHARE, NVLS_BASE_S = 8.4e-6, 3.4e-6, 6.6e-6, 6.0e-7, 0.5, 2.5e-5
"""As in stacks/transfer/network.yaml: github.com/NVIDIA/nccl 2.30.7 src/graph/tuning.cc."""
EXCHANGE: Final = "alltoall"
HUBER: Final = 0.1
"""Errors (natural logarithm) beyond which a point pulls with constant force."""


@dataclass(frozen=True, slots=True)
class RingPoint:
    """A measured collective of `ranks` GPUs: bytes of the whole tensor, seconds. has_switch: the switch may add up.

    link_bytes_per_s: of a GPU's links together, one way; None: as LINK_BYTES_PER_S has it.
    """

    gpu: str
    op: str
    ranks: int
    num_bytes: int
    seconds: float
    has_switch: bool = True
    link_bytes_per_s: float | None = None

    @property
    def is_by_switch(self) -> bool:
        """Whether NCCL lets the switch add up."""
        return self.has_switch and self.op == "all_reduce" and self.ranks >= SWITCH_RANKS


@dataclass(frozen=True, slots=True)
class RingFit:
    """share: of the link rate; fill_s; own_step: part of a step (0 of the switch's all-reduce)."""

    share: float
    fill_s: float
    own_step: float = 0.0


def predict(point: RingPoint, fit: RingFit) -> float:
    """Seconds by the formula."""
    rate = fit.share * (point.link_bytes_per_s or LINK_BYTES_PER_S[point.gpu])
    if point.is_by_switch:
        return filled_seconds(NVLS_BASE_S, switch_wire_seconds(point.num_bytes, rate, point.ranks), fit.fill_s)
    if point.op == EXCHANGE:
        sent = point.num_bytes * (point.ranks - 1) / point.ranks
        return filled_seconds(BASE_S + HOP_S, wire_seconds(sent, rate, point.ranks - 1, fit.own_step), fit.fill_s)
    rounds = 2 if point.op == "all_reduce" else 1
    steps = rounds * (point.ranks - 1)
    wire = wire_seconds(rounds * point.num_bytes * (point.ranks - 1) / point.ranks, rate, steps, fit.own_step)
    simple = filled_seconds(BASE_S + steps * HOP_S, wire, fit.fill_s)
    return min(simple, flagged_seconds(LL_BASE_S + steps * LL_HOP_S, wire, LL_SHARE))


def errors(points: Sequence[RingPoint], fit: RingFit) -> list[float]:
    """Predicted over measured, minus one."""
    return [predict(point, fit) / point.seconds - 1.0 for point in points]


def fit_rings(points: Sequence[RingPoint], own_step: float) -> RingFit:
    """Share and fill of one GPU for a given own_step: the best of a grid of 0.005 and 5e-7 s."""
    grid = [RingFit(float(share), float(fill), own_step) for share in SHARES for fill in FILLS]
    return min(grid, key=lambda fit: _loss(points, fit))


def fit_own_step(points: Sequence[RingPoint]) -> float:
    """The own_step with which the GPUs' best fits err least, to 0.05."""
    gpus = sorted({point.gpu for point in points})
    of_gpu = [[point for point in points if point.gpu == gpu] for gpu in gpus]
    return min(
        (float(step) for step in OWN_STEPS),
        key=lambda step: sum(_loss(mine, _coarse(mine, step)) for mine in of_gpu),
    )


def exchange_errors(points: Sequence[RingPoint], rings: Mapping[str, RingFit], share: float) -> list[float]:
    """Predicted over measured, minus one, of all-to-alls at a share of their GPU's ring rate."""
    return [
        error
        for gpu, fit in rings.items()
        for error in errors([point for point in points if point.gpu == gpu], replace(fit, share=share * fit.share))
    ]


def fit_exchange(points: Sequence[RingPoint], rings: Mapping[str, RingFit]) -> float:
    """The share, one for all GPUs, with which their all-to-alls err least, to 0.005. rings: GPU → its ring's constants."""
    return min(map(float, SHARES), key=lambda share: mean_size(exchange_errors(points, rings, share)))


def exchange_left_out(points: Sequence[RingPoint], rings: Mapping[str, RingFit]) -> dict[str, list[float]]:
    """GPU → errors of its all-to-alls with the share of the other GPUs."""
    return {
        gpu: exchange_errors(points, {gpu: fit}, fit_exchange(points, {k: v for k, v in rings.items() if k != gpu}))
        for gpu, fit in rings.items()
    }


def report(points: Sequence[RingPoint], exchanges: Sequence[RingPoint]) -> Iterator[str]:
    """Lines: own_step, of each GPU its constants, their error, and the error of each count of GPUs left out; exchange_share."""
    rings = [point for point in points if not point.is_by_switch]
    own_step = fit_own_step(rings)
    yield f"ring.own_step {own_step:g}"
    fits = {}
    for gpu in LINK_BYTES_PER_S:
        mine = [point for point in rings if point.gpu == gpu]
        if mine:
            fits[gpu] = fit_rings(mine, own_step)
            yield _line(gpu, mine, fits[gpu]) + _left_out(mine, rings)
        by_switch = [point for point in points if point.is_by_switch and point.gpu == gpu]
        if by_switch:
            yield _line(f"{gpu} nvls", by_switch, fit_rings(by_switch, 0.0))
    yield _exchange_line(exchanges, {gpu: fits[gpu] for gpu in fits if any(point.gpu == gpu for point in exchanges)})


def left_out_errors(points: Sequence[RingPoint], rings: Sequence[RingPoint]) -> dict[int, list[float]]:
    """Count of GPUs → errors of one GPU's points of that count, fitted on its others; own_step on other generations."""
    family = load_gpu(points[0].gpu).family
    own_step = fit_own_step([point for point in rings if load_gpu(point.gpu).family != family])
    found = {}
    for count in sorted({point.ranks for point in points}):
        known = [point for point in points if point.ranks != count]
        if known:
            found[count] = errors([point for point in points if point.ranks == count], fit_rings(known, own_step))
    return found


def mean_size(found: Sequence[float]) -> float:
    """Mean absolute error."""
    return sum(map(abs, found)) / len(found)


def _line(name: str, points: Sequence[RingPoint], fit: RingFit) -> str:
    error = 100 * mean_size(errors(points, fit))
    return f"{name}: share {fit.share:g}, fill_s {fit.fill_s:.2g}  # n {len(points)}, mean error {error:.1f} %"


def _exchange_line(points: Sequence[RingPoint], rings: Mapping[str, RingFit]) -> str:
    share = fit_exchange(points, rings)
    error = 100 * mean_size(exchange_errors(points, rings, share))
    left = exchange_left_out(points, rings)
    tail = "".join(f"; {gpu} left out {100 * mean_size(each):.1f} %" for gpu, each in left.items())
    return f"ring.exchange_share {share:g}  # n {len(points)}, mean error {error:.1f} %{tail}"


def _left_out(points: Sequence[RingPoint], rings: Sequence[RingPoint]) -> str:
    found = left_out_errors(points, rings)
    return "".join(f"; {count} GPUs left out {100 * mean_size(each):.1f} %" for count, each in found.items())


SHARES: Final = np.round(np.arange(0.5, 1.0001, 0.005), 4)
FILLS: Final = np.round(np.arange(0.0, 4.01e-5, 5e-7), 9)
OWN_STEPS: Final = np.round(np.arange(0.0, 1.001, 0.05), 3)


def _coarse(points: Sequence[RingPoint], own_step: float) -> RingFit:
    """`fit_rings` on every fourth node of its grid."""
    grid = [RingFit(float(share), float(fill), own_step) for share in SHARES[::4] for fill in FILLS[::4]]
    return min(grid, key=lambda fit: _loss(points, fit))


def _loss(points: Sequence[RingPoint], fit: RingFit) -> float:
    found = np.abs(np.log([predict(point, fit) / point.seconds for point in points]))
    return float(np.sum(np.where(found < HUBER, found**2 / 2.0, HUBER * (found - HUBER / 2.0))))
