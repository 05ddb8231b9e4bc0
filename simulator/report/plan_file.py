"""The plan that was taken as a scenario file that `moesim run` takes, with comments that say why it is this one."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from textwrap import wrap
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from simulator.report import plan_words
from simulator.results.plan_table import PlanResult
from simulator.scenario.scenario import SCHEMA_VERSION

WIDTH: Final = 120
"""Columns of a comment."""
UNBROKEN: Final = 65_536
"""Columns of a section, which stands in one line."""
DROPPED: Final = ("schema_version", "name", "extends")


def extending_file(extends: str, changed: Mapping[str, Any], result: PlanResult) -> str:
    """What differs from the scenario `extends`, a preset's name or a path: `changed` by other options, then the plan's keys."""
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "name": plan_name(result), "extends": extends}
    for key, value in changed.items():
        if key not in DROPPED:
            document[key] = value
    _lay(document, ["cluster", "num_gpus"], _num_gpus(result))
    for key, value in result.plan.chosen.keys.items() if result.plan else ():
        _lay(document, key.split("."), value)
    return _commented(result) + _yaml(document)


def complete_file(canonical: Mapping[str, Any], result: PlanResult) -> str:
    """Every key of the taken scenario, which extends nothing."""
    return _commented(result) + _yaml({**canonical, "name": plan_name(result)})


def plan_name(result: PlanResult) -> str:
    """The name of the written scenario."""
    return f"{result.scenario[:150]} on {_num_gpus(result)} GPUs"


def _num_gpus(result: PlanResult) -> int:
    assert result.chosen is not None, "a size was taken"
    return result.rows[result.chosen].num_gpus


def _commented(result: PlanResult) -> str:
    lines = [f"Planned by moesim plan. {plan_words.taken(result)}."]
    lines += [f"{plan_words.smallest(result)}."]
    lines += [f"Why this layout: {line}." for line in plan_words.reasons(result)[:1]]
    lines += [f"Beside it: {line}." for line in plan_words.reasons(result)[1:]]
    lines += [f"Mind: {note}." for note in result.notes]
    wrapped = (wrap(line, WIDTH, initial_indent="# ", subsequent_indent="#   ") for line in lines)
    return "".join(f"{line}\n" for each in wrapped for line in each)


def _lay(document: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        inner = document.get(key)
        # A section that is written as one word (recompute: none) stands for one of its keys, which the plan says anew.
        document[key] = dict(inner) if isinstance(inner, Mapping) else {}
        document = document[key]
    document[path[-1]] = value


def _yaml(document: Mapping[str, Any]) -> str:
    """Sections a line each where they are short."""
    writer = YAML(pure=True)
    writer.width = UNBROKEN
    out = StringIO()
    writer.dump(_plain(document, 0), out)
    return out.getvalue()


def _plain(value: Any, depth: int) -> Any:
    """Mappings and lists below the first level in one line."""
    if isinstance(value, Mapping):
        mapping = CommentedMap({str(key): _plain(entry, depth + 1) for key, entry in value.items()})
        if depth:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(_plain(entry, depth + 1) for entry in value)
        sequence.fa.set_flow_style()
        return sequence
    return value
