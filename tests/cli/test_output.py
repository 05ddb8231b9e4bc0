"""Files and documents as commands write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.cli.output import print_json, write_atomically


def test_a_file_is_replaced_and_not_written_into(tmp_path: Path) -> None:
    """Whoever has the old file open keeps reading the old text."""
    path = tmp_path / "result.json"
    path.write_text("old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert (path.read_text(), reader.read()) == ("new", "old")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_document_holds_no_number_that_json_has_not(value: float) -> None:
    with pytest.raises(ValueError):
        print_json({"value": value})
