"""Which layers and steps belong to one proof: what is measured together, and what was predicted before. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from hwprofiles.proof_cases import drawn_layers, drawn_steps, layer_cases, step_cases
from hwprofiles.proof_cases.layer_cases import LayerCase
from hwprofiles.proof_cases.sizes import OWN, Products
from hwprofiles.proof_cases.step_cases import StepCase

FIRST: Final = "first"


@dataclass(frozen=True, slots=True)
class CaseSet:
    """what: in a line, for tables. layers, steps: the cases, possibly none. looks_at_host: small models that tell what layers
    take the host are measured between the steps.
    """

    what: str
    layers: Callable[[], Iterator[LayerCase]]
    steps: Callable[[], Iterator[StepCase]]
    looks_at_host: bool = False


def _none() -> Iterator[Any]:
    yield from ()


SETS: Final[Mapping[str, CaseSet]] = {
    FIRST: CaseSet("layers and steps of published models' kinds", layer_cases.proved, step_cases.proved),
    "drawn": CaseSet("layers drawn by a rule, in all recipes", drawn_layers.drawn, _none),
    "drawn-steps": CaseSet(
        "steps of models drawn by a rule, in all recipes", _none, drawn_steps.drawn, looks_at_host=True
    ),
    "later-steps": CaseSet(
        "steps of other models drawn by the same rule", _none, drawn_steps.drawn_later, looks_at_host=True
    ),
    "own": CaseSet("layers drawn by a rule, by this project's FP8 products", drawn_layers.drawn_own, _none),
    "own-steps": CaseSet(
        "steps of drawn models as graphs, by this project's FP8 products", _none, drawn_steps.drawn_own
    ),
}
"""Name, as --cases takes it → what is proved. Files of a set but the first bear its name behind the GPU's."""
C = TypeVar("C", LayerCase, StepCase)


def by_products(cases: Iterable[C], products: Products | None) -> Iterator[C]:
    """As they are where nothing is said; else those of the recipe that both kinds of products have, by these."""
    if products is None:
        yield from cases
    else:
        yield from (replace(case, products=products) for case in cases if case.recipe == OWN)
