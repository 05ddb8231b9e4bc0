"""Fits the constants of a chip's power (hwprofiles.power) to a file of power_sweep, or of the same kind of measurement.

    python -m hwprofiles.calibration.power_fit FILE.csv [--tdp 700]

A kernel alone gives its energy a FLOP from its watts; mixes and idle time say how energy goes with speed. Prints the constants,
the error of every mix with the constants of single kernels alone (blind: beta as it is believed), and with beta and the waiting
power fitted to the other mixes (left out).
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from hwprofiles.power.model import Chip, Load, solve
from hwprofiles.units import PICO

BELIEVED_BETA, BELIEVED_IDLE_SHARE = 1.35, 0.18
BETAS = tuple(0.125 * step for step in range(17))
IDLE_SHARES = (0.15, 0.17, 0.18, 0.19, 0.22)
"""Grid of the fit."""


@dataclass(frozen=True)
class Kernel:
    """One kernel alone. first_s, sustained_s: of a launch; watts: mean at the limit (or below it)."""

    name: str
    kind: str
    flop: float
    bytes_moved: float
    first_s: float
    sustained_s: float
    watts: float

    @property
    def is_arithmetic(self) -> bool:
        """Whether its time goes with the speed."""
        return self.flop > 0.0


@dataclass(frozen=True)
class Mix:
    """A round: kernel → launches, then idle_s; sustained_s with it; watts: mean."""

    name: str
    parts: Mapping[str, int]
    idle_s: float
    sustained_s: float
    watts: float


@dataclass(frozen=True)
class Fitted:
    """p0_w, beta; flop_j: kernel → energy of a launch at its own settled speed; byte_pj."""

    p0_w: float
    beta: float
    byte_pj: float
    flop_j: Mapping[str, float]


def fitted(kernels: Iterable[Kernel], p0_w: float, beta: float) -> Fitted:
    """The constants that single kernels give: the copy the energy of a byte, each other kernel that of its FLOP."""
    kernels = list(kernels)
    copies = [(kernel.watts - p0_w) * kernel.sustained_s / kernel.bytes_moved for kernel in kernels if not kernel.flop]
    byte_j = fmean(copies)
    flop_j = {k.name: (k.watts - p0_w) * k.sustained_s - byte_j * k.bytes_moved for k in kernels if k.is_arithmetic}
    return Fitted(p0_w, beta, byte_j / PICO, flop_j)


AT_LIMIT = 0.98
"""Of the board's limit: more than that was drawn at the limit, whatever it averaged to; below it nothing was limited."""


def predicted_s(mix: Mix, kernels: Mapping[str, Kernel], constants: Fitted, tdp_w: float) -> float:
    """Seconds of a round under the limit as its controller held it: at the watts that were measured, where it held."""
    parts = [(kernels[name], count) for name, count in mix.parts.items()]
    arithmetic = [(kernel, count) for kernel, count in parts if kernel.is_arithmetic]
    compute_s = sum(kernel.first_s * count for kernel, count in arithmetic)
    settled_s = sum(kernel.sustained_s * count for kernel, count in arithmetic)
    load = Load(
        compute_s=compute_s,
        other_s=mix.idle_s + sum(kernel.sustained_s * count for kernel, count in parts if not kernel.is_arithmetic),
        flop_j=sum(constants.flop_j[kernel.name] * count for kernel, count in arithmetic),
        byte_j=sum(constants.byte_pj * PICO * kernel.bytes_moved * count for kernel, count in parts),
    )
    limit_w = mix.watts if mix.watts >= AT_LIMIT * tdp_w else tdp_w
    chip = Chip(constants.p0_w, constants.beta, min(1.0, compute_s / settled_s), limit_w)
    return load.seconds(solve(load, chip))


def errors(
    mixes: Iterable[Mix], kernels: Mapping[str, Kernel], tdp_w: float, beta: float = BELIEVED_BETA,
    idle_share: float = BELIEVED_IDLE_SHARE,
) -> dict[str, float]:  # fmt: skip
    """Mix → predicted / measured - 1, with the energies of single kernels alone."""
    constants = fitted(kernels.values(), idle_share * tdp_w, beta)
    return {mix.name: predicted_s(mix, kernels, constants, tdp_w) / mix.sustained_s - 1.0 for mix in mixes}


def best(mixes: Sequence[Mix], kernels: Mapping[str, Kernel], tdp_w: float) -> tuple[float, float]:
    """(beta, idle_share) of the grid with the least mean square error; of equals the nearest to what is believed."""

    def loss(point: tuple[float, float]) -> tuple[float, float]:
        found = errors(mixes, kernels, tdp_w, *point).values()
        return fmean(error**2 for error in found), abs(point[0] - BELIEVED_BETA)

    return min(product(BETAS, IDLE_SHARES), key=loss)


def left_out(mixes: Sequence[Mix], kernels: Mapping[str, Kernel], tdp_w: float) -> dict[str, float]:
    """Mix → its error with beta and waiting power fitted to the others."""
    found: dict[str, float] = {}
    for mix in mixes:
        point = best([other for other in mixes if other is not mix], kernels, tdp_w)
        found |= errors([mix], kernels, tdp_w, *point)
    return found


def read_sweep(path: Path) -> tuple[dict[str, Kernel], list[Mix]]:
    """Kernels and mixes of a CSV of power_sweep."""
    with path.open(encoding="utf-8", newline="") as file:
        return sweep_of(list(csv.DictReader(file)))


def sweep_of(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Kernel], list[Mix]]:
    """Kernels and mixes of its rows."""
    kernels, mixes = {}, []
    for row in rows:
        if not row["parts"]:
            continue
        parts = {name: int(count) for name, count in re.findall(r"(.+?)\*(\d+)(?: \+ |$)", row["parts"])}
        numbers = {key: float(row[key]) for key in ("flop", "bytes_moved", "first_s", "sustained_s", "busy_s", "watts")}
        if list(parts.items()) == [(row["case"], 1)]:
            kind = row["case"].partition(" ")[0]
            kernels[row["case"]] = Kernel(
                row["case"], kind, numbers["flop"], numbers["bytes_moved"], numbers["first_s"], numbers["sustained_s"],
                numbers["watts"],
            )  # fmt: skip
        else:
            idle_s = numbers["sustained_s"] - numbers["busy_s"]
            mixes.append(Mix(row["case"], parts, idle_s, numbers["sustained_s"], numbers["watts"]))
    return kernels, mixes


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what is said above."""
    parser = argparse.ArgumentParser(description="constants of a chip's power", prog="power_fit")
    parser.add_argument("file", type=Path)
    parser.add_argument("--tdp", type=float, default=700.0, help="the board's limit, W")
    given = parser.parse_args(arguments)
    kernels, mixes = read_sweep(given.file)
    constants = fitted(kernels.values(), BELIEVED_IDLE_SHARE * given.tdp, BELIEVED_BETA)
    print(f"memory {constants.byte_pj:.1f} pJ/byte")
    for name, energy_j in constants.flop_j.items():
        kernel = kernels[name]
        speed = kernel.first_s / kernel.sustained_s
        print(f"{name}: {energy_j / kernel.flop / PICO:.3f} pJ/FLOP at {speed:.3f} of its first launches")
    print(f"beta, idle share of all mixes: {best(mixes, kernels, given.tdp)}")
    blind, out = errors(mixes, kernels, given.tdp), left_out(mixes, kernels, given.tdp)
    for mix in mixes:
        print(f"{mix.name}: blind {blind[mix.name]:+.2%}, left out {out[mix.name]:+.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
