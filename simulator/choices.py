"""The values that a key of a scenario offers: out of its type, the families and the catalogue, so that no list stands twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from hwprofiles import catalog
from hwprofiles.kernels.attention_libraries import LIBRARIES
from simulator.check import FAMILIES
from simulator.scenario.host import GRAPH_SCOPES
from simulator.scenario.model_catalog import model_names
from simulator.scenario.plan import Balance
from simulator.scenario.scenario import Scenario
from simulator.scenario.section import FAMILY, Section

Value = str | int | bool | None

CATALOGUES: Final[Mapping[str, Callable[[], tuple[Value, ...]]]] = {
    "model": lambda: tuple(model_names()),
    "cluster.node": lambda: catalog.list_names("nodes"),
    "cluster.fabric": lambda: catalog.list_names("fabrics"),
    "kernels.attention": lambda: (None, *LIBRARIES),
    "host.cuda_graph": lambda: GRAPH_SCOPES,
    "prices.sheet": lambda: catalog.list_names("prices"),
    "moe.balance": lambda: get_args(Balance),
}
"""Keys whose type is more than the names that they may hold."""
MOST_NUMBERS: Final = 16
"""A whole number of so few values is a choice."""


@cache
def choices(key: str) -> tuple[Value, ...]:
    """The values of a dotted key that has few: names, true and false, small whole numbers, null where it may be null.

    Empty where it has many (a number of GPUs). Raises KeyError for an unknown key.
    """
    if key in CATALOGUES:
        return CATALOGUES[key]()
    found = field_of(key)
    family = found.json_schema_extra.get(FAMILY) if isinstance(found.json_schema_extra, dict) else None
    names = FAMILIES[family].names() if isinstance(family, str) else _values(found.annotation, found.metadata)
    return (None, *names) if names and is_optional(key) else names


def is_optional(key: str) -> bool:
    """Whether a dotted key may be null."""
    return NoneType in get_args(field_of(key).annotation)


def bounds(key: str) -> tuple[float | None, float | None]:
    """(least, most) of a number, where its type says so."""
    info = field_of(key)
    limits = [*info.metadata, *(each for part in get_args(info.annotation) for each in _metadata(part))]
    least = next((each.ge for each in limits if getattr(each, "ge", None) is not None), None)
    most = next((each.le for each in limits if getattr(each, "le", None) is not None), None)
    for each in limits:
        if isinstance(each, FieldInfo):
            for limit in each.metadata:
                least, most = getattr(limit, "ge", least), getattr(limit, "le", most)
    return least, most


def field_of(key: str) -> FieldInfo:
    """The field behind a dotted key; of phases, with the phase's name in it. Raises KeyError."""
    section: Any = Scenario
    info: FieldInfo | None = None
    for part in _parts(key):
        fields = {each.alias or name: each for name, each in section.model_fields.items()} if section else {}
        if part not in fields:
            raise KeyError(key)
        info = fields[part]
        section = _section(info.annotation)
    if info is None:
        raise KeyError(key)
    return info


def _parts(key: str) -> list[str]:
    """The keys of the sections on the way; a phase's name, which may hold dots, stands for the phase."""
    if not key.startswith("phases."):
        return key.split(".")
    below = key.split(".")
    at = next((n for n, part in enumerate(below) if n >= 2 and part == "batch_ramp"), len(below) - 1)
    return ["phases", *below[at:]]


def _section(annotation: Any) -> Any:
    """The section that an annotation holds, None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part)) is not None), None)


def _values(annotation: Any, metadata: list[Any]) -> tuple[Value, ...]:
    if annotation is bool:
        return (False, True)
    if annotation is int:
        least, most = (next((getattr(m, end) for m in metadata if hasattr(m, end)), None) for end in ("ge", "le"))
        few = isinstance(least, int) and isinstance(most, int) and most - least < MOST_NUMBERS
        return tuple(range(least, most + 1)) if few and least is not None and most is not None else ()
    origin = get_origin(annotation)
    if origin is Literal:
        return get_args(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        marks = [each for each in more if isinstance(each, FieldInfo)]
        family = next(
            (each.json_schema_extra[FAMILY] for each in marks if isinstance(each.json_schema_extra, dict)), ""
        )
        return FAMILIES[str(family)].names() if family else _values(inner, [m for each in marks for m in each.metadata])
    return tuple(value for part in get_args(annotation) if part is not NoneType for value in _values(part, []))


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
