"""Fits the constants of the kernel formulas that the catalogue holds, and prints them as YAML.

    python -m hwprofiles.calibration.fit REFERENCE_DIR gemm        the groups of stacks/transfer/gemm.yaml
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
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwprofiles.calibration import attention_families as families
from hwprofiles.calibration import notrace_rows, ring_fit
from hwprofiles.calibration import reference_points as points
from hwprofiles.calibration.attention_fit import configuration, head_size
from hwprofiles.calibration.gemm_families import H800_FAMILIES
from hwprofiles.calibration.gemm_groups import print_constants, print_groups


def print_attention(folder: Path) -> None:
    """Groups of stacks/transfer/attention.yaml; rates as shares of the datasheet peak.

    The residual of a head size that was measured is the 5 to 95 % range of configurations left out in all families of its kind
    (own measurements, published BF16, published 8-bit formats), that of any other size the range of head sizes left out.
    """
    for family in families.FAMILIES:
        alike = [other for other in families.FAMILIES if _kind(other) == _kind(family)]
        known, unknown = (
            families.spread([e for other in alike for e in families.errors_left_out(folder, other, group)])
            for group in (configuration, head_size)
        )
        fit = families.constants_of(folder, family)
        prefix = f"attention.{family.dtype}.{family.direction}.{family.library}"
        print(f"  # n {fit.calls}, mean error in fit {100 * fit.in_fit:.1f} %")
        _print_group(prefix, family, {**fit.shared, "residual": (1.0, *unknown)})
        for size, rate in fit.rate_share.items():
            _print_group(f"{prefix}.d{size}", family, {"rate_share": rate, "residual": (1.0, *known)})


def _kind(family: families.AttentionFamily) -> tuple[bool, bool]:
    return family.dtype == "bf16", family.is_own


def _print_group(
    prefix: str, family: families.AttentionFamily, values: Mapping[str, tuple[float, float, float]]
) -> None:
    print(f"  - prefix: {prefix}\n    gpu: {family.gpu}\n    state: {family.state}\n    values:")
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
        print_groups(given.reference)
    elif given.part == "h800":
        print_constants(given.reference, H800_FAMILIES)
    elif given.part == "attention":
        print_attention(given.reference)
    elif given.part == "attention-left-out":
        print_attention_left_out(given.reference)
    elif given.part == "rings":
        rings = [*points.nccl_rings(given.reference), *points.own_rings()]
        print("\n".join(ring_fit.report(rings, points.nccl_exchanges(given.reference))))
    else:
        sys.stdout.write(notrace_rows.as_csv(given.reference))


if __name__ == "__main__":
    main()
