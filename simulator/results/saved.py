"""Result documents that come from a file or an upload: whole, of this schema, consistent, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from hwprofiles.problems import schema_problems, show
from hwprofiles.yaml_file import excerpt
from simulator.errors import InconsistentSimulation, InputError, Problem
from simulator.results.consistency import consistency_problems
from simulator.results.document import SCHEMA_VERSION
from simulator.results.json_text import parse_json, read_bytes, refuse
from simulator.results.run_result import RunResult
from simulator.scenario.scenario import Scenario
from simulator.version import package_version

_RESULT_KEYS: Final = frozenset({"scenario", "step", "phases", "totals"})
"""Every result has these at its top, and no other document all of them."""
_OTHERS: Final = (
    (frozenset({"cases", "summary"}), "what `moesim validate` wrote"),
    (frozenset({"ranks", "micro_batches"}), "what `moesim schedule` wrote"),
    (frozenset({"base", "others"}), "what `moesim compare` wrote"),
    (frozenset({"num_ops", "reference_s"}), "what `moesim bench` wrote"),
    (frozenset({"$defs", "properties"}), "what `moesim schema` wrote"),
    (frozenset({"model", "cluster"}), "a scenario"),
    (frozenset({"extends"}), "a scenario"),
)
"""Keys by which other documents are known."""
_OF_ANOTHER_VERSION: Final = frozenset({"extra_forbidden", "missing", "literal_error"})
"""What pydantic says of keys that a version added, dropped, or gave other names to."""
_MAKE_ONE: Final = "a result comes from `moesim run SCENARIO --json --out FILE`"


def read_result(source: Path | bytes, name: str) -> RunResult:
    """The result in a file or in an upload's bytes; `name` stands for it in errors.

    Raises InputError with every problem of the first kind found: unreadable, no JSON, no result, another schema version,
    keys and values that no result has, parts that do not sum.
    """
    data = read_bytes(source, name) if isinstance(source, Path) else source
    text, document = parse_json(data, name)
    _check_kind(document, name)
    where = excerpt(name, 200)
    try:
        result = RunResult.model_validate_json(text)
    except ValidationError as error:
        of_schema = schema_problems(error, RunResult)
        maker = _maker(document)
        raise InputError(
            Problem(where, ".".join(map(excerpt, path)), f"{message}{maker}") for path, message in of_schema
        ) from None
    except InconsistentSimulation as error:
        refuse(name, f"the document contradicts itself: {error}; {_MAKE_ONE}")
    found = list(_scenario_problems(result.scenario)) or list(consistency_problems(result))
    if found:
        raise InputError(Problem(where, field, f"{message}; {_MAKE_ONE}") for field, message in found)
    return result


def _check_kind(document: Any, name: str) -> None:
    """Raise InputError where the document is no result, or of another schema version."""
    if not isinstance(document, Mapping):
        refuse(name, f"is no result ({show(document)}); {_MAKE_ONE}")
    if not _RESULT_KEYS & document.keys() >= _RESULT_KEYS:
        kind = next((kind for keys, kind in _OTHERS if keys <= document.keys()), None)
        missing = ", ".join(sorted(_RESULT_KEYS - document.keys()))
        refuse(name, f"is no result but {kind}; {_MAKE_ONE}" if kind else f"is no result: no {missing}; {_MAKE_ONE}")
    version = document.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        stated = "is missing" if version is None else f"is {show(version)}"
        message = f"{stated}{_maker(document)}; this version reads {SCHEMA_VERSION}"
        refuse(name, f"{message}: run its `scenario` again, or take the version that made it", field="schema_version")


def _scenario_problems(scenario: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of the scenario that are there and of another type than they have; another version may have others."""
    if not isinstance(scenario.get("name"), str):
        yield "scenario.name", "is no text"
    cluster = scenario.get("cluster")
    if not isinstance(cluster, Mapping) or not isinstance(cluster.get("num_gpus"), int):
        yield "scenario.cluster.num_gpus", "is no whole number"
    if scenario.get("currency", "USD") != "USD":
        yield "scenario.currency", f"is {show(scenario['currency'])}; amounts of a result are in USD"
    try:
        Scenario.model_validate(scenario)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] in _OF_ANOTHER_VERSION:
                continue
            yield ".".join(map(excerpt, ("scenario", *detail["loc"]))), f"is not possible ({show(detail['input'])})"


def _maker(document: Mapping[str, Any]) -> str:
    """' (made by moesim 0.3.0)' where that is another version than this one."""
    by = document.get("version")
    return f" (made by moesim {excerpt(by)})" if isinstance(by, str) and by != package_version() else ""
