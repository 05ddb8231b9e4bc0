"""A row as a scenario that moesim accepts, or why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.scenario import Scenario
from validation.published.batch import batch, precision
from validation.published.draft import Assumed, Draft
from validation.published.layout import layout
from validation.published.machine import cluster
from validation.published.model import model
from validation.published.row import Row

PARTS: tuple[Callable[[Row, Draft], None], ...] = (precision, cluster, model, layout, batch)


@dataclass(frozen=True)
class Statement:
    """What became of a row. source: the scenario's mapping; scenario: loaded, None where it cannot be stated.

    missing: reasons of draft.REASONS → detail; assumed: keys that the row does not give; beside: what no key can say.
    """

    case_id: str
    precision: str
    source: Mapping[str, Any]
    scenario: Scenario | None
    missing: Mapping[str, str]
    assumed: tuple[Assumed, ...]
    beside: tuple[str, ...]


def state(row: Row) -> Statement:
    """The row's statement; a scenario that the loader refuses counts as not statable, with the loader's words."""
    draft = Draft()
    if row.says("lora"):
        draft.lack("LoRA")
    # The paper's system has the parallel block in all of its runs (arXiv:2402.15627, 3.1), its baseline has not.
    if row.says("parallel block") or row.text("framework") == "MegaScale":
        draft.lack("parallel attention and FFN")
    for part in PARTS:
        part(row, draft)
    scenario = None
    if not draft.missing:
        source = {"schema_version": 1, "name": row.text("case_id"), **draft.scenario, "draws": 1}
        try:
            scenario = load_scenario(source)
        except InputError as error:
            draft.lack("refused by moesim", "; ".join(str(problem) for problem in error.problems))
    return Statement(
        row.text("case_id"), row.text("precision"), draft.scenario, scenario, dict(draft.missing), tuple(draft.assumed),
        tuple(draft.beside),
    )  # fmt: skip
