"""Fits the constants of the kernel formulas that the catalogue holds, and prints them as YAML.

    python -m hwprofiles.calibration.fit REFERENCE_DIR gemm        shares and times of each GEMM family, by source GPU
    python -m hwprofiles.calibration.fit REFERENCE_DIR attention   the same of attention
    python -m hwprofiles.calibration.fit REFERENCE_DIR h800        GEMM constants of the H800 stacks, in SI units
    python -m hwprofiles.calibration.fit REFERENCE_DIR rings       shares and fills of rings and switches, by source GPU
    python -m hwprofiles.calibration.fit REFERENCE_DIR rows        kernels.csv of stacks/h800-notrace

REFERENCE_DIR holds copies of the public tables, as reference_points.py states them; only what is printed here is
committed. Rates of an SM's store and fetch are printed as bytes for each FLOP of its BF16 peak, so that
they can be carried to another GPU. Ranges of constants are 90 % of the fit; `residual` is the 5 to 95 % range of
measured / formula on weight shapes that the fit had not seen.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwprofiles.calibration import attention_families as families
from hwprofiles.calibration import notrace_rows, ring_fit
from hwprofiles.calibration import reference_points as points
from hwprofiles.calibration.attention_fit import configuration, head_size
from hwprofiles.calibration.gemm_fit import FITTED, UPPER, GemmFit, GemmPoint, Prior, fit_gemm, with_folds
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.gemm_formula import GemmLimits
from hwprofiles.kernels.parameters import peak_flop_per_s
from hwprofiles.units import MICRO

ONE_SIDED_95 = 1.645
"""Standard errors to the ends of a 90 % range."""
PER_FLOP = {"st_bytes_per_s": "st_bytes_per_flop", "l2_bytes_per_s": "l2_bytes_per_flop"}
"""Rates of an SM and their names where they are relative."""
UNITS = {"t0_s": "s", "t_tile_s": "s", "st_bytes_per_s": "bytes/s", "l2_bytes_per_s": "bytes/s"}


@dataclass(frozen=True)
class GemmFamily:
    """What one fit is made of. key: prefix of the parameters; gpu: catalogue name; tiles: bm_max, bn_max, bn_step.

    quantises: the timed calls quantise their input, which gets a constant of its own.
    """

    key: str
    gpu: str
    dtype: str
    load: Callable[[Path], list[GemmPoint]]
    tiles: tuple[int, int, int]
    quantises: bool = False


def _framework(gpu: str, frameworks: Sequence[str], table_dtype: str, dtype: str) -> Callable[[Path], list[GemmPoint]]:
    quantises = table_dtype in ("fp8", "fp8_block", "nvfp4")
    return lambda folder: points.framework_gemms(folder, gpu, frameworks, table_dtype, dtype, quantises)


BOTH = ("TRTLLM", "SGLang")
CUBLAS_TILES, DEEPGEMM_TILES, CUTLASS_TILES = (256, 256, 32), (256, 160, 8), (128, 128, 64)

FAMILIES = (
    GemmFamily("gemm.bf16", "h100", "bf16", _framework("H100", BOTH, "bfloat16", "bf16"), CUBLAS_TILES),
    GemmFamily("gemm.bf16", "b200", "bf16", _framework("B200", BOTH, "bfloat16", "bf16"), CUBLAS_TILES),
    GemmFamily(
        "gemm.fp8-block", "h100", "fp8-block", _framework("H100", ["SGLang"], "fp8_block", "fp8-block"), DEEPGEMM_TILES,
        quantises=True,
    ),
    GemmFamily("gemm.mxfp8", "b200", "mxfp8", _framework("B200", ["TRTLLM"], "fp8_block", "mxfp8"), DEEPGEMM_TILES, True),
    GemmFamily(
        "gemm.fp8-tensor", "h100", "fp8-tensor", _framework("H100", ["TRTLLM"], "fp8", "fp8-tensor"), CUBLAS_TILES, True
    ),
    GemmFamily(
        "gemm.fp8-tensor", "b200", "fp8-tensor", _framework("B200", ["TRTLLM"], "fp8", "fp8-tensor"), CUBLAS_TILES, True
    ),
    GemmFamily("gemm.fp8-row", "h100", "fp8-row", _framework("H100", ["SGLang"], "fp8", "fp8-row"), CUBLAS_TILES, True),
    GemmFamily("gemm.fp8-row", "b200", "fp8-row", _framework("B200", ["SGLang"], "fp8", "fp8-row"), CUBLAS_TILES, True),
    GemmFamily("gemm.nvfp4", "b200", "nvfp4", _framework("B200", ["TRTLLM"], "nvfp4", "nvfp4"), CUBLAS_TILES, True),
    GemmFamily(
        "gemm.fp8-block", "h800", "fp8-block", lambda f: points.deepgemm(f, "apr-2025", cutlass=False), CUTLASS_TILES
    ),
    GemmFamily(
        "gemm.fp8-block.wgrad", "h800", "fp8-block",
        lambda f: points.deepgemm_wgrad(f, rerun_on_h200=False), CUTLASS_TILES,
    ),
    GemmFamily(
        "gemm.fp8-block.wgrad", "h200", "fp8-block",
        lambda f: points.deepgemm_wgrad(f, rerun_on_h200=True), CUTLASS_TILES,
    ),
)  # fmt: skip
"""Sources of the transfer stacks. Frameworks are pooled where both call the same library."""

H800_FAMILIES = (
    GemmFamily("gemm.bf16", "h100", "bf16", _framework("H100", BOTH, "bfloat16", "bf16"), CUBLAS_TILES),
    GemmFamily(
        "gemm.fp8-block", "h800", "fp8-block", lambda f: points.deepgemm(f, "initial", cutlass=True), CUTLASS_TILES
    ),
    GemmFamily(
        "gemm.fp8-block.wgrad", "h800", "fp8-block",
        lambda f: points.deepgemm_wgrad(f, rerun_on_h200=False), CUTLASS_TILES,
    ),
)  # fmt: skip
"""Constants of stacks/h800-*: the tuned CUTLASS 3.6 kernels of the training era; BF16 as on the H100."""

MIN_SHAPES_FOR_FOLDS = 4


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


def fit_family(family: GemmFamily, folder: Path) -> GemmFit:
    """Fit with left-out weight shapes; where they are too few, the residuals in sample are doubled instead."""
    limits = limits_of(family.gpu, family.dtype)
    data = family.load(folder)
    priors = priors_of(limits, sm_peak(family.gpu), quantises=family.quantises)
    if len({point.weight_shape for point in data}) < MIN_SHAPES_FOR_FOLDS:
        fit = fit_gemm(data, limits, priors, family.tiles)
        return replace(fit, left_out=tuple(2.0 * residual for residual in fit.residuals))
    return with_folds(data, limits, priors, family.tiles)


def gemm_entries(fit: GemmFit, relative_to: float | None = None) -> Iterator[tuple[str, float, float, float, str]]:
    """(constant, value, low, high, unit) of a fit. relative_to: FLOP/s by which the rates of an SM are divided."""
    for name in FITTED:
        value = getattr(fit.constants, name)
        spread = math.exp(ONE_SIDED_95 * fit.log_errors[name])
        low, high = value / spread, min(value * spread, UPPER.get(name, math.inf))
        unit = UNITS.get(name, "1")
        if relative_to is not None and name in PER_FLOP:
            value, low, high = value / relative_to, low / relative_to, high / relative_to
            name, unit = PER_FLOP[name], "bytes/FLOP"
        yield name, value, low, max(high, value), unit
    for name in ("bm_max", "bn_max", "bn_step"):
        size = float(getattr(fit.constants, name))
        yield name, size, size, size, "elements"
    low, high = (math.exp(float(np.quantile(fit.left_out, q))) for q in (0.05, 0.95))
    yield "residual", 1.0, min(low, 1.0), max(high, 1.0), "1"


def error_of(fit: GemmFit) -> str:
    """Mean absolute error in sample and left out, in words."""
    in_sample, left_out = (float(np.abs(np.expm1(-np.array(r))).mean()) for r in (fit.residuals, fit.left_out))
    return f"n {len(fit.residuals)}, mean error {100 * in_sample:.1f} %, weight shapes left out {100 * left_out:.1f} %"


def print_gemms(folder: Path, families: Sequence[GemmFamily], *, relative: bool) -> None:
    """One line a constant."""
    for family in families:
        fit = fit_family(family, folder)
        print(f"# {family.key} from {family.gpu}: {error_of(fit)}")
        for name, value, low, high, unit in gemm_entries(fit, sm_peak(family.gpu) if relative else None):
            numbers = f"value: {value:.4g}, low: {low:.4g}, high: {high:.4g}"
            print(f"{family.key}.{name}: {{gpu: {family.gpu}, {numbers}, unit: {unit}}}")


def print_attention(folder: Path) -> None:
    """Groups of stacks/transfer/attention.yaml; rates as shares of the datasheet peak.

    The residual of a head size that was measured is the 5 to 95 % range of all families' configurations left out, that of any
    other size the range of head sizes left out; of 8-bit formats their own.
    """
    for family in families.FAMILIES:
        alike = [other for other in families.FAMILIES if (other.dtype == "bf16") == (family.dtype == "bf16")]
        known, unknown = (
            families.spread([e for other in alike for e in families.errors_left_out(folder, other, group)])
            for group in (configuration, head_size)
        )
        fit = families.constants_of(folder, family)
        prefix = f"attention.{family.dtype}.{family.direction}.{family.library}"
        print(f"  # n {fit.calls}, mean error in fit {100 * fit.in_fit:.1f} %")
        _print_group(prefix, family.gpu, {**fit.shared, "residual": (1.0, *unknown)})
        for size, rate in fit.rate_share.items():
            _print_group(f"{prefix}.d{size}", family.gpu, {"rate_share": rate, "residual": (1.0, *known)})


def _print_group(prefix: str, gpu: str, values: Mapping[str, tuple[float, float, float]]) -> None:
    print(f"  - prefix: {prefix}\n    gpu: {gpu}\n    state: benchmark_loop\n    values:")
    for name, triple in values.items():
        print(f"      {name}: [{', '.join(_number(value) for value in triple)}]")


def _number(value: float) -> str:
    """Three digits, with the dot that YAML's floats need."""
    text = f"{value:.3g}"
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent}" if exponent else mantissa


