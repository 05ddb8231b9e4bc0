"""A result as one long table: a row a number or text of the document, by its own keys, in its own order, in SI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from simulator.report.key_units import unit_of
from simulator.results.document import JsonValue, to_document
from simulator.results.run_result import RunResult

ENDS: Final = frozenset({"value", "low", "high"})
RANGES: Final = {"step_s": ("interval", "step_interval"), "wall_s": ("wall_interval",)}
"""Key → the keys beside it that hold the ends of its interval."""
NAMED_BY: Final = ("name", "key", "category", "what", "pp_rank", "global_batch_size", "provider")
"""Keys that tell the entries of a list apart, the first that an entry has."""


@dataclass(frozen=True, slots=True)
class Row:
    """A statement of a result. key: dotted, with the names of a list's entries in it; an end or a source that there is not
    is None or "".
    """

    section: str
    key: str
    value: float | str | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    source: str = ""


def rows(result: RunResult) -> Iterator[Row]:
    """All rows: what the run costs first, the scenario that it is of last."""
    document = to_document(result)
    first = ("totals", "price", "steady_state", "phases", "step", "memory", "placement", "basis", "assumptions")
    texts = ("not_modelled", "warnings", "dropped")
    provenance = [
        key
        for key in document
        if key not in (*first, *texts, "scenario", "defaults_used") and document[key] is not None
    ]
    for section in (*first, *texts, *provenance, "scenario", "defaults_used"):
        if section in document:
            yield from _rows(_section(section, provenance), section, document[section])


def _section(key: str, provenance: Sequence[str]) -> str:
    return "provenance" if key in provenance and key != "model" else key


def _rows(section: str, key: str, value: JsonValue) -> Iterator[Row]:
    if isinstance(value, Mapping):
        yield from _mapping(section, key, value)
    elif isinstance(value, list):
        yield from _list(section, key, value)
    elif isinstance(value, bool) or value is None:
        yield Row(section, key, {True: "true", False: "false", None: ""}[value])
    elif isinstance(value, int | float):
        yield Row(section, key, value, unit_of(key))
    else:
        yield Row(section, key, str(value))


def _mapping(section: str, key: str, value: Mapping[str, Any]) -> Iterator[Row]:
    """An estimate is a row; a number with its interval beside it too."""
    if value.keys() == ENDS and section != "scenario":
        yield Row(section, key, value["value"], unit_of(key), value["low"], value["high"])
        return
    if value.keys() == ENDS - {"value"} and section != "scenario":
        yield Row(section, key, None, unit_of(key), value["low"], value["high"])
        return
    if section == "price":
        yield from _price(section, key, value)
        return
    taken = {beside for name in value for beside in RANGES.get(name, ()) if beside in value}
    for name, child in value.items():
        ends = next((value[beside] for beside in RANGES.get(name, ()) if beside in value), None)
        if name in taken:
            continue
        path = f"{key}.{name}"
        if ends is not None:
            yield Row(section, path, child, unit_of(path), ends["low"], ends["high"])
        else:
            yield from _rows(section, path, child)


def _price(section: str, key: str, value: Mapping[str, Any]) -> Iterator[Row]:
    """A price, or an offer: its range and source in the row of its amount."""
    path = f"{key}.usd_per_gpu_hour"
    yield Row(section, path, value["usd_per_gpu_hour"], unit_of(path), value["low"], value["high"], value["source"])
    for name, child in value.items():
        if name not in ("usd_per_gpu_hour", "low", "high", "source"):
            yield from _rows(section, f"{key}.{name}", child)


def _list(section: str, key: str, value: Sequence[Any]) -> Iterator[Row]:
    """Entries by their names; texts and numbers in one row where they are few, else a row each."""
    if section == "assumptions":
        yield from (row for entry in value for row in _assumption(section, entry))
        return
    if all(not isinstance(entry, Mapping | list) for entry in value):
        if section in ("not_modelled", "warnings", "dropped", "defaults_used"):
            yield from (Row(section, f"{key}.{place}", str(entry)) for place, entry in enumerate(value, start=1))
        else:
            yield Row(section, key, ", ".join(map(str, value)))
        return
    names = [_name(entry, place) for place, entry in enumerate(value, start=1)]
    often = Counter(names)
    for place, (entry, name) in enumerate(zip(value, names, strict=True), start=1):
        label = name if often[name] == 1 else f"{name}.{place}"
        yield from _rows(section, f"{key}.{label}", _without_name(entry))


def _assumption(section: str, entry: Mapping[str, Any]) -> Iterator[Row]:
    key, value = str(entry["key"]), entry["value"]
    low, high = (end if _is_number(end) else None for end in (entry.get("low"), entry.get("high")))
    if _is_number(value):
        yield Row(section, key, value, str(entry.get("unit") or unit_of(key)), low, high, str(entry["source"]))
    else:
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield Row(section, key, words, "", low, high, str(entry["source"]))
    effect = entry.get("effect_on_gpu_hours")
    if effect is not None:
        yield Row(section, f"{key}.effect_on_gpu_hours", None, "GPU-hours", effect["low"], effect["high"])


def _named_by(entry: Mapping[str, Any]) -> str | None:
    return next((key for key in NAMED_BY if key in entry), None)


def _name(entry: Any, place: int) -> str:
    by = _named_by(entry) if isinstance(entry, Mapping) else None
    return str(place) if by is None else str(entry[by])


def _without_name(entry: Any) -> Any:
    """The entry without the key that its path names."""
    if not isinstance(entry, Mapping):
        return entry
    by = _named_by(entry)
    return {key: value for key, value in entry.items() if key != by}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
