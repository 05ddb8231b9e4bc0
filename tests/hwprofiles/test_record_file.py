"""Law: a wrong file names all of its problems at once, each with file, line, field and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError, read_mapping, read_record
from hwprofiles.schema import Node
from hwprofiles.stack_records import Assumption, Parameter

BAD_NODE = """\
name: n1
gpu: g1
gpus_per_node: eight
scale_up_name: NVLink 4
scale_up_bytes_per_s: 450 GB
scale_up_domain_gpus: 8
nic_bytes_per_sec: 400 Gb/s
nics_per_node: 0
sources:
  nics_per_node:
    kind: rumour
    where: somewhere
"""


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "n1.yaml"
    path.write_text(BAD_NODE)
    with pytest.raises(CatalogError) as caught:
        read_record(path, Node)
    problems = {problem.field: problem for problem in caught.value.problems}
    lines = {field: problem.where for field, problem in problems.items()}
    assert lines == {
        "gpus_per_node": f"{path}:3",
        "scale_up_bytes_per_s": f"{path}:5",
        "nic_bytes_per_s": f"{path}:1",
        "nic_bytes_per_sec": f"{path}:7",
        "nics_per_node": f"{path}:8",
        "sources.nics_per_node.kind": f"{path}:11",
    }
    assert problems["nic_bytes_per_sec"].message.startswith("unknown key; allowed gpu, ")
    assert problems["nic_bytes_per_sec"].message.endswith("; did you mean nic_bytes_per_s?")
    assert problems["nic_bytes_per_s"].message == "is missing"
    assert 'expected a bandwidth such as "400 Gb/s"' in problems["scale_up_bytes_per_s"].message
    assert '("eight")' in problems["gpus_per_node"].message
    assert str(caught.value).count("\n") == 5


def test_a_file_that_is_not_read_is_one_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\na: 2\n")
    for name, words in (("a.yaml", "line 1"), ("missing.yaml", "cannot be read")):
        with pytest.raises(CatalogError, match=words) as caught:
            read_record(tmp_path / name, Node)
        assert len(caught.value.problems) == 1


def test_a_problem_never_prints_a_tree_or_a_control_character(tmp_path: Path) -> None:
    path = tmp_path / "n1.yaml"
    path.write_text(f"name: [{'x, ' * 5000}]\ngpu: {{a: {{b: 1}}}}\nvendor: {'y' * 50_000}\n")
    with pytest.raises(CatalogError) as caught:
        read_record(path, Node)
    for line in str(caught.value).split("\n"):
        assert line.isprintable() and len(line) < 450


def test_a_mapping_of_records_knows_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "assumptions.yaml"
    path.write_text(
        "x.y: {value: 1.0, low: 0.5, high: 2, unit: ratio of times, source: nobody says so, reason: guess}\n"
    )
    assert read_mapping(path, Assumption, key_field="key")["x.y"].key == "x.y"
    path.write_text(
        "a: {value: 1.0, unit: s, source: me}\nb:\n  value: 1.0\n  low: 2.0\n  unit: s\n  sourcé: me\nc: 3\n"
    )
    with pytest.raises(CatalogError) as caught:
        read_mapping(path, Parameter)
    fields = [(problem.where.rsplit(":", 1)[1], problem.field) for problem in caught.value.problems]
    assert fields == [("2", "b.source"), ("6", "b.sourcé"), ("7", "c")]


class ShownError(Exception):
    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))


def test_a_caller_chooses_the_name_of_the_file_and_the_error(tmp_path: Path) -> None:
    path = tmp_path / "n1.yaml"
    path.write_text(BAD_NODE)
    with pytest.raises(ShownError, match=r"(?m)^nodes/n1\.yaml:3: gpus_per_node: "):
        read_record(path, Node, "nodes/n1.yaml", ShownError)
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(ShownError, match=r"^nodes/n1\.yaml:2: "):
        read_record(path, Node, "nodes/n1.yaml", ShownError)
