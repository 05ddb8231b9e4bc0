"""Reads JSON that came from elsewhere: limits first, then the grammar, then every value. Nothing of it is trusted."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from hwprofiles.yaml_file import MAX_DIGITS, excerpt, forbidden_character
from simulator.errors import InputError, Problem

MAX_BYTES: Final = 50_000_000
MAX_VALUES: Final = 2_000_000
"""Commas and brackets, an upper bound of the values: what a small file can make large in memory."""
MAX_DEPTH: Final = 64

_BYTE_ORDER_MARKS: Final = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\xef\xbb\xbf", "UTF-8 with a mark"))
_AGAIN: Final = "write it again with `--json --out FILE`"


class _Refused(Exception):
    """A value that JSON or we have no place for."""


def read_bytes(path: Path, name: str) -> bytes:
    """The bytes of a regular file; opening a FIFO or a device does not block. Raises InputError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        refuse(name, f"the file cannot be read: {_reason(error)}")
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            refuse(name, f"{'a directory' if stat.S_ISDIR(mode) else 'not a regular file'}; expected a JSON file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        refuse(name, f"the file cannot be read: {_reason(error)}")
    finally:
        os.close(descriptor)


def parse_json(data: bytes, name: str) -> tuple[str, Any]:
    """(the text, its value) of one JSON document. Raises InputError: over a limit, not UTF-8, cut off, not JSON, a key
    twice in a mapping, a number that is not finite, a character that no text may hold.
    """
    text = _decode(data, name)
    try:
        value = json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        _refuse_syntax(error, text, name)
    except _Refused as error:
        refuse(name, str(error))
    except RecursionError:
        refuse(name, f"values lie deeper in one another than {MAX_DEPTH} levels")
    _check_values(value, name)
    return text, value


def refuse(name: str, message: str, field: str = "", line: int | None = None) -> NoReturn:
    """Raise InputError with one problem of the file `name`."""
    where = excerpt(name, 200) if line is None else f"{excerpt(name, 200)}:{line}"
    raise InputError([Problem(where, field, message)])


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        refuse(name, f"larger than {MAX_BYTES:,} bytes")
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            refuse(name, f"the file is {encoding}, as a shell's > may write it; {_AGAIN}")
    if not data.strip():
        refuse(name, f"the file is empty; {_AGAIN}")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        refuse(name, f"holds more than {MAX_VALUES:,} values")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(name, "the file is not UTF-8", line=data.count(b"\n", 0, error.start) + 1)


def _refuse_syntax(error: json.JSONDecodeError, text: str, name: str) -> NoReturn:
    """Cut off where the grammar wants more than there is, else not JSON."""
    starts_well = text.lstrip()[:1] in ("{", "[")
    if starts_well and (error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")):
        refuse(name, f"the file ends in the middle of the document; it was cut off: {_AGAIN}", line=error.lineno)
    refuse(name, f"not JSON: {excerpt(error.msg, 120)}", line=error.lineno)


def _check_values(value: Any, name: str) -> None:
    """Depth and characters, without recursion."""
    level: Sequence[Any] = (value,)
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            if isinstance(each, str):
                _check_text(each, name)
            elif isinstance(each, dict):
                for key in each:
                    _check_text(key, name)
                below += each.values()
            elif isinstance(each, list):
                below += each
        if not below:
            return
        level = below
    refuse(name, f"values lie deeper in one another than {MAX_DEPTH} levels")


def _check_text(text: str, name: str) -> None:
    found = forbidden_character(text)
    if found is not None:
        refuse(name, f"the {found} is not allowed (in {excerpt(text, 40)})")


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise _Refused(f"the key {excerpt(key)} stands twice in one mapping; which one is meant?")
        mapping[key] = value
    return mapping


def _constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is no JSON number; allowed finite numbers")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused(f"{excerpt(text)} is too large for a number")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Refused(f"{excerpt(text)} is too large for a number")
    return int(text)


def _reason(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
