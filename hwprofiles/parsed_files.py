"""What the reader made of a committed YAML file, kept beside the compiled sources, so that it is not parsed at every start.

A kept document is that of one content, reader and parser, by their digest, and lies where Python and numba keep theirs
(`__pycache__`). Files of others are not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import __version__ as parser_version

Parsed = tuple[Any, dict[tuple[str | int, ...], int]]
"""A document's value and the lines of its key paths."""

_PACKAGES: Final = Path(__file__).resolve().parents[1]
_READER: Final = Path(__file__).with_name("yaml_file.py")
_DIGEST_BYTES: Final = 32


def is_committed(path: str) -> bool:
    """Whether the file belongs to a package that stands beside this one."""
    whole = Path(path).resolve()
    if not whole.is_relative_to(_PACKAGES):
        return False
    first, *rest = whole.relative_to(_PACKAGES).parts
    return bool(rest) and (_PACKAGES / first / "__init__.py").is_file()


def kept(path: str, content: bytes, max_nodes: int) -> Parsed | None:
    """What was kept of a committed file of this content, read with this limit of values; None where nothing was."""
    try:
        data = _place(path).read_bytes()
        if data[:_DIGEST_BYTES] != _digest(content, max_nodes):
            return None
        value, lines = json.loads(data[_DIGEST_BYTES:])
        return value, {tuple(key_path): line for key_path, line in lines}
    except (OSError, ValueError, TypeError):
        return None


def keep(path: str, content: bytes, max_nodes: int, parsed: Parsed) -> None:
    """Keeps a committed file's document, in one move, where that can be written."""
    place, (value, lines) = _place(path), parsed
    data = _digest(content, max_nodes) + json.dumps([value, list(lines.items())]).encode()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=place.parent, suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).replace(place)
    except OSError:  # a read-only installation: it is parsed again next time
        return


def _place(path: str) -> Path:
    """One file for each path."""
    name = hashlib.blake2b(str(Path(path).resolve()).encode(), digest_size=8).hexdigest()
    return Path(cache_from_source(str(_READER))).with_suffix(f".{name}")


def _digest(content: bytes, max_nodes: int) -> bytes:
    return hashlib.blake2b(
        content, key=_made_by(), salt=max_nodes.to_bytes(8, "big"), digest_size=_DIGEST_BYTES
    ).digest()


@cache
def _made_by() -> bytes:
    """Digest of the reader's source and the parser's version."""
    return hashlib.blake2b(_READER.read_bytes() + parser_version.encode(), digest_size=_DIGEST_BYTES).digest()
