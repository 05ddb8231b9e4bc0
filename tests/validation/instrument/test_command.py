"""`moesim validate --cases` as a user drives it: tables, Markdown, the document, what moved."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from simulator.cli.app import main
from tests.validation.instrument.made_up import run
from tests.validation.instrument.test_prediction import SMALL
from validation.instrument.document import document
from validation.instrument.show import markdown
from validation.instrument.tables import tables


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three rows that are predicted, one of MXFP-less INT8, one without anything."""
    path = tmp_path / "runs.csv"
    rows = [{**SMALL, "case_id": f"R-{n}", "step_time_s": str(2.0**-n)} for n in range(3)]
    rows += [{**SMALL, "case_id": "R-3", "precision": "INT8", "step_time_s": "1"}, {"case_id": "R-4"}]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*SMALL, "step_time_s"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_rows_and_summary_as_one_document_and_what_moved(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--cases", str(table), "--json"]) == 0
    text = capsys.readouterr().out
    told = json.loads(text)
    keys = {
        "case_id", "group", "quantity", "predicted", "low", "high", "measured", "error_frac", "inputs_assumed",
        "skipped_because",
    }  # fmt: skip
    assert all(keys <= set(case) for case in told["cases"])
    assert all(
        set(case["group"]) == {"model", "gpu", "framework", "release", "precision", "num_gpus"}
        for case in told["cases"]
    )
    assert [case["case_id"] for case in told["cases"]] == [f"R-{n}" for n in range(5)]
    assert [case["predicted"] is None for case in told["cases"]] == [False] * 3 + [True] * 2
    total = told["summary"]
    assert (total["n"], total["predicted"], total["eligible"]) == (5, 3, 3)
    errors = [case["predicted"] / case["measured"] - 1 for case in told["cases"][:3]]
    assert total["mape"] == pytest.approx(sum(map(abs, errors)) / 3)
    assert total["bias"] == pytest.approx(sum(errors) / 3)
    assert total["worst"][0]["case_id"] in ("R-0", "R-2")
    assert {each["reason"] for each in total["skipped"]} >= {"INT8", "no precision given"}

    old = tmp_path / "old.json"
    old.write_text(text)
    assert main(["validate", "--cases", str(table), "--compare", str(old), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["cases"] == told["cases"]
    assert again["compared"]["moved"] == []


@pytest.mark.parametrize("columns", [60, 100, 140])
def test_tables_at_every_width(
    table: Path, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["validate", "--cases", str(table)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    words = " ".join(out.split())
    for said in ("Measured runs", "By gpu", "By inputs", "Furthest off", "Not predicted: 2 rows", "INT8 1 1", "h100 3"):
        assert said in words


def test_markdown_has_every_figure_of_the_tables() -> None:
    rows = [run("a|b"), run("c", 5.0, 4.0, 6.0), run("d", None)]
    found = tables(document(rows))
    text = markdown(found)
    assert "| all | 2 | 60.0 % | 60.0 % | 100.0 % | +40.0 % | 50.0 % | 35.0 % | 5.45 |" in text
    assert "\n| a\\|b | 2.500 s | 2.000 s | -20.0 % | gemm 60 %, bubble 40 % |" in text
    assert text.count("\n| :-- |") == len(found)
