"""The only YAML reader: YAML 1.2, closed against every trap that a file from elsewhere can hold.

Refused, each with the line: more than 1 MB, 10,000 values or 32 levels; anchors, aliases and tags; equal keys;
characters that control a terminal or turn the direction of text; NaN and infinity; a second document; anything that is
not a regular file in UTF-8. Values are None, bool, int, float, str, list and dict with text keys, by the core schema of
YAML 1.2: `1e9` is a float, `no` and `2025-05-14` are texts. The syntax is ruamel.yaml's event parser; nothing is
constructed from tags.
"""

from __future__ import annotations

import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from hwprofiles.parsed_files import is_committed, keep, kept

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 32
MAX_NODES: Final = 10_000
MAX_TABLE_NODES: Final = 100_000
"""Values of a file, and of a table of records: a calibrated stack has a thousand parameters."""
MAX_KEY: Final = 200
"""Longest key, in characters."""
MAX_DIGITS: Final = 40
"""Longest integer, in characters; a longer one is read as a float, which no bound lets through."""

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists, from the top; () is the document."""

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]+")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL: Final = re.compile(r"0o[0-7]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
BIDIRECTIONAL: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of text."""
_ALLOWED_CONTROL: Final = frozenset("\n\t")
_BYTE_ORDER_MARKS: Final = (
    (b"\xef\xbb\xbf", "UTF-8 with a byte order mark"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


class YamlFileError(Exception):
    """A file that is not read.

    path: as the caller wrote it; line: from 1, None where no line is to blame; message: why, and the remedy.
    """

    def __init__(self, path: str, line: int | None, message: str) -> None:
        self.path, self.line, self.message = path, line, message
        where = excerpt(path, 200) if line is None else f"{excerpt(path, 200)}:{line}"
        super().__init__(f"{where}: {message}")


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What a file says. data: the value; positions: key path → line (from 1) of the key, or of the list's item."""

    path: str
    data: Any
    positions: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, key_path: KeyPath) -> int:
        """Line of a key path, or of its nearest parent that the file has."""
        for length in range(len(key_path), -1, -1):
            if key_path[:length] in self.positions:
                return self.positions[key_path[:length]]
        return 1


def read_yaml(path: str | os.PathLike[str], max_nodes: int = MAX_NODES) -> YamlDocument:
    """The mapping in a YAML file. Raises YamlFileError: unreadable, not YAML, over a limit, or no mapping."""
    name = os.fspath(path)
    document = _parsed(name, _read_bytes(name), max_nodes)
    if not isinstance(document.data, dict):
        found = "is empty" if document.data is None else f"holds {_kind(document.data)}"
        raise YamlFileError(name, document.line(()), f"the file {found}; expected a mapping of keys to values")
    return document


def _parsed(name: str, content: bytes, max_nodes: int) -> YamlDocument:
    """The document of a file; of a committed one that was read before, as it was kept then."""
    if not is_committed(name):
        return parse_yaml(_decode(content, name), name, max_nodes)
    found = kept(name, content, max_nodes)
    if found is not None:
        return YamlDocument(name, *found)
    document = parse_yaml(_decode(content, name), name, max_nodes)
    keep(name, content, max_nodes, (document.data, dict(document.positions)))
    return document


def parse_yaml(text: str, name: str, max_nodes: int = MAX_NODES) -> YamlDocument:
    """The value of a YAML text, any kind; `name` stands for the path in errors. Raises YamlFileError."""
    if len(text) > MAX_BYTES:
        raise YamlFileError(name, None, f"the text has {len(text)} characters; allowed {MAX_BYTES}")
    for number, line in enumerate(text.split("\n"), start=1):
        _refuse_control(line.removesuffix("\r"), name, number)
    reader = _Reader(name, max_nodes)
    try:
        return reader.read(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = excerpt(" ".join(str(error.problem or error.context or error).split()), 120)
        if "cannot start any token" in problem and "\\t" in problem:
            problem = "a tab; YAML indents with spaces"
        raise YamlFileError(name, mark.line + 1 if mark else None, f"not YAML: {problem}") from None
    except (
        YAMLError,
        RecursionError,
        ValueError,
        OverflowError,
        AssertionError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        # The parser's own slips on broken input: the same one-line answer, whatever they are.
        raise YamlFileError(
            name, reader.last_line, f"not YAML: {excerpt(str(error) or type(error).__name__, 120)}"
        ) from None


def excerpt(text: object, limit: int = 60) -> str:
    """A value as one printable line of at most `limit` characters, for error messages."""
    shown = "".join(
        char if char.isprintable() and char not in BIDIRECTIONAL else ascii(char)[1:-1]
        for char in str(text)[: limit + 1]
    )
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _read_bytes(name: str) -> bytes:
    """The bytes of a regular file, at most MAX_BYTES; opening a FIFO or a device does not block."""
    try:
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise YamlFileError(name, None, f"the file cannot be read: {_reason(error)}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise YamlFileError(
                name, None, f"{'a directory' if stat.S_ISDIR(mode) else 'not a regular file'}; expected a YAML file"
            )
        chunks, total = [], 0
        while total <= MAX_BYTES and (chunk := os.read(descriptor, MAX_BYTES + 1 - total)):
            chunks.append(chunk)
            total += len(chunk)
    except OSError as error:
        raise YamlFileError(name, None, f"the file cannot be read: {_reason(error)}") from None
    finally:
        os.close(descriptor)
    if total > MAX_BYTES:
        raise YamlFileError(name, None, f"the file is larger than {MAX_BYTES} bytes")
    return b"".join(chunks)


def _reason(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _decode(data: bytes, name: str) -> str:
    """UTF-8 without a byte order mark; line ends become "\\n"."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            raise YamlFileError(name, 1, f"the file is {encoding}; save it as UTF-8 without a byte order mark")
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlFileError(name, line, "the file is not UTF-8; save it as UTF-8 without a byte order mark") from None


def _refuse_control(text: str, name: str, line: int) -> None:
    """Raise for a character that no text may hold."""
    found = forbidden_character(text)
    if found is not None:
        raise YamlFileError(name, line, f"the {found} is not allowed")


def forbidden_character(text: str) -> str | None:
    """The first character that controls a terminal, turns the text's direction, breaks lines or is half of one, in words."""
    if text.isascii() and text.isprintable():
        return None
    for char in text:
        if char in _ALLOWED_CONTROL:
            continue
        if char in BIDIRECTIONAL or unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}:
            what = "bidirectional" if char in BIDIRECTIONAL else "control"
            return f"{what} character U+{ord(char):04X}"
    return None


def _kind(value: object) -> str:
    """A value's kind in YAML's words."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return "a text"
    return "true or false" if isinstance(value, bool) else "a number"


class _Reader:
    """Builds plain values from parser events, one document, counting nodes and levels as they come."""

    def __init__(self, name: str, max_nodes: int) -> None:
        self.name = name
        self._max_nodes = max_nodes
        self.last_line: int | None = None
        self.positions: dict[KeyPath, int] = {(): 1}
        self._num_nodes = 0

    def read(self, events: Iterator[Event]) -> YamlDocument:
        """The only document of the stream. Raises YamlFileError."""
        self._events = events
        data: Any = None
        num_documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                num_documents += 1
                self._check_document(event, num_documents)
                first = next(events)
                self.positions[()] = first.start_mark.line + 1
                data = self._value(first, ())
        return YamlDocument(self.name, data, self.positions)

    def _check_document(self, event: DocumentStartEvent, number: int) -> None:
        if number > 1:
            raise self._error(event, "a second document; one file holds one")
        if event.tags:
            raise self._error(event, "a %TAG directive is not allowed")
        if event.version is not None and tuple(event.version) != (1, 2):
            raise self._error(event, "only YAML 1.2 is read; remove the %YAML directive")

    def _value(self, event: Event, path: KeyPath) -> Any:
        """The value that starts with `event`; the recursion is as deep as the limit at most."""
        self.last_line = event.start_mark.line + 1
        self._num_nodes += 1
        if self._num_nodes > self._max_nodes:
            raise self._error(event, f"more than {self._max_nodes} values in one file")
        if isinstance(event, AliasEvent):
            raise self._error(event, f"the alias *{excerpt(event.anchor)} is not allowed; write the value out")
        if not isinstance(event, (ScalarEvent, CollectionStartEvent)):
            raise self._error(event, "a value is missing")
        if event.anchor is not None:
            raise self._error(event, f"the anchor &{excerpt(event.anchor)} is not allowed; write the value out")
        if event.tag is not None:
            raise self._error(event, f"the tag {excerpt(event.tag)} is not allowed")
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        if len(path) >= MAX_DEPTH:
            raise self._error(event, f"more than {MAX_DEPTH} levels deep")
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, path)
            if key in result:
                first = self.positions[(*path, key)]
                raise self._error(event, f"the key {excerpt(key)} stands here and in line {first}; keep one")
            self.positions[(*path, key)] = event.start_mark.line + 1
            result[key] = self._value(next(self._events), (*path, key))
        return result

    def _key(self, event: Event, path: KeyPath) -> str:
        """A key is the text as written: `no`, `8` and `true` are texts here."""
        if not isinstance(event, ScalarEvent):
            self._value(event, path)  # names an alias, anchor or level first
            raise self._error(event, "a key must be a text")
        self._value(event, path)
        if not event.value:
            raise self._error(event, "a key is empty")
        if len(event.value) > MAX_KEY or "\n" in event.value or "\t" in event.value:
            raise self._error(
                event, f"the key {excerpt(event.value)} is no key: at most {MAX_KEY} characters of one line"
            )
        return str(event.value)

    def _sequence(self, path: KeyPath) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            self.positions[(*path, len(result))] = event.start_mark.line + 1
            result.append(self._value(event, (*path, len(result))))
        return result

    def _scalar(self, event: ScalarEvent, path: KeyPath) -> Any:
        text = str(event.value)
        _refuse_control(text, self.name, event.start_mark.line + 1)
        if event.style:  # quoted or a block: text
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _NOT_FINITE.fullmatch(text):
            raise self._error(event, f"{_dotted(path)}{excerpt(text)} is not a finite number")
        if _HEX.fullmatch(text) or _OCTAL.fullmatch(text):
            return int(text, 0)
        if _INT.fullmatch(text) and len(text) <= MAX_DIGITS:
            return int(text)
        if not _FLOAT.fullmatch(text):
            return text
        if not math.isfinite(value := float(text)):
            raise self._error(event, f"{_dotted(path)}{excerpt(text)} is not a finite number")
        return value

    def _error(self, event: Event, message: str) -> YamlFileError:
        return YamlFileError(self.name, event.start_mark.line + 1, message)


def _dotted(path: KeyPath) -> str:
    return f"{excerpt('.'.join(map(str, path)))}: " if path else ""
