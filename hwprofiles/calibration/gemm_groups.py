"""GEMM constants as the catalogue holds them: fitted, judged on weight shapes left out, carried to other GPUs, printed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Final, NamedTuple

import numpy as np

from hwprofiles.calibration import reference_points as points
from hwprofiles.calibration.gemm_families import FAMILIES, GemmFamily
from hwprofiles.calibration.gemm_fit import (
    BIG,
    FITTED,
    UPPER,
    GemmFit,
    Prior,
    coverage,
    fit_gemm,
    mean_error,
    predict,
    with_folds,
)
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.gemm_formula import GemmConstants, GemmLimits, GemmSize, Tiles, gemm_seconds
from hwprofiles.kernels.parameters import peak_flop_per_s
from hwprofiles.provenance import State
from hwprofiles.serving import added_rate
from hwprofiles.units import MICRO

ONE_SIDED_95: Final = 1.645
"""Standard errors to the ends of a 90 % range."""
PER_FLOP: Final = {"st_bytes_per_s": "st_bytes_per_flop", "l2_bytes_per_s": "l2_bytes_per_flop"}
"""Rates of an SM and their names where they are relative."""
UNITS: Final = {"t_step_s": "s", "t0_s": "s", "t_tile_s": "s", "st_bytes_per_s": "bytes/s", "l2_bytes_per_s": "bytes/s"}
MIN_SHAPES, MIN_POINTS = 3, 12
"""Weight shapes and points from which shapes are left out; of fewer the residuals in sample are doubled instead."""
LAUNCH: Final = (2.2 * MICRO, 1.2 * MICRO, 6.0 * MICRO)
"""t0 of a GEMM whose fitted one holds the launch of a quantiser too: that of kernels without one, in a wide range. In s."""
CARRIED_RESIDUAL: Final = (0.92, 1.12)
"""Widening of a residual where a pass was measured in another family of GPUs: assumed, see carried_groups."""

Entry = tuple[str, float, float, float]
"""Name, value, low, high."""


class Group(NamedTuple):
    """A group of stacks/transfer/gemm.yaml."""

    prefix: str
    gpu: str
    source: str
    note: str
    entries: list[Entry]
    state: State
    only_families: tuple[str, ...] = ()


def limits_of(gpu_name: str, dtype: str) -> GemmLimits:
    """Datasheet limits of a catalogue GPU, all SMs free."""
    gpu = load_gpu(gpu_name)
    return GemmLimits(peak_flop_per_s(gpu, dtype), gpu.hbm_bytes_per_s, gpu.num_sms, gpu.num_sms)


def sm_peak(gpu_name: str) -> float:
    """Dense BF16 peak of one SM, FLOP/s: what the rates of its store and fetch scale with between GPUs."""
    gpu = load_gpu(gpu_name)
    return peak_flop_per_s(gpu, "bf16") / gpu.num_sms


def priors_of(limits: GemmLimits, flop_per_s_of_sm: float, *, quantises: bool) -> dict[str, Prior]:
    """Physical starting values with relative widths; rates of an SM are in proportion to its BF16 peak."""
    priors = {
        "t0_s": Prior(2.0 * MICRO, 0.6),
        "t_tile_s": Prior(0.8 * MICRO, 0.5),
        "st_bytes_per_s": Prior(0.0037 * flop_per_s_of_sm, 0.45),
        "l2_bytes_per_s": Prior(0.012 * flop_per_s_of_sm, 0.3),
        "eta": Prior(0.86, 0.12),
        "ecap": Prior(0.78, 0.12),
        "eb": Prior(0.82, 0.1),
        "p": Prior(8.0, 0.3),
    }
    return {**priors, "quantise": Prior(0.6 * limits.hbm_bytes_per_s, 0.4)} if quantises else priors


@cache
def fit_family(family: GemmFamily, folder: Path) -> GemmFit:
    """Fit with left-out weight shapes; where they are too few, the residuals in sample are doubled instead."""
    limits = limits_of(family.gpu, family.dtype)
    data = family.load(folder)
    priors = priors_of(limits, sm_peak(family.gpu), quantises=family.quantises)
    if len({point.weight_shape for point in data}) < MIN_SHAPES or len(data) < MIN_POINTS:
        return fit_gemm(data, limits, priors, family.tiles, family.huber).doubled()
    return with_folds(data, limits, priors, family.tiles, family.huber)


def gemm_entries(fit: GemmFit, relative_to: float | None = None) -> Iterator[tuple[str, float, float, float, str]]:
    """(constant, value, low, high, unit) of a fit. relative_to: FLOP/s by which the rates of an SM are divided."""
    for name in (name for name in fit.log_errors if name != "quantise"):
        value = getattr(fit.constants, name)
        spread = math.exp(ONE_SIDED_95 * fit.log_errors[name])
        low, high = value / spread, min(value * spread, UPPER.get(name, math.inf))
        unit = UNITS.get(name, "1")
        if relative_to is not None and name in PER_FLOP:
            value, low, high = value / relative_to, low / relative_to, high / relative_to
            name, unit = PER_FLOP[name], "bytes/FLOP"
        yield name, value, low, max(high, value), unit
    for name, size in fit.constants.tiles._asdict().items():
        if size == Tiles._field_defaults.get(name):
            continue
        size = float(size)
        yield name, size, size, size, "elements"
    low, high = (math.exp(float(np.quantile(fit.left_out, q))) for q in (0.05, 0.95))
    yield "residual", 1.0, min(low, 1.0), max(high, 1.0), "1"


def judged(family: GemmFamily, folder: Path) -> str:
    """Points, error left out and what the range holds of them, in words."""
    fit, data = fit_family(family, folder), family.load(folder)
    if len({point.weight_shape for point in data}) < MIN_SHAPES or len(data) < MIN_POINTS:
        in_sample = 100.0 * float(np.abs(np.expm1(-np.array(fit.residuals))).mean())
        return f"{len(data)} points, mean error {in_sample:.1f} %"
    error = f"{len(data)} points, weight shapes left out {100 * mean_error(fit, data):.1f} %"
    if family.is_own:
        low, high = across_releases(folder)
        inside = sum(low <= math.exp(residual) <= high for residual in fit.left_out) / len(data)
        return f"{error}, range of other releases holds {100 * inside:.0f} %"
    return f"{error}, range of the others holds {100 * coverage(fit, data):.0f} %"


@cache
def across_releases(folder: Path) -> tuple[float, float]:
    """5 to 95 % of measured / formula where our own BF16 constants meet the same library inside inference frameworks.

    Other releases, other chips, another clock, and none of the calls fitted: what is not known of the next ones either.
    """
    own = next(family for family in FAMILIES if family.is_own)
    others = next(f for f in FAMILIES if not f.is_own and (f.key, f.gpu) == (own.key, own.gpu))
    constants, limits = fit_family(own, folder).constants, limits_of(own.gpu, own.dtype)
    logs = [
        math.log(point.seconds / predict(point, constants, limits, 0.0)) for point in others.load(folder)
        if point.size.flop >= 2.0 * BIG
    ]  # fmt: skip
    low, high = np.quantile(logs, (0.05, 0.95))
    return math.exp(float(low)), math.exp(float(high))


def fitted_group(family: GemmFamily, folder: Path) -> Group:
    """The group of a family."""
    entries: list[Entry] = [entry[:4] for entry in gemm_entries(fit_family(family, folder), sm_peak(family.gpu))]
    note = f"{family.library}; {judged(family, folder)}"
    if family.is_own:
        entries = [
            ("residual", 1.0, *across_releases(folder)) if entry[0] == "residual" else entry for entry in entries
        ]
    if family.quantises:
        entries = [("t0_s", *LAUNCH) if entry[0] == "t0_s" else entry for entry in entries]
        note = f"{family.library}, quantising taken off; {judged(family, folder)}"
    return Group(family.key, family.gpu, family.source, note, entries, family.state)


def carried_groups(groups: Sequence[Group], key: str, source_gpu: str, gpu: str) -> Iterator[Group]:
    """Groups `<key>.<pass>` that a GPU lacks: its own `key` times the ratio of source_gpu's pass to source_gpu's `key`."""
    state = next(group.state for group in groups if (group.prefix, group.gpu) == (key, gpu))
    of = {(group.prefix, group.gpu): {entry[0]: entry[1:] for entry in group.entries} for group in groups}
    own, base = of[key, gpu], of[key, source_gpu]
    for group in groups:
        if group.gpu != source_gpu or not group.prefix.startswith(f"{key}."):
            continue
        entries: list[Entry] = []
        for name, value, low, high in group.entries:
            if name == "residual":
                entries.append((name, 1.0, low * CARRIED_RESIDUAL[0], high * CARRIED_RESIDUAL[1]))
            elif name.startswith("b"):
                entries.append((name, *own[name]))
            else:
                at = min(own[name][0] * value / base[name][0], UPPER.get(name, math.inf))
                if (group.prefix, name) == (f"{key}.wgrad", "st_bytes_per_flop"):
                    at = added_rate(value, load_gpu(source_gpu), load_gpu(gpu)) or at
                entries.append((name, at, at * low / value, max(at, min(at * high / value, UPPER.get(name, math.inf)))))
        note = (
            f"this GPU's own {key}, times the ratio of that pass to the forward on {source_gpu}: no public table has it"
        )
        yield Group(group.prefix, gpu, group.source, note, entries, state)


def slowed_groups(groups: Sequence[Group], folder: Path) -> list[Group]:
    """Grouped kernels of the B200 at the share of their carried rate that torch's reaches there: one factor for all passes."""
    gpu, stem = "b200", "gemm.bf16.grouped"
    limits, flop_per_s = limits_of(gpu, "bf16"), sm_peak(gpu)
    of = {group.prefix: {name: value for name, value, *_ in group.entries} for group in groups if group.gpu == gpu}

    def seconds(prefix: str, size: GemmSize) -> float:
        values: dict[str, Any] = {name: of[prefix][name] for name in FITTED if name not in PER_FLOP}
        values |= {name: of[prefix][relative] * flop_per_s for name, relative in PER_FLOP.items()}
        whole = {name: round(of[prefix][name]) for name in ("bm_max", "bn_max", "bn_step")}
        return gemm_seconds(size, GemmConstants(**values, **whole), limits)

    logs: dict[tuple[int, int], list[float]] = {}
    for m, n, k, experts, measured_s in points.grouped_layers(folder):
        expected = (
            seconds(stem, GemmSize(m, n, k, experts, "fprop", "bf16"))
            + seconds(f"{stem}.dgrad", GemmSize(m, k, n, experts, "dgrad", "bf16"))
            + seconds(f"{stem}.wgrad", GemmSize(n, k, m, experts, "wgrad", "bf16", result="bf16"))
        )
        logs.setdefault((n, k), []).append(math.log(expected / measured_s))
    share = math.exp(fmean(log for each in logs.values() for log in each))
    error = fmean(
        abs(math.expm1(log - fmean(other for key, each in logs.items() if key != shape for other in each)))
        for shape, own in logs.items() for log in own
    )  # fmt: skip
    note = (
        f"at {share:.2f} of that rate, as {sum(map(len, logs.values()))} calls of torchao are: weight shapes left out"
    )
    return [
        group._replace(
            entries=[_slowed(entry, share) for entry in group.entries], note=f"{group.note}; {note} {100 * error:.1f} %"
        )
        if group.gpu == gpu and group.prefix.startswith(stem) else group
        for group in groups
    ]  # fmt: skip