def print_attention_left_out(folder: Path) -> None:
    """Errors of every family on configurations and on head sizes left out, and how often the others' range holds them."""
    every = (*families.FAMILIES, *families.INFERENCE)
    for what, group in (("configuration", configuration), ("head size", head_size)):
        errors = {family.name: families.errors_left_out(folder, family, group) for family in every}
        for name, found in errors.items():
            others = [error for other, each in errors.items() if other != name for error in each]
            inside = families.share_inside(found, families.spread(others))
            mean = families.mean_error(found)
            print(
                f"{what} left out, {name}: n {len(found)}, error {100 * mean:.1f} %, {100 * inside:.0f} % in the others' range"
            )
        pooled = [error for each in errors.values() for error in each]
        low, high = families.spread(pooled)
        print(
            f"{what} left out, all: n {len(pooled)}, error {100 * families.mean_error(pooled):.1f} %, {low:.3f} to {high:.3f}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m hwprofiles.calibration.fit")
    parser.add_argument("reference", type=Path)
    parser.add_argument("part", choices=("gemm", "attention", "attention-left-out", "h800", "rings", "rows"))
    given = parser.parse_args(arguments)
    if given.part == "gemm":
        print_gemms(given.reference, FAMILIES, relative=True)
    elif given.part == "h800":
        print_gemms(given.reference, H800_FAMILIES, relative=False)
    elif given.part == "attention":
        print_attention(given.reference)
    elif given.part == "attention-left-out":
        print_attention_left_out(given.reference)
    elif given.part == "rings":
        print("\n".join(ring_fit.report([*points.nccl_rings(given.reference), *points.own_rings()])))
    else:
        sys.stdout.write(notrace_rows.as_csv(given.reference))


if __name__ == "__main__":
    main()
