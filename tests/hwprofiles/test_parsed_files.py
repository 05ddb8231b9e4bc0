"""A committed file's document is the same whether it was parsed or kept, and is kept for no other content, limit or file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hwprofiles import parsed_files, yaml_file
from hwprofiles.yaml_file import YamlFileError, parse_yaml, read_yaml

TEXT = 'a: [1, 2.5, "x", null, true]\nb:\n  c: {d: 1e9}\n'


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a package; what is kept of it lies in `kept`."""
    (tmp_path / "package" / "data").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").touch()
    monkeypatch.setattr(parsed_files, "_PACKAGES", tmp_path)
    monkeypatch.setattr(parsed_files, "_place", lambda path: tmp_path / "kept" / Path(path).name)
    path = tmp_path / "package" / "data" / "a.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def num_parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many texts were parsed."""
    seen: list[str] = []

    def counted(text: str, name: str, max_nodes: int) -> yaml_file.YamlDocument:
        seen.append(text)
        return parse_yaml(text, name, max_nodes)

    monkeypatch.setattr(yaml_file, "parse_yaml", counted)
    return lambda: len(seen)


def test_a_kept_document_is_the_parsed_one(committed: Path, num_parsed: Callable[[], int]) -> None:
    parsed = read_yaml(committed)
    again = read_yaml(committed)
    assert num_parsed() == 1
    assert again == parsed == parse_yaml(TEXT, str(committed))
    assert [type(each) for each in again.data["a"]] == [int, float, str, type(None), bool]
    again.data["a"].clear()
    assert read_yaml(committed) == parsed


def test_other_content_is_parsed(committed: Path, num_parsed: Callable[[], int]) -> None:
    read_yaml(committed)
    committed.write_text(TEXT.replace("2.5", "3.5"))
    assert read_yaml(committed).data["a"][1] == 3.5
    assert num_parsed() == 2


@pytest.mark.parametrize(
    "change", [lambda data: data[:40], lambda data: b"", lambda data: data[:-3], lambda data: data[1:]]
)
def test_a_broken_kept_file_is_none(committed: Path, change: Callable[[bytes], bytes]) -> None:
    read_yaml(committed)
    place = parsed_files._place(str(committed))
    place.write_bytes(change(place.read_bytes()))
    assert read_yaml(committed) == parse_yaml(TEXT, str(committed))


def test_a_limit_holds_for_what_was_kept_under_another(committed: Path) -> None:
    read_yaml(committed)
    with pytest.raises(YamlFileError, match="more than 3 values"):
        read_yaml(committed, max_nodes=3)


def test_a_file_of_others_is_not_kept(committed: Path, tmp_path: Path, num_parsed: Callable[[], int]) -> None:
    for other in (tmp_path / "mine.yaml", tmp_path / "folder" / "mine.yaml"):
        other.parent.mkdir(exist_ok=True)
        other.write_text(TEXT)
        assert read_yaml(other) == read_yaml(other)
    assert num_parsed() == 4
    assert not (tmp_path / "kept").exists()


def test_where_nothing_can_be_written_it_is_parsed_each_time(
    committed: Path, tmp_path: Path, num_parsed: Callable[[], int]
) -> None:
    (tmp_path / "kept").write_text("no folder")
    assert read_yaml(committed) == read_yaml(committed)
    assert num_parsed() == 2


def test_files_of_a_wrong_content_are_not_kept(committed: Path) -> None:
    committed.write_text("a: 1\na: 2\n")
    for _ in range(2):
        with pytest.raises(YamlFileError, match="the key a stands here and in line 1"):
            read_yaml(committed)


def test_a_new_reader_reads_anew(
    committed: Path, num_parsed: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_yaml(committed)
    monkeypatch.setattr(parsed_files, "_made_by", lambda: b"another")
    read_yaml(committed)
    assert num_parsed() == 2
