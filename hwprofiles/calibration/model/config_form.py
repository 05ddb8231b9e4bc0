"""Form of what somebody wrote down as a model: types and ranges of a section's values, its keys, patterns of layers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from math import isfinite
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

MAX_SIZE: Final = 2**31 - 1
MAX_LAYERS: Final = 10_000
MAY_BE_ZERO: Final = frozenset({"q_lora_rank", "num_shared", "num_mtp", "learned_positions", "init_std", "mscale"})
"""Fields of the sizes whose least value is 0; of the others it is 1, of numbers that are not whole anything above 0."""
_UNIT: Final = re.compile(r"\s*([a-z])\s*(?:\*\s*([0-9]{1,5}))?\s*")

Found = Iterator[tuple[str, str]]
"""(key, message) of each thing that is wrong."""


def form_problems(section: Any, prefix: str = "", names: Mapping[str, str] | None = None) -> Found:
    """What of a dataclass's values has not the type of its field, or is out of range; fields of other types are not looked at.

    names: of fields that are written otherwise in a model file.
    """
    for name, kind in _kinds(type(section)).items():  # type: ignore[arg-type]
        message = _message(getattr(section, name), kind, least=0 if name in MAY_BE_ZERO else 1)
        if message:
            yield f"{prefix}{(names or {}).get(name, name)}", message


@lru_cache(maxsize=64)
def _kinds(section: Any) -> dict[str, Any]:
    hints = get_type_hints(section)
    return {field.name: hints[field.name] for field in fields(section)}


def _message(value: Any, kind: Any, least: int) -> str:
    if get_origin(kind) is Literal:
        is_known = isinstance(value, str) and value in get_args(kind)
        return "" if is_known else f"is {value!r}{nearest(str(value), get_args(kind))}"
    if kind is bool:
        return "" if isinstance(value, bool) else f"is {value!r}; true or false"
    if kind is str:
        return "" if isinstance(value, str) else f"is {value!r}; a text"
    if kind is float or kind == float | None:
        above = ("at least 0" if least == 0 else "above 0") + ("" if kind is float else ", or null for none")
        is_right = (is_number(value, 0.0) and (value > 0 or not least)) or (kind is not float and value is None)
        return "" if is_right else f"is {value!r}; a number {above}"
    if kind is int or kind == int | None:
        is_none = kind is not int and value is None
        is_whole = isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_SIZE
        more = "" if kind is int else ", or null for all tokens"
        return "" if is_none or is_whole else f"is {value!r}; a whole number of {least} to {MAX_SIZE}{more}"
    return ""


def is_number(value: Any, least: float) -> bool:
    """Whether it is a finite number, and at least so much."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value >= least


def section(values: Any, name: str, needed: Iterable[str], optional: Iterable[str]) -> Mapping[str, Any]:
    """The values of a section, "" the whole model. Raises CalibrationError: no mapping, keys that it has not, keys missing."""
    prefix = f"{name}." if name else ""
    if not isinstance(values, Mapping):
        raise CalibrationError([Problem("", name, f"is {values!r:.60}; a mapping of {', '.join(sorted(needed))} …")])
    allowed = {*needed, *optional}
    unknown = [str(key) for key in values if key not in allowed]
    problems = [
        Problem("", f"{prefix}{key}", f"is no key of {name or 'a model'}{nearest(key, allowed)}") for key in unknown
    ]
    problems += [
        Problem("", f"{prefix}{key}", f"is missing; {name or 'a model'} needs it")
        for key in needed
        if key not in values
    ]
    refuse(problems)
    return values


def period(text: Any, key: str, codes: str) -> str:
    """The codes of a pattern such as "d m" or "w*5 f", a character a layer; "" of None. Raises CalibrationError: no pattern."""
    if text is None:
        return ""
    units = _UNIT.findall(text) if isinstance(text, str) and _UNIT.sub("", text) == "" else []
    counted = [(code, int(count or 1)) for code, count in units]
    if not units or any(code not in codes or not count for code, count in counted):
        example = f"'{codes[0]} {codes[1]}' or '{codes[0]}*3 {codes[1]}'"
        raise CalibrationError(
            [Problem("", key, f"is {text!r:.60}; a pattern of {' and '.join(codes)}, such as {example}")]
        )
    return "".join(code * count for code, count in counted)
