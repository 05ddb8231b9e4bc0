"""The accuracy file: published rows as they were run, what is written anew and what stays, and that it can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.cli.app import main
from simulator.cli.validate import ACCURACY
from simulator.report.accuracy import AccuracyRow, read_accuracy
from tests.validation.instrument.made_up import run
from validation.accuracy import case_line, cells_of, merged, read_table, run_line, table_text
from validation.case import Group
from validation.compare import Row
from validation.instrument.pool import outcomes
from validation.instrument.prediction import column_of
from validation.published.eligible import CASES, eligible
from validation.published.row import read_rows

GROUP = Group(model="m", gpu="g", framework="f", release="r", precision="p", num_gpus=8)


def made_up(case: str, predicted_s: float = 2.0) -> Row:
    return Row(case, "s", GROUP, "step.step_s", "edge", predicted_s, 1.0, 3.0, 2.5, "x")


def published(case: str) -> AccuracyRow:
    return run_line(run(case, 2.0))


def test_what_was_not_predicted_anew_stays() -> None:
    old = [cells_of(case_line(made_up(name))) for name in ("deepseek-v3", "llama-3.1-405b", "gone")]
    old += [cells_of(published("P-1"))]
    cases = merged(old, [case_line(made_up("llama-3.1-405b", predicted_s=4.0))])
    assert [(cells["case"], cells["predicted"]) for cells in cases] == [
        ("deepseek-v3", "2"), ("llama-3.1-405b", "4"), ("P-1", "2"),
    ]  # fmt: skip
    runs = merged(old, [published("P-2")])
    assert [cells["case"] for cells in runs] == ["deepseek-v3", "llama-3.1-405b", "P-2"]


def test_the_file_written_again_is_the_same_bytes() -> None:
    text = ACCURACY.read_text(encoding="utf-8")
    assert table_text(merged(read_table(ACCURACY), [])) == text
    assert text.isascii()


def test_a_table_of_runs_is_kept_and_cases_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`moesim validate --write --cases`: rows that count are written, others and the cases of the file are not touched."""
    target, table = tmp_path / "accuracy.csv", tmp_path / "runs.csv"
    target.write_text(table_text([cells_of(case_line(made_up("deepseek-v3")))]))
    table.write_text("case_id,model,gpu,n_gpus,precision\nP-1,,,,\nP-2,,,,\nP-3,,,,\n")
    found = [run("P-1", 2.0), run("P-2", 3.0, is_eligible=False), run("P-3", None)]
    monkeypatch.setattr("validation.instrument.pool.outcomes", lambda rows, predict, progress: found)
    monkeypatch.setattr("simulator.cli.validate.ACCURACY", target)
    assert main(["validate", "--write", "--cases", str(table)]) == 0
    assert [(cells["case"], cells["error_frac"]) for cells in read_table(target)] == [
        ("deepseek-v3", "-0.2"), ("P-1", "-0.2"),
    ]  # fmt: skip
    assert "3 rows, 2 predicted, 1 of them count" in capsys.readouterr().out


@pytest.mark.slow
def test_the_committed_rows_can_be_made_again() -> None:
    """A dozen of them, spread over the file: the same text, and no row that can be stated is left out."""
    committed = [cells for cells in read_table(ACCURACY) if cells["group"] == "published"]
    given = {row.text("case_id"): row for row in read_rows(CASES)}
    sample = committed[:: len(committed) // 12][:12]
    assert len(sample) == 12
    found = outcomes([given[cells["case"]] for cells in sample])
    assert [cells_of(run_line(row)) for row in found] == sample
    assert len({row.case for row in read_accuracy() if row.group == "published"}) == len(committed)
    statable = [row for row in given.values() if row.text("case_id") in eligible() and column_of(row)]
    assert len(committed) == len(statable)
