"""Reads and writes the link of a page: a preset or an uploaded text, and only what differs from it.

    ?preset=deepseek-v3&gpus=1024&pp=8&schedule=1f1b

Whatever cannot be read stands for its default, and one notice says what was left out.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode

from dashboards.keys import BY_NAME, MAX_VALUE, SCENARIO_KEYS
from dashboards.source import UPLOADED, Source, presets
from hwprofiles.names import nearest
from hwprofiles.yaml_file import MAX_BYTES, excerpt

DEFAULT: Final = "deepseek-v3"
"""The preset of a link that names none."""

PRESET, TEXT, KEPT, PINNED = "preset", "text", "kept", "pinned"
MAX_LINK_TEXT: Final = 2_000
"""Longest form of an uploaded text that goes into a link, in characters."""
OVERLONG: Final = "overlong"
MAX_LINK: Final = 20_000
"""What the server puts in place of a link that is longer than so many characters."""
MAX_NAMED: Final = 4
"""Parameters that the notice names."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a link, or a session, asks for.

    base, text: as in Source. values: key of `keys.SCENARIO_KEYS` → its text, of what differs. page: keys of PAGE_KEYS.
    pinned: what figures are compared with.
    """

    base: str = DEFAULT
    text: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    page: Mapping[str, str] = field(default_factory=dict)
    pinned: Source | None = None

    @property
    def source(self) -> Source:
        """The scenario that is asked for."""
        plain = Source(self.base, self.text)
        changes = [
            (path_of(key.path, plain), self.values[key.name]) for key in SCENARIO_KEYS if key.name in self.values
        ]
        return Source(self.base, self.text, tuple(f"{path}={value}" for path, value in changes))


def path_of(path: str | None, plain: Source) -> str:
    """A key's dotted path in the scenario of a source without changes."""
    if path is None or "{first}" not in path:
        return path or ""
    name = "pretrain" if plain.problems() else plain.load().phases[0].name
    return path.replace("{first}", name)


@dataclass(frozen=True, slots=True)
class Read:
    """A link that was read, and the names of its parameters that had to be left out with why."""

    asked: Asked
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def notice(self) -> str | None:
        """One line about all that was left out; None where nothing was."""
        if not self.left_out:
            return None
        named = "; ".join(f"{excerpt(name, 40)} ({why})" for name, why in self.left_out[:MAX_NAMED])
        rest = len(self.left_out) - MAX_NAMED
        more = f"; and {rest} more" if rest > 0 else ""
        return f"The link says what cannot be used, and the default stands in its place: {named}{more}."


def read(parameters: Mapping[str, Sequence[str]], kept: Callable[[str], str | None]) -> Read:
    """What a link asks for. parameters: name → its values; kept: the uploaded text of a hash, None where it is gone."""
    left_out: list[tuple[str, str]] = []
    given: dict[str, str] = {}
    for name, texts in parameters.items():
        if name == OVERLONG:
            left_out.append(("all of it", f"longer than {MAX_LINK} characters"))
        elif name not in BY_NAME and name not in (PRESET, TEXT, KEPT, PINNED):
            left_out.append((name, f"unknown{nearest(name[:40], [PRESET, *BY_NAME], listed=False)}"))
        elif len(texts) != 1:
            left_out.append((name, "given more than once"))
        elif len(texts[0]) > MAX_VALUE:
            left_out.append((name, "too long"))
        else:
            given[name] = texts[0]
    base, text = _base(given, kept, left_out)
    values, page = _values(given, left_out)
    pinned = None
    if PINNED in given:
        inner = read(_inner(given[PINNED]), kept)
        pinned = inner.asked.source
        left_out += [(f"{PINNED}.{name}", why) for name, why in inner.left_out]
    return Read(Asked(base, text, values, page, pinned), tuple(left_out))


def _base(
    given: Mapping[str, str], kept: Callable[[str], str | None], left_out: list[tuple[str, str]]
) -> tuple[str, str | None]:
    """The preset, or the uploaded text."""
    if TEXT in given:
        if (text := unpack(given[TEXT])) is not None:
            return UPLOADED, text
        left_out.append((TEXT, "is no scenario that was packed into a link"))
    if KEPT in given:
        if (text := kept(given[KEPT])) is not None:
            return UPLOADED, text
        left_out.append((KEPT, "the uploaded file is gone from the server; upload it again"))
    if PRESET in given:
        if given[PRESET] in presets():
            return given[PRESET], None
        left_out.append((PRESET, f"no preset{nearest(given[PRESET][:60], presets())}"))
    return DEFAULT, None


def _values(given: Mapping[str, str], left_out: list[tuple[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """(values of the scenario, values of the page) that their readers take."""
    values: dict[str, str] = {}
    page: dict[str, str] = {}
    for name, text in given.items():
        key = BY_NAME.get(name)
        if key is None:
            continue
        value = key.read(text)
        if value is None:
            left_out.append((name, f"allowed {key.allowed}"))
        elif key.path is None:
            page[name] = value
        else:
            values[name] = value
    return values, page


def _inner(text: str) -> dict[str, list[str]]:
    """The parameters of a link inside a link; what it pins itself is left out."""
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return {}
    for name, value in pairs:
        if name != PINNED:
            found.setdefault(name, []).append(value)
    return found


def write(asked: Asked, keep: Callable[[str], str]) -> dict[str, str]:
    """The parameters of the link. keep: keeps a long uploaded text on the server and gives its hash."""
    pinned = {} if asked.pinned is None else {PINNED: urlencode(_source(asked.pinned, keep))}
    return {**_place(asked.base, asked.text, keep), **asked.values, **asked.page, **pinned}


def _place(base: str, text: str | None, keep: Callable[[str], str]) -> dict[str, str]:
    if text is None:
        return {PRESET: base}
    packed = pack(text)
    return {TEXT: packed} if len(packed) <= MAX_LINK_TEXT else {KEPT: keep(text)}


def _source(source: Source, keep: Callable[[str], str]) -> dict[str, str]:
    """The parameters of a source alone."""
    plain = source.plain()
    names = {path_of(key.path, plain): key.name for key in SCENARIO_KEYS}
    changes = (override.partition("=") for override in source.overrides)
    return {
        **_place(source.base, source.text, keep),
        **{names[path]: text for path, _, text in changes if path in names},
    }


def pack(text: str) -> str:
    """A text as letters, digits, - and _ for a link."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def unpack(packed: str) -> str | None:
    """The text of `pack`; None for anything else, and for what would grow beyond a scenario file's size."""
    try:
        data = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        text = reader.decompress(data, MAX_BYTES)
        return None if reader.unconsumed_tail or not reader.eof or reader.unused_data else text.decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError, ValueError):
        return None
