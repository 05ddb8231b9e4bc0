"""The events of a trace's file one by one: JSON, also gzipped, in bounded memory whatever the file's length."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NoReturn, cast

from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError
from hwprofiles.units import KIBI, MEBI
from hwprofiles.yaml_file import excerpt

EVENTS: Final = "traceEvents"
"""The key under which the trace event format has its list."""
CHUNK_BYTES: Final = 4 * MEBI
NEAR_END: Final = 64 * KIBI
"""Characters: JSON that fails this near to what was read so far may only be cut off there; farther away it is broken."""
LONGEST: Final = 64 * MEBI
"""Characters of one event or value; what goes on for longer has a quote too many or too few."""
WORD: Final = 8
"""Characters of the longest word or escape that a file's end may cut."""
GZIP_MAGIC: Final = b"\x1f\x8b"
_BLANKS: Final = " \t\r\n,"
_HOW: Final = "a trace comes from torch.profiler's export_chrome_trace (JSON, also gzipped)"

Event = dict[str, Any]


def refuse(path: Path, message: str) -> NoReturn:
    """Raise CatalogError: what is wrong with a trace's file."""
    raise CatalogError([Problem(excerpt(path, 200), "", message)])


def read_events(path: Path, head: dict[str, Any]) -> Iterator[Event]:
    """Every event of the file in its order; `head` gets the document's other keys as they come by, some behind the events.

    Raises CatalogError: no such file, no JSON or gzip, cut off, empty, JSON without a list of events.
    """
    try:
        with path.open("rb") as raw:
            is_zipped = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            source = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_zipped else raw
            yield from _Text(path, source).events(head)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        refuse(path, f"the gzip data is cut off or damaged ({excerpt(error, 80)}); copy the trace again")
    except RecursionError:
        refuse(path, f"is no trace: its JSON is nested too deep; {_HOW}")
    except OSError as error:
        refuse(path, f"the trace cannot be read: {error.strerror or error}")


class _Text:
    """The file's text, a chunk at a time: `text[at:]` is what is read and not used."""

    def __init__(self, path: Path, source: IO[bytes]) -> None:
        self.path, self.source = path, source
        self.text, self.at, self.is_whole = "", 0, False
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self.scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode

    def events(self, head: dict[str, Any]) -> Iterator[Event]:
        first = self._next()
        if not first:
            refuse(self.path, f"the file is empty; {_HOW}")
        if first == "[":
            yield from self._list()
        elif first == "{":
            yield from self._document(head)
        else:
            refuse(self.path, f'is no JSON (begins with "{excerpt(self.text[self.at : self.at + 40])}"); {_HOW}')
        if self._next():
            refuse(self.path, f"goes on behind the end of its document; {_HOW}")

    def _document(self, head: dict[str, Any]) -> Iterator[Event]:
        self.at += 1
        has_events = False
        while (mark := self._next()) != "}":
            key = self._value()
            if not isinstance(key, str) or self._next() != ":":
                self._broken(f"a key and a colon belong where {mark!a} stands")
            self.at += 1
            if key == EVENTS and self._next() == "[":
                has_events = True
                yield from self._list()
            else:
                head[key] = self._value()
        self.at += 1
        if not has_events:
            keys = ", ".join(excerpt(key, 40) for key in list(head)[:5])
            refuse(self.path, f"is JSON but no trace: it has no list {EVENTS} (its keys: {keys or 'none'}); {_HOW}")

    def _list(self) -> Iterator[Event]:
        """What a list holds; of what is no object nothing is said."""
        self.at += 1
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANKS:
                self.at += 1
            if self.at < len(self.text) and self.text[self.at] == "{":
                try:
                    event, self.at = self.scan(self.text, self.at)
                except json.JSONDecodeError:
                    event = self._value()
                yield event
            elif (mark := self._next()) == "]":
                self.at += 1
                return
            elif mark == "{":
                continue
            elif not isinstance(value := self._value(), dict):
                self._broken(f"an event is no object ({excerpt(value, 40)})")
            else:
                yield value

    def _next(self) -> str:
        """The next character that is no blank or comma, "" at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANKS:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def _value(self) -> Any:
        """The JSON value that begins at the next character."""
        while True:
            if not self._next():
                self._cut_off()
            try:
                value, end = self.scan(self.text, self.at)
            except json.JSONDecodeError as error:
                is_open = error.msg.startswith("Unterminated string")
                if len(self.text) - (self.at if is_open else error.pos) > (LONGEST if is_open else NEAR_END):
                    self._broken(error.msg, error.pos)
                if not self._more():
                    is_cut = is_open or len(self.text) - error.pos <= WORD
                    self._cut_off() if is_cut else self._broken(error.msg, error.pos)
                continue
            if end < len(self.text) or not self._more():  # a number may go on in the next chunk
                self.at = end
                return value

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self.is_whole:
            return False
        chunk = self.source.read(CHUNK_BYTES)
        self.is_whole = not chunk
        self.text = self.text[self.at :] + self.decoder.decode(chunk, final=self.is_whole)
        self.at = 0
        return True

    def _cut_off(self) -> NoReturn:
        refuse(self.path, "the JSON is cut off: the file ends inside its document; write the trace again, whole")

    def _broken(self, why: str, at: int | None = None) -> NoReturn:
        place = self.at if at is None else at
        near = excerpt(self.text[max(0, place - 20) : place + 20], 60)
        refuse(self.path, f'is broken JSON: {why} near "{near}"; {_HOW}')
