"""The catalogues that `moesim list` shows: every entry with its facts, its name first.

Imports nothing heavy before a catalogue is asked for, so that the command line's help can name them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final, Literal

from simulator import not_modelled
from simulator.registry import Family

Entry = dict[str, Any]
SHOWN_RANKS: Final = 8
"""Pipeline ranks for which a schedule's smallest number of micro-batches is given."""


def _records(kind: Literal["gpus", "nodes", "fabrics", "prices"]) -> Iterator[Entry]:
    from hwprofiles import catalog

    loaders: dict[str, Callable[[str], Any]] = {
        "gpus": catalog.load_gpu,
        "nodes": catalog.load_node,
        "fabrics": catalog.load_fabric,
        "prices": catalog.load_prices,
    }
    for name in catalog.list_names(kind):
        yield loaders[kind](name).model_dump(mode="json", exclude={"sources"}, exclude_none=True)


def _prices() -> Iterator[Entry]:
    """Sheets; how many single offers each has, and whose."""
    for entry in _records("prices"):
        offers = [offer for price in entry["entries"].values() for offer in price["offers"]]
        yield entry | {"num_offers": len(offers), "providers": sorted({offer["provider"] for offer in offers})}


def _models() -> Iterator[Entry]:
    from simulator.scenario.model_catalog import load_model, model_names
    from simulator.workload.model_counts import count_parameters

    for name in model_names():
        model = load_model(name)
        yield {"name": name, **asdict(count_parameters(model)), **model.model_dump(mode="json", exclude_none=True)}


def _stacks() -> Iterator[Entry]:
    from hwprofiles import stack_choice
    from hwprofiles.age import first_day

    for name in stack_choice.stack_names():
        provenance = stack_choice.stack_provenance(name)
        stated = provenance.calibration
        dates = [source.date for source in provenance.sources.values() if source.date]
        yield {
            "name": name,
            "gpu": provenance.gpu,
            "kind": stack_choice.stack_kind(name),
            "is_default": stack_choice.default_stack(provenance.gpu) == name,
            "date": stated.date if stated else max(dates, key=first_day, default=None),
            "software": provenance.software,
            **(stated.model_dump(exclude={"date"}, exclude_none=True) if stated else {}),
            "description": provenance.description,
        }


def _presets() -> Iterator[Entry]:
    from hwprofiles import stack_choice
    from simulator.check import load_scenario
    from simulator.scenario.layers import preset_names

    for name in preset_names():
        scenario = load_scenario(name)
        cluster = scenario.canonical()["cluster"]
        yield {
            "name": name,
            "model": scenario.model.name,
            "node": cluster["node"],
            "num_gpus": cluster["num_gpus"],
            "stack": scenario.stack,
            "stack_kind": stack_choice.stack_kind(scenario.stack),
        }


def _cases() -> Iterator[Entry]:
    from validation.case import case_names, load_case

    for name in case_names():
        case = load_case(name)
        yield {
            "name": name,
            "scenario": case.scenario_name,
            "stacks": list(case.stacks),
            "num_quantities": len(case.quantities),
            **case.group.model_dump(mode="json"),
        }


def _schedules() -> Iterator[Entry]:
    from simulator.schedule import PUBLISHED_BUBBLES, SCHEDULES, next_valid_micro_batches

    for name in SCHEDULES.names():
        entry = {"name": name, "min_micro_batches_of_8_ranks": next_valid_micro_batches(name, SHOWN_RANKS, 1)[-1]}
        published = PUBLISHED_BUBBLES.get(name)
        if published is not None:
            entry |= {"bubble": published.formula, "parameter_copies": published.parameter_copies}
        yield entry


def _topologies() -> Iterator[Entry]:
    from simulator.network import topologies as _registered  # noqa: F401
    from simulator.network.wiring import TOPOLOGIES

    for name in TOPOLOGIES:
        yield {"name": name, "networks": "one a rail" if TOPOLOGIES[name].has_planes else "one"}


def _recipes() -> Iterator[Entry]:
    from simulator.scenario.recipes import RECIPES

    for name in RECIPES:
        yield {"name": name, **asdict(RECIPES[name])}


def _frameworks() -> Iterator[Entry]:
    from simulator.scenario.releases import catalogue

    yield from catalogue()


CATALOGUES: Final[Family[Callable[[], Iterator[Entry]]]] = Family(
    "catalogue", planned=[entry.name for entry in not_modelled.entries("catalogue")]
)
CATALOGUES.add("gpus", lambda: _records("gpus"))
CATALOGUES.add("nodes", lambda: _records("nodes"))
CATALOGUES.add("fabrics", lambda: _records("fabrics"))
CATALOGUES.add("prices", _prices)
CATALOGUES.add("models", _models)
CATALOGUES.add("stacks", _stacks)
CATALOGUES.add("presets", _presets)
CATALOGUES.add("cases", _cases)
CATALOGUES.add("schedules", _schedules)
CATALOGUES.add("topologies", _topologies)
CATALOGUES.add("recipes", _recipes)
CATALOGUES.add("frameworks", _frameworks)