def _slowed(entry: Entry, share: float) -> Entry:
    name, value, low, high = entry
    if name in ("eta", "ecap", *PER_FLOP.values()):
        return name, value * share, low * share, high * share
    return (name, value / share, low / share, high / share) if name == "t_tile_s" else entry


def groups_of(folder: Path) -> list[Group]:
    """All groups of stacks/transfer/gemm.yaml, in its order."""
    groups = [fitted_group(family, folder) for family in FAMILIES if family.is_group]
    groups += carried_groups(groups, "gemm.bf16", "h100", "b200")
    groups = slowed_groups(groups, folder)
    made = {(group.prefix, group.gpu): group for group in groups}
    groups.append(made["gemm.mxfp8", "b200"]._replace(prefix="gemm.fp8-block"))
    groups.append(made["gemm.fp8-block", "h100"]._replace(prefix="gemm.mxfp8", only_families=("blackwell", "cdna4")))
    return groups


def print_groups(folder: Path) -> None:
    """The groups as YAML, behind them what is only judged."""
    print("groups:")
    for group in groups_of(folder):
        print(f"  - prefix: {group.prefix}\n    gpu: {group.gpu}")
        if group.only_families:
            print(f"    only_families: [{', '.join(group.only_families)}]")
        print(f'    source: {group.source}\n    state: {group.state}\n    note: "{group.note}"\n    values:')
        for name, *numbers in group.entries:
            print(f"      {name}: [{', '.join(_number(number) for number in numbers)}]")
    for family in FAMILIES:
        if not family.is_group:
            print(f"# {family.key} on {family.gpu}, {family.library}, judged only: {judged(family, folder)}")


def _number(value: float) -> str:
    text = f"{value:.4g}"
    return text if "." in text or "e" in text else f"{text}.0"


def print_constants(folder: Path, families: Sequence[GemmFamily]) -> None:
    """One line a constant, in SI units."""
    for family in families:
        print(f"# {family.key} from {family.gpu}: {judged(family, folder)}")
        for name, value, low, high, unit in gemm_entries(fit_family(family, folder)):
            numbers = f"value: {value:.4g}, low: {low:.4g}, high: {high:.4g}"
            print(f"{family.key}.{name}: {{gpu: {family.gpu}, {numbers}, unit: {unit}}}")
