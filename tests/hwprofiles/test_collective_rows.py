"""Law: a collective table holds what its CSV says, or an error with file and line; no cell is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprofiles.catalog import CatalogError
from hwprofiles.collectives.rows import COLLECTIVE_COLUMNS, CollectiveTable

GOOD = {
    "op": "dispatch", "regime": "alone", "ranks": "64", "nodes": "8", "tokens": "4096", "bytes_per_token": "7392",
    "nodes_per_token": "3.175", "bytes": "", "sms": "24", "seconds": "2.5e-3", "bytes_per_s": "40.3e9", "low": "2.4e-3",
    "high": "2.6e-3", "basis": "measured", "source": "a README", "note": "kernel only",
}  # fmt: skip


def write(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLLECTIVE_COLUMNS) -> Path:
    lines = [",".join(columns), *(",".join(row.get(column, "") for column in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_cells_become_numbers_and_empty_cells_none(tmp_path: Path) -> None:
    other = {**GOOD, "op": "combine", "regime": "overlapped", "bytes_per_s": "", "low": "", "high": ""}
    table = CollectiveTable.from_csv(write(tmp_path / "c.csv", GOOD, other))
    (row,) = table.select("dispatch", "alone")
    assert (row.ranks, row.tokens, row.bytes, row.seconds) == (64, 4096, None, 2.5e-3)
    assert (row.nodes_per_token, row.bytes_per_s, row.low, row.high) == (3.175, 40.3e9, 2.4e-3, 2.6e-3)
    assert [entry.op for entry in table.select("combine", "overlapped")] == ["combine"]
    assert table.select("combine", "alone") == () and table.select("dispatch_cached", "alone") == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": ""}, "seconds: is missing"),
        ({"tokens": "0"}, 'tokens: is too small ("0"); allowed at least 1'),
        ({"nodes_per_token": "8.5"}, "nodes_per_token: 8.5 is more than nodes 8"),
        ({"op": "dispach"}, "did you mean dispatch?"),
        ({}, "the measurement of line 2 again; keep one"),
        ({"bytes_per_s": "nan"}, "bytes_per_s"),
        ({"bytes_per_s": "inf"}, "bytes_per_s"),
        ({"bytes_per_s": "-1"}, "bytes_per_s"),
        ({"bytes_per_s": "40 GB/s"}, "bytes_per_s"),
        ({"low": "41e9"}, "low <= seconds <= high"),
        ({"ranks": "0"}, "ranks"),
        ({"ranks": "6.5"}, "ranks"),
        ({"nodes": "65"}, "more than ranks"),
        ({"regime": "burst"}, "regime"),
        ({"basis": ""}, "basis"),
        ({"source": " "}, "source"),
        ({"op": ""}, "op: is missing"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, change: dict[str, str], words: str) -> None:
    path = write(tmp_path / "c.csv", GOOD, {**GOOD, **change})
    with pytest.raises(CatalogError, match=r"c\.csv:3: ") as caught:
        CollectiveTable.from_csv(path)
    assert words in str(caught.value)


def test_columns_and_cells_must_fit(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r":1: columns missing \['note'\], unknown \['notes'\]"):
        CollectiveTable.from_csv(write(tmp_path / "c.csv", GOOD, columns=(*COLLECTIVE_COLUMNS[:-1], "notes")))
    path = write(tmp_path / "d.csv", GOOD)
    path.write_text(path.read_text() + "dispatch,alone,64\n")
    with pytest.raises(CatalogError, match=r"d\.csv:3: the number of cells"):
        CollectiveTable.from_csv(path)


def test_every_bad_row_is_named_at_once(tmp_path: Path) -> None:
    bad = [{**GOOD, "ranks": "0"}, {**GOOD, "nodes": "65"}]
    with pytest.raises(CatalogError) as caught:
        CollectiveTable.from_csv(write(tmp_path / "c.csv", GOOD, *bad))
    assert [problem.where.rsplit(":", 1)[1] for problem in caught.value.problems] == ["3", "4"]


@pytest.mark.parametrize(
    "change",
    [
        {"op": "combine"}, {"regime": "overlapped"}, {"ranks": "32"}, {"nodes": "4"}, {"tokens": "128"},
        {"bytes_per_token": "14336"}, {"nodes_per_token": "2.5"}, {"sms": "12"}, {"source": "another README"}, {"bytes": "9"},
    ],
)  # fmt: skip
def test_what_differs_in_size_or_conditions_is_another_measurement(tmp_path: Path, change: dict[str, str]) -> None:
    assert len(CollectiveTable.from_csv(write(tmp_path / "c.csv", GOOD, {**GOOD, **change})).rows) == 2
    again = {**GOOD, **change, "seconds": "2.45e-3"}
    with pytest.raises(CatalogError, match="the measurement of line 2 again"):
        CollectiveTable.from_csv(write(tmp_path / "d.csv", {**GOOD, **change}, again))
