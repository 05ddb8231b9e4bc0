"""What the scenario says: what differs first."""

from __future__ import annotations

from simulator.report import facts
from simulator.report.html.blocks import Block, Folded, Section, Table, Words, section
from simulator.report.inputs import Input, all_inputs, from_preset
from simulator.results.run_result import RunResult

TEXT = frozenset({1, 2})


def inputs(result: RunResult, key: str, *, with_all: bool = True) -> Section | None:
    """Differences from the nearest preset, and, folded, the keys that were given and (with_all) those that were not."""
    return section(key, "Inputs", [_who(result), *_differences(result), *(_keys(result) if with_all else ())])


def _who(result: RunResult) -> Table:
    placed = facts.placement_line(result)
    rows = [
        ("Model", facts.model_line(result).removeprefix("model ")),
        ("Machines and plan", facts.machines_line(result)),
        ("Step", facts.batch_line(result)),
        ("Measurements", facts.stack_line(result).removeprefix("stack ")),
        *([("Placement", placed)] if placed else []),
    ]
    return Table("What is trained, on what, how", ("", ""), tuple(rows), TEXT)


def _differences(result: RunResult) -> list[Block]:
    found = from_preset(result)
    if found is None:
        return [Words("No preset trains this model: every key that was given stands below.", "note")]
    if not found.rows:
        return [Words(f"All inputs are those of the preset {found.preset}.")]
    caption = f"What differs from the preset {found.preset}"
    return [Table(caption, ("key", found.preset, "here"), found.rows, TEXT)]


def _keys(result: RunResult) -> list[Block]:
    rows = all_inputs(result)
    given = tuple(_cells(row) for row in rows if not row.is_default and not row.key.startswith("model."))
    dimensions = tuple(_cells(row) for row in rows if row.key.startswith("model."))
    defaults = tuple(_cells(row) for row in rows if row.is_default)
    folded = (
        (f"{len(given)} keys that the scenario or its preset gives", "Keys that were given", given),
        (f"{len(dimensions)} dimensions of the model", "Dimensions of the model", dimensions),
        (f"{len(defaults)} keys at their defaults", "Keys at their defaults", defaults),
    )
    return [
        Folded(words, (Table(caption, ("key", "value"), cells, TEXT),), is_printed=False)
        for words, caption, cells in folded
        if cells
    ]


def _cells(row: Input) -> tuple[str, str]:
    return row.key, row.value
