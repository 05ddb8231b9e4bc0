"""`moesim list`: the catalogues, one entry a line, or as JSON with the entries' facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

from hwprofiles import catalog, stack_choice
from hwprofiles.names import nearest
from hwprofiles.problems import show
from simulator.cli.output import print_json
from simulator.errors import InputError

Entry = dict[str, Any]


def print_entries(kind: str, as_json: bool) -> None:
    """Print a catalogue. Raises InputError: no such catalogue, or one that does not exist yet."""
    if kind in _NOT_MODELLED:
        raise InputError(f"list {kind}: not modelled yet; {_NOT_MODELLED[kind]}")
    if kind not in _KINDS:
        raise InputError(f"list: no catalogue {show(kind)}{nearest(kind, [*_KINDS, *_NOT_MODELLED])}")
    entries = list(_KINDS[kind]())
    if as_json:
        print_json(entries)
        return
    width = max((len(entry["name"]) for entry in entries), default=0)
    for entry in entries:
        print(f"{entry['name']:<{width}}  {_summary(entry)}".rstrip())


def _summary(entry: Entry) -> str:
    """The text facts of an entry in one line; numbers are for --json."""
    return ", ".join(str(value) for key, value in entry.items() if key != "name" and isinstance(value, str) and value)


def _records(kind: catalog.Kind, load: Callable[[str], Any]) -> Iterator[Entry]:
    for name in catalog.list_names(kind):
        yield load(name).model_dump(mode="json", exclude={"sources"}, exclude_none=True)


def _models() -> Iterator[Entry]:
    from simulator.scenario.model_catalog import load_model, model_names
    from simulator.workload.model_counts import count_parameters

    for name in model_names():
        model = load_model(name)
        yield {**asdict(count_parameters(model)), **model.model_dump(mode="json", exclude_none=True)}


def _stacks() -> Iterator[Entry]:
    for name in stack_choice.stack_names():
        provenance = stack_choice.stack_provenance(name)
        yield {"name": name, "gpu": provenance.gpu, "description": provenance.description}


def _presets() -> Iterator[Entry]:
    from simulator.scenario import load_scenario
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
        }


def _cases() -> Iterator[Entry]:
    from validation.case import case_names, load_case

    for name in case_names():
        case = load_case(name)
        yield {
            "name": name,
            "scenario": case.scenario,
            "stacks": list(case.stacks),
            "num_quantities": len(case.quantities),
            **case.group.model_dump(mode="json"),
        }


def _schedules() -> Iterator[Entry]:
    from simulator.schedule import SCHEDULES

    for name in SCHEDULES.names():
        yield {"name": name}


_KINDS: Final[dict[str, Callable[[], Iterator[Entry]]]] = {
    "gpus": lambda: _records("gpus", catalog.load_gpu),
    "nodes": lambda: _records("nodes", catalog.load_node),
    "fabrics": lambda: _records("fabrics", catalog.load_fabric),
    "models": _models,
    "stacks": _stacks,
    "schedules": _schedules,
    "presets": _presets,
    "cases": _cases,
}

_NOT_MODELLED: Final = {
    "frameworks": "write the keys that a framework's release sets into the scenario",
}
