"""A proof in tables: sums by kind of layer and of steps with their goals, then every figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hwprofiles.proof_cases.sets import SETS
from hwprofiles.units import GIGA, MILLI
from validation.instrument.table import Table
from validation.proof.compare import GOALS, Figure, Proof, Summary, summaries

UNITS: Final = {"peak_bytes": (1.0 / GIGA, "GB"), "": (1.0 / MILLI, "ms")}
"""Figure → factor and unit in which it is shown; "": seconds."""
NOTE: Final = "predictions were committed before anything was measured; nothing is fitted to these figures"

WITH_HOST: Final = (
    "code, rule and kernels were committed before anything was measured; what layers take the host is of small models that "
    "were measured between the steps; nothing is fitted to these figures"
)


def tables(proof: Proof) -> list[Table]:
    """All of them."""
    name, figures = proof.name, proof.figures
    note = WITH_HOST if any(name.endswith(f"-{each}") for each, cases in SETS.items() if cases.looks_at_host) else NOTE
    found = [
        Table(f"{name}: predicted beside measured, by goal", SUMMED, list(_goals(figures)), note),
        Table(f"{name}: layers alone, by kind and pass", SUMMED, list(_layer_sums(figures))),
        Table(f"{name}: steps, by way of running", SUMMED, list(_step_sums(figures))),
        Table(f"{name}: every figure", EVERY, list(_lines(figures)), left=(0, 1)),
    ]
    if proof.missing:
        found.append(
            Table(f"{proof.name}: left out", ("of", "why"), [_apart(each) for each in proof.missing], left=(0, 1))
        )
    return [table for table in found if table.rows]


EVERY: Final = ("of", "what", "predicted", "measured", "error")
SUMMED: Final = ("of", "figures", "mean error", "worst", "bias", "goal")


def _goals(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    for name, (most, ceiling) in GOALS.items():
        own = [figure for figure in figures if figure.of == name]
        if own:
            yield _summed(name, Summary.of(own), f"{most:.0%}, none above {ceiling:.0%}")


def _layer_sums(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    own = [figure for figure in figures if figure.of == "layers"]
    for key in (lambda figure: f"{figure.group} {figure.what}", lambda figure: f"all {figure.what}"):
        for name, summary in summaries(own, key).items():
            yield _summed(name, summary)


def _step_sums(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    own = [figure for figure in figures if figure.of != "layers"]
    for name, summary in summaries(own, lambda figure: f"{figure.group} {figure.what}").items():
        yield _summed(name, summary)


def _summed(name: str, summary: Summary, goal: str = "") -> tuple[str, ...]:
    return name, str(summary.count), f"{summary.mean:.1%}", f"{summary.worst:.1%}", f"{summary.bias:+.1%}", goal


def _lines(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    for figure in figures:
        factor, unit = UNITS.get(figure.what, UNITS[""])
        shown = (f"{value * factor:.3f} {unit}" for value in (figure.predicted, figure.measured))
        yield figure.name, figure.what, *shown, f"{figure.error:+.1%}"


def _apart(told: str) -> tuple[str, str]:
    name, _, why = told.partition(": ")
    return name, why


def document(proof: Proof) -> Mapping[str, Any]:
    """For machines."""
    return {
        "name": proof.name, "missing": list(proof.missing),
        "goals": {
            name: {"mean_abs_error": found.mean, "max_abs_error": found.worst, "bias": found.bias, "count": found.count}
            for name in GOALS
            if (own := [figure for figure in proof.figures if figure.of == name]) and (found := Summary.of(own))
        },
        "figures": [
            {"of": each.name, "what": each.what, "predicted": each.predicted, "measured": each.measured, "error": each.error}
            for each in proof.figures
        ],
    }  # fmt: skip
