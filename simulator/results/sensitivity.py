"""What would move a run's GPU-hours, and by how much: the document of `moesim sensitivity`, which the tornado is drawn from."""

from __future__ import annotations

from math import fsum
from typing import Literal

from pydantic import Field

from simulator.results.document import SCHEMA_VERSION, ResultModel
from simulator.results.interval import Estimate
from simulator.results.joint import Joint, Source

QUANTITY = "totals.gpu_hours"


class SensitivityRow(ResultModel):
    """A source of uncertainty: of its own number low, value and high (of what has no unit, factors of what is predicted), what
    the quantity changes by with it at either end and all else as it is, in the quantity's unit, and the share of the quantity's
    variance that goes if the source were known (first-order index of Sobol).
    """

    key: str
    low: float
    value: float
    high: float
    effect_low: float
    effect_high: float
    first_order: float = Field(ge=0)


class OneSided(ResultModel):
    """A mechanism that a real run has and the prediction has not: it only ever adds time. No range is known of it, and none is
    in the interval but for what runs of equal inputs differ by (`run.unrecorded`), which has real runs on both sides.
    """

    what: str
    sign: Literal["longer"] = "longer"


class Sensitivity(ResultModel):
    """quantity: a dotted path of the result document; total: it, with its joint 90 % interval. rows: what moves it, the widest
    first; still: keys of sources that do not. draws: so many of all sources at once. interactions: share of the variance that
    no source has alone; negative where sources hold one another back.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    quantity: str
    total: Estimate
    rows: tuple[SensitivityRow, ...]
    still: tuple[str, ...]
    draws: int = Field(gt=0)
    interactions: float
    not_modelled: tuple[OneSided, ...]


def sensitivity_of(total: Estimate, joint: Joint, not_modelled: tuple[str, ...]) -> Sensitivity:
    """The document of a quantity and its draws."""
    moving = [each for each in joint.sources if each.effect.width]
    moving.sort(key=lambda each: (-each.effect.width, each.key))
    rows = tuple(_row(each, total.value, joint.first_order[each.key]) for each in moving)
    return Sensitivity(
        quantity=QUANTITY,
        total=total,
        rows=rows,
        still=tuple(sorted(each.key for each in joint.sources if not each.effect.width)),
        draws=len(joint.relative),
        interactions=1.0 - fsum(row.first_order for row in rows) if rows else 0.0,
        not_modelled=tuple(OneSided(what=what) for what in not_modelled),
    )


def _row(source: Source, value: float, share: float) -> SensitivityRow:
    return SensitivityRow(
        key=source.key, low=source.low, value=source.value, high=source.high, effect_low=value * source.at_low,
        effect_high=value * source.at_high, first_order=share,
    )  # fmt: skip
