"""Law: a YAML file is a mapping of plain YAML 1.2 values with known lines, or one short error with its line.

Never a hang, a crash, a wrong value or foreign code.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.yaml_file import MAX_BYTES, MAX_DEPTH, YamlDocument, YamlFileError, excerpt, parse_yaml, read_yaml


def refused(text: str) -> YamlFileError:
    """The error of a text; it must come quickly and be one short printable line."""
    start = time.perf_counter()
    with pytest.raises(YamlFileError) as caught:
        parse_yaml(text, "scenario.yaml")
    assert time.perf_counter() - start < 5.0
    message = str(caught.value)
    assert message.startswith("scenario.yaml") and message.isprintable() and len(message) < 300
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9), ("989e12", 989e12), ("3.0e9", 3e9), (".5", 0.5), ("-1.", -1.0), ("010", 10), ("0o17", 15),
        ("0x1F", 31),
        ("+7", 7), ("12:30:00", "12:30:00"), ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None), ("2025-05-14", "2025-05-14"),
        ("1_000", "1_000"), ("'8'", "8"), ('"true"', "true"), ("1.2.3", "1.2.3"), ("0b11", "0b11"), ("nan", "nan"),
        ("400 Gb/s", "400 Gb/s"), ("<<", "<<"), ("1e-400", 0.0), ("[1, [2, {b: 3}]]", [1, [2, {"b": 3}]]),
        ("1" + "0" * 30, 10**30), ('"\\u00e9"', "é"), ('"a\\tb"', "a\tb"), ("日本語", "日本語"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    data = parse_yaml(f"a: {text}\n", "f").data["a"]
    assert data == value and type(data) is type(value)


def test_keys_are_texts_as_written() -> None:
    assert parse_yaml("no: 1\n8: 2\ntrue: 3\n~: 4\n", "f").data == {"no": 1, "8": 2, "true": 3, "~": 4}


def test_positions_are_the_lines_of_keys_and_items() -> None:
    document = parse_yaml("# c\na: 1\nb:\n  c: [1,\n    2]\n\n  d: >\n    x\n    y\ne:\n- f: 1\n- g\n", "f")
    assert document.positions[("a",)] == 2
    assert document.positions[("b", "c")] == 4
    assert document.positions[("b", "c", 1)] == 5
    assert document.positions[("b", "d")] == 7
    assert document.positions[("e", 0, "f")] == 11
    assert document.positions[("e", 1)] == 12
    assert document.line(("b", "missing")) == 3 and document.line(("nowhere", "at", 3)) == 2


ALIAS_BOMB = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefghij", "bcdefghijk", strict=True)
)

TRAPS = {
    "duplicate key": ("a: 1\nb: 2\na: 3\n", 3, "line 1"),
    "duplicate key, nested": ("x:\n  a: 1\n  a: 1\n", 3, "line 2"),
    "duplicate key, quoted": ("a: 1\n'a': 2\n", 2, "line 1"),
    "duplicate key, flow": ("x: {a: 1, a: 2}", 1, "line 1"),
    "alias bomb": (ALIAS_BOMB, 1, "anchor"),
    "anchor": ("a: 1\nb: &x 2\n", 2, "anchor"),
    "alias": ("a: *x\n", 1, "alias"),
    "alias as key": ("*x : 1\n", 1, "alias"),
    "merge of an alias": ("a: &a {b: 1}\nc:\n  <<: *a\n", 1, "anchor"),
    "python tag": ("a: !!python/object/apply:os.system ['true']\n", 1, "tag"),
    "python name tag": ("a: !!python/name:os.system\n", 1, "tag"),
    "core tag": ("a: 1\nb: !!str 8\n", 2, "tag"),
    "local tag": ("a: !secret x\n", 1, "tag"),
    "non-specific tag": ("a: ! 8\n", 1, "tag"),
    "binary tag": ("a: !!binary aGk=\n", 1, "tag"),
    "tag directive": ("%TAG ! tag:x,2000:\n---\na: 1\n", 2, "%TAG"),
    "yaml 1.1 directive": ("%YAML 1.1\n---\na: no\n", 2, "1.2"),
    "yaml 2.0 directive": ("%YAML 2.0\n---\na: no\n", 1, "YAML"),
    "tab indentation": ("a:\n\tb: 1\n", 2, "tab"),
    "tab before a key": ("\ta: 1\n", 1, "tab"),
    "NUL": ("a: 1\nb: x\0y\n", 2, "U+0000"),
    "NUL escaped": ('a: "\\0"\n', 1, "U+0000"),
    "terminal escape": ("a: \x1b[31mred\n", 1, "U+001B"),
    "terminal escape in a comment": ("a: 1\n# \x1b[2J\n", 2, "U+001B"),
    "carriage return alone": ("a: 1\rb: 2\n", 1, "U+000D"),
    "C1 control": ("a: x\x85y\n", 1, "U+0085"),
    "line separator": ("a: x\u2028y\n", 1, "U+2028"),
    "right-to-left override": ("name: abc\u202edef\n", 1, "U+202E"),
    "right-to-left mark escaped": ('a: 1\nb: "\\u200f"\n', 2, "U+200F"),
    "isolate in a key": ("a: 1\n\u2066b: 1\n", 2, "U+2066"),
    "half a character": ('a: "\\ud800"\n', 1, "U+D800"),
    "character beyond Unicode": ('a: "\\UFFFFFFFF"\n', 1, "not YAML"),
    "infinity": ("a: 1\nb: .inf\n", 2, "b: .inf is not a finite number"),
    "minus infinity": ("a: {b: -.INF}\n", 1, "a.b: -.INF"),
    "not a number": ("a: [1, .NaN]\n", 1, "a.1: .NaN"),
    "overflow": ("a: 1e999\n", 1, "finite"),
    "5,000 digits": ("a: " + "9" * 5000, 1, "finite"),
    "second document": ("a: 1\n---\nb: 2\n", 2, "second document"),
    "two end markers": ("a: 1\n...\nb: 2\n", None, ""),
    "key that is a list": ("? [a, b]\n: 1\n", 1, "key"),
    "key that is a mapping": ("{a: 1}: 2\n", 1, "key"),
    "empty key": (": 1\n", 1, "key"),
    "long key": ("? " + "k" * 201 + "\n: 1\n", 1, "at most 200"),
    "key of 10^6 characters": ("k" * 999_000 + ": 1\n", 1, ""),
    "key of two lines": ('? "a\\nb"\n: 1\n', 1, "one line"),
    "5,000 brackets": ("[" * 5000, 1, "levels"),
    "5,000 braces": ("a: " + "{a: " * 5000, 1, "levels"),
    "5,000 dashes": ("- " * 5000, 1, "levels"),
    "5,000 question marks": ("? " * 5000, 1, ""),
    "600 levels of blocks": ("\n".join(" " * i + "a:" for i in range(600)), 33, "levels"),
    "20,000 keys": ("\n".join(f"k{i}: 1" for i in range(20_000)), 5000, "10000 values"),
    "200,000 items": ("[" + "1," * 200_000 + "]", 1, "10000 values"),
    "too long a text": ("a: " + "b" * MAX_BYTES, None, "characters"),
    "open bracket": ("a: [1, 2\n", None, "not YAML"),
    "open quote": ("a: 'x\n", None, "not YAML"),
    "colon in a plain scalar": ("a: b: c\n", 1, "not YAML"),
    "reserved character": ("a: @x\n", 1, "not YAML"),
    "backtick": ("a: `x`\n", 1, "not YAML"),
    "list and mapping": ("- a\nb: 1\n", 2, "not YAML"),
    "stray brace": ("}\n", 1, "not YAML"),
    "bad indentation": ("a:\n   b: 1\n  c: 2\n", 3, "not YAML"),
    "unknown escape": ('a: "\\q"\n', 1, "not YAML"),
    "bad block header": ("a: |99\n x\n", 1, "not YAML"),
    "percent signs": ("%" * 5000, 1, "not YAML"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_traps_are_refused_with_their_line(trap: str) -> None:
    text, line, words = TRAPS[trap]
    error = refused(text)
    assert words in error.message
    assert line is None or error.line == line


def test_the_deepest_and_largest_legal_documents_are_read() -> None:
    deep = parse_yaml("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, "f").data
    for _ in range(MAX_DEPTH):
        (deep,) = deep
    assert deep == 1
    assert len(parse_yaml("\n".join(f"k{i}: {i}" for i in range(4_900)), "f").data) == 4_900
    assert len(parse_yaml("a: " + "b" * (MAX_BYTES - 3), "f").data["a"]) == MAX_BYTES - 3


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xef\xbb\xbfa: 1\n", "byte order mark"),
        ("a: 1\n".encode("utf-16"), "UTF-16"),
        ("a: 1\n".encode("utf-16-be"), "U+0000"),
        (b"\xfe\xff" + "a: 1\n".encode("utf-16-be"), "UTF-16"),
        (b"a: 1\nb: \xff\n", "not UTF-8"),
        (b"a: \xed\xa0\x80\n", "not UTF-8"),
        (b"", "empty"),
        (b"# only a comment\n", "empty"),
        (b"null\n", "empty"),
        (b"- a\n- b\n", "a list"),
        (b"[1, 2]\n", "a list"),
        (b"just text\n", "a text"),
        (b"42\n", "a number"),
        (b"4.2\n", "a number"),
        (b"true\n", "true or false"),
        (b"a: 1\n" + b"#" * MAX_BYTES, "larger than"),
        (bytes(range(256)), ""),
        (b"PK\x03\x04" + b"\0" * 100, ""),
        (b"\x1f\x8b\x08" + b"\0" * 100, ""),
    ],
)
def test_files_that_are_no_mapping_in_utf_8_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(YamlFileError) as caught:
        read_yaml(write(tmp_path / "f.yaml", data))
    assert words in caught.value.message
    assert "f.yaml" in str(caught.value) and len(caught.value.message) < 200


def test_a_file_of_windows_lines_is_read(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path / "f.yaml", b"a: 1\r\nb: |\r\n  x\r\n  y\r\n"))
    assert document.data == {"a": 1, "b": "x\ny\n"} and document.positions[("b",)] == 2


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    start = time.perf_counter()
    for path, words in ((fifo, "regular file"), (tmp_path, "directory"), (Path("/dev/zero"), "regular file")):
        with pytest.raises(YamlFileError, match=words):
            read_yaml(path)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize("path", ["missing.yaml", "no/such/folder.yaml", "a\0b.yaml", "x" * 5000, "", "\udcff.yaml"])
def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(YamlFileError, match="cannot be read") as caught:
        read_yaml(os.path.join(tmp_path, path) if path else "")  # noqa: PTH118
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.yaml", b"a: 1\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(YamlFileError, match="Permission denied"):
        read_yaml(path)


def test_a_symbolic_link_to_itself_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    with pytest.raises(YamlFileError, match="cannot be read"):
        read_yaml(loop)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc")
    good = write(tmp_path / "good.yaml", b"a: 1\n")
    large = write(tmp_path / "large.yaml", b"#" * (MAX_BYTES + 1))
    before = len(list(folder.iterdir()))
    for path in (good, large, tmp_path):
        try:
            read_yaml(path)
        except YamlFileError:
            continue
    assert len(list(folder.iterdir())) == before
    assert stat.S_ISREG(good.stat().st_mode)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_mapping_or_a_typed_error(data: bytes) -> None:
    try:
        text = data.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        return
    _parse_or_refuse(text)


@given(st.text(alphabet="ab:-?[]{},&*!|>'\"%@#\n \t~01.", max_size=60))
def test_any_syntax_is_a_value_or_a_typed_error(text: str) -> None:
    _parse_or_refuse(text)


def _parse_or_refuse(text: str) -> YamlDocument | None:
    try:
        return parse_yaml(text, "f")
    except YamlFileError as error:
        assert str(error).isprintable()
        return None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_json_is_yaml(value: object) -> None:
    import json

    assert parse_yaml(json.dumps({"a": value}), "f").data == {"a": value}


def test_excerpt_is_short_and_printable() -> None:
    assert excerpt("a\x1b[31m\u202eb\nc") == "a\\x1b[31m\\u202eb\\nc"
    assert len(excerpt("x" * 10**6)) == 60 and excerpt("x" * 60) == "x" * 60
