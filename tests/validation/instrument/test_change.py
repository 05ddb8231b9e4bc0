"""What a change moved: rows, groups before and after, gained and lost, and documents that are none."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from simulator.cli.app import main
from simulator.errors import InputError
from tests.validation.instrument.made_up import run
from validation.instrument.change import compared, read_old
from validation.instrument.document import document
from validation.instrument.outcome import Outcome
from validation.instrument.tables import tables

ROWS = [run("a"), run("b", gpu="h"), run("c", None), run("d", gpu="h"), run("new")]


def doctored() -> dict[str, Any]:
    """A document of before: a took twice as long, b a ten-thousandth more, c was predicted, d was not, one row is no more."""
    rows = [run("a", 4.0), run("b", 2.0002, gpu="h"), run("c"), run("d", None, gpu="h"), run("gone")]
    return json.loads(json.dumps(document(rows)))  # type: ignore[no-any-return]


def test_a_document_that_did_not_change_moved_nothing() -> None:
    found = compared(document(ROWS), ROWS)
    assert not any(found[key] for key in ("moved", "gained", "lost", "only_old", "only_new"))
    assert all(before == now for each in found["groups"] for before, now in (each["mape"], each["n"]))


def test_what_moved_was_gained_and_lost() -> None:
    found = compared(doctored(), ROWS)
    (moved,) = found["moved"]
    assert (moved["case_id"], moved["change_frac"]) == ("a", pytest.approx(-0.5))
    assert (moved["step_error_before"], moved["step_error_after"]) == (pytest.approx(0.6), pytest.approx(-0.2))
    assert found["gained"] == [{"case_id": "d", "was": "MXFP8"}]
    assert found["lost"] == [{"case_id": "c", "because": "MXFP8"}]
    assert (found["only_old"], found["only_new"]) == (["gone"], ["new"])
    groups = {(each["by"], each["value"]): each for each in found["groups"]}
    assert groups["gpu", "h"]["n"] == [1, 2]
    assert groups["all", "rows"]["n"] == [4, 4]
    assert groups["all", "rows"]["bias"] == [pytest.approx((0.6 - 0.2 * 3) / 4, abs=1e-4), pytest.approx(-0.2)]


def test_a_speed_that_doubled_halves_the_time() -> None:
    before, now = (run("a", value, quantity="mfu", measured=0.4) for value in (0.2, 0.4))
    (moved,) = compared(document([before]), [now])["moved"]
    assert (moved["change_frac"], moved["step_error_before"]) == (pytest.approx(-0.5), pytest.approx(1.0))


def test_of_a_name_that_is_there_twice_the_first_counts() -> None:
    rows = [run("a"), run("b"), run("a", None, reasons=("case_id is there twice",))]
    old = document([run("a", 4.0), run("a", None), run("b")])
    found = compared(old, rows)
    assert [each["case_id"] for each in found["moved"]] == ["a"]
    assert not found["gained"] and not found["lost"]


def test_figures_of_two_columns_are_not_compared() -> None:
    found = compared(document([run("a", 0.4, quantity="mfu", measured=0.4)]), [run("a", 2.0)])
    assert (found["moved"], found["other_quantity"]) == ([], ["a"])


def test_tables_say_that_nothing_moved_and_which_rows_one_document_lacks() -> None:
    told = document(ROWS)
    (same,) = [each for each in tables(told | {"compared": compared(told, ROWS)}) if each.title.startswith("Before")]
    assert same.note.startswith("Beside the older document: 0 rows moved, 0 are predicted now, 0 no longer; 0 are new")
    (other,) = [
        each for each in tables(told | {"compared": compared(doctored(), ROWS)}) if each.title.startswith("Before")
    ]
    assert "1 row moved, 1 are predicted now, 1 no longer; 1 are new, 1 are only there." in other.note


def test_an_older_document_without_the_newer_figures_is_compared_by_the_others() -> None:
    told = document(ROWS)
    older = copy.deepcopy(told)
    del older["summary"]["pairs"], older["summary"]["noise"]
    for group in (older["summary"], *older["summary"]["by_group"]):
        del group["half_width"], group["p90"]
    found = compared(older, ROWS)
    assert found["pairs"]["right"][0] is None
    assert not found["pairs"]["newly_wrong"]
    (same,) = [each for each in tables(told | {"compared": found}) if each.title.startswith("Before")]
    assert (same.rows, "Signs" in same.note) == ([], False)


def test_signs_that_turned_are_named() -> None:
    def rows(predicted_s: float) -> list[Outcome]:
        beside = {"recorded": {"gpu": "h"}, "measured": 2.0}
        return [run("a", 1.0, measured=1.0, recorded={"gpu": "g"}), run("b", predicted_s, **beside)]

    found = compared(document(rows(1.5)), rows(0.5))
    assert found["pairs"] == {"n": [1, 1], "right": [1.0, 0.0], "newly_wrong": ["a, b"], "newly_right": []}
    told = document(rows(0.5)) | {"compared": found}
    (before,) = [each for each in tables(told) if each.title.startswith("Before")]
    assert before.note.endswith("Signs of pairs: 100.0 % -> 0.0 % of 1 right; 1 newly wrong, 0 newly right.")


def broken(change: str) -> Any:
    found = copy.deepcopy(doctored())
    match change:
        case "list":
            return [1]
        case "no cases":
            del found["cases"]
        case "no name":
            found["cases"][1] = {"predicted": 1.0}
        case "text":
            found["cases"][0]["predicted"] = "fast"
        case "below":
            found["cases"][0]["predicted"] = -1.0
        case "no summary":
            del found["summary"]
        case "group":
            found["summary"]["by_group"][0] = 3
        case "figure":
            found["summary"]["by_group"][0]["mape"] = "low"
        case "nan":
            found["summary"]["by_group"][0]["bias"] = float("nan")
        case "pairs":
            found["summary"]["pairs"] = {"wrong": ["a, b"]}
        case "share":
            found["summary"]["pairs"]["right"] = "most"
    return found


@pytest.mark.parametrize(
    "change", ["list", "no cases", "no name", "text", "below", "no summary", "group", "figure", "nan", "pairs", "share"]
)
def test_a_document_that_is_none_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(broken(change)))
    with pytest.raises(InputError, match="--compare") as caught:
        read_old(path)
    assert "moesim validate --cases FILE.csv --json" in str(caught.value)


def test_bad_input_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and the option that is wrong by name; nothing is predicted."""
    table, old = tmp_path / "runs.csv", tmp_path / "old.json"
    table.write_text("case_id,model,gpu,n_gpus,precision\n")
    old.write_text("{")
    for arguments, said in (
        (["--cases", str(tmp_path / "none.csv")], "--cases"),
        (["--cases", str(old)], "has no column"),
        (["--cases", str(table), "--compare", str(old)], "is no JSON"),
        (["--cases", str(table), "--compare", str(tmp_path / "none")], "cannot be read"),
        (["--compare", str(old)], "--cases FILE.csv"),
        (["-f", "yaml"], "no format"),
        (["--leave-out", "gpu"], "--cases FILE.csv"),
        (["--cases", str(table), "--leave-out", "chip"], 'no group is called "chip"'),
        (["--cases", str(table), "--leave-out", "gpu", "--write"], "--write"),
    ):
        assert main(["validate", *arguments]) == 2, arguments
        out = capsys.readouterr()
        assert (said in out.err, out.out) == (True, ""), arguments
