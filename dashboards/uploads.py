"""Files that a browser sends: what they are is read from their content, and no name of them is ever used as a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from dashboards.source import UPLOADED, Source
from hwprofiles.yaml_file import MAX_BYTES, YamlFileError, excerpt, parse_yaml
from simulator.errors import InputError, Problem
from simulator.results.run_result import RunResult
from simulator.results.saved import read_result
from simulator.scenario.load import UnfitScenario

MAX_RESULT_BYTES: Final = 10_000_000
SUFFIXES: Final = ("yaml", "yml", "json")
"""What the browser offers to choose; what counts is the content."""

_PACKED: Final = {
    b"\x1f\x8b": "packed with gzip",
    b"PK\x03\x04": "a zip archive or an office file",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\x7fELF": "a program",
}
_EXPECTED: Final = "expected a scenario (YAML) or a result (JSON of `moesim run --json`)"
_RESULT_KEYS: Final = ("step", "phases", "totals")
"""What a result has and a scenario file cannot have together."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What was in the file: a scenario's text (source), or a result; the other is None."""

    name: str
    source: Source | None = None
    result: RunResult | None = None


def read_upload(data: bytes, name: str, takes_unfit: bool = False) -> Uploaded:
    """What a file holds. name: as the browser says, for messages. takes_unfit: a scenario whose keys only do not fit one
    another is taken too: what would mend it can be offered then. Raises InputError: one clear message about what it is.
    """
    shown = excerpt(name.replace("\\", "/").rpartition("/")[2] or "upload", 80)
    text = _text(data, shown)
    if _is_result(text):
        return Uploaded(shown, result=read_result(data, shown))
    if len(data) > MAX_BYTES:
        _refuse(shown, f"has {len(data):,} bytes; a scenario has at most {MAX_BYTES:,}")
    _check_mapping(text, shown)
    error = Source(shown, text).error()
    if error is not None and not (takes_unfit and isinstance(error, UnfitScenario)):
        raise InputError(error.problems)
    return Uploaded(shown, source=Source(UPLOADED, text))


def _text(data: bytes, shown: str) -> str:
    """The file as UTF-8. Raises InputError for all that is no text, and for what is too long."""
    kind = next((kind for start, kind in _PACKED.items() if data.startswith(start)), None)
    if kind is not None:
        _refuse(shown, f"is {kind}; {_EXPECTED}, as plain text")
    if not data.strip():
        _refuse(shown, f"is empty; {_EXPECTED}")
    if len(data) > MAX_RESULT_BYTES:
        _refuse(shown, f"has {len(data):,} bytes; allowed {MAX_RESULT_BYTES:,}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        _refuse(shown, f"is not UTF-8; {_EXPECTED}, saved as UTF-8")


def _is_result(text: str) -> bool:
    """Whether a text is meant to be a result document, whole or cut off: told without reading it, for it may be large."""
    named = (f'"{key}"' in text for key in _RESULT_KEYS)
    return text.lstrip().startswith("{") and ('"scenario_sha256"' in text or all(named))


def _check_mapping(text: str, shown: str) -> None:
    """Raise InputError where a text is no YAML mapping with a key of a scenario: one message in place of many."""
    try:
        document = parse_yaml(text, shown).data
    except YamlFileError as error:
        where = shown if error.line is None else f"{shown}:{error.line}"
        raise InputError([Problem(where, "", f"{error.message}; {_EXPECTED}")]) from None
    if not isinstance(document, dict) or not {"extends", "model", "schema_version"} & document.keys():
        _refuse(shown, f"is no scenario; {_EXPECTED}")


def _refuse(shown: str, message: str) -> NoReturn:
    raise InputError([Problem(shown, "", message)])
