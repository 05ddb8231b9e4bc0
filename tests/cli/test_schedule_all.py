"""`moesim schedule all`: every schedule of the family side by side, those that cannot run the counts with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.cli.app import main
from simulator.schedule import SCHEDULES


def compared(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, dict[str, Any]]:
    assert main(["schedule", "all", "--pp", "8", "--micro-batches", "20", "--json", *options]) == 0
    return {entry.pop("name"): entry for entry in json.loads(capsys.readouterr().out)}


def test_every_schedule_is_told_or_why_it_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys)
    assert list(found) == list(SCHEDULES.names())
    assert "multiple of the pipeline ranks" in found.pop("interleaved_1f1b")["problem"]
    assert "next valid: 16 or 24" in found.pop("interleaved_1f1b_ep_overlap")["problem"]
    assert all(set(entry) == {"bubble_frac", "in_flight", "duration", "makespan"} for entry in found.values())


def test_bubble_activations_and_duration_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """F = I = W = 1 of an eighth of the model: 60 of work, behind it (P-1)(F+B) = 21, (P-1)(F+B-2W) = 7, 0, 3·2 and 7·2/2."""
    found = compared(capsys)
    assert {name: found[name]["duration"] for name in ("1f1b", "zb_h1", "zb_v", "dualpipe", "dualpipe_v")} == {
        "1f1b": 81, "zb_h1": 67, "zb_v": 60, "dualpipe": 66, "dualpipe_v": 67,
    }  # fmt: skip
    assert {name: found[name]["in_flight"] for name in ("1f1b", "gpipe", "zb_h1", "zb_v", "dualpipe", "dualpipe_v")} == {
        "1f1b": 8, "gpipe": 20, "zb_h1": 8, "zb_v": 8, "dualpipe": 9, "dualpipe_v": 8.5,
    }  # fmt: skip
    assert found["1f1b"]["bubble_frac"] == pytest.approx(21 / 81)
    assert found["zb_v"]["bubble_frac"] == 0
    assert found["zb_v"]["makespan"] == 63.5, "the last rank begins and ends seven half-size forwards later"


def test_other_lengths_and_whole_backwards(capsys: pytest.CaptureFixture[str]) -> None:
    shorter = compared(capsys, "--lengths", "1,1,1,2")
    assert shorter["dualpipe"]["duration"] < compared(capsys)["dualpipe"]["duration"]
    uneven = compared(capsys, "--lengths", "2,3,1")
    assert uneven["zb_h1"]["duration"] == 20 * 6 + 7 * (2 + 4 - 2)
    assert uneven["zb_v"]["bubble_frac"] > 0
    whole = compared(capsys, "--no-split")
    assert whole["dualpipe_v"]["duration"] > 67
    assert whole["zb_h1"]["duration"] == 67, "it is made of the split"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["all", "--lengths", "1,1"], "give F,I,W or F,I,W,FB as whole numbers from 1 to 1,000"),
        (["all", "--lengths", "1,0,1"], "--lengths: is not three or four lengths ('1,0,1')"),
        (["1f1b", "--lengths", "1,1,1"], "--lengths: are of the comparison of all schedules; 1f1b has no use for them"),
        (["zb_v", "--vpp", "3"], "vpp 3, but zb_v has 2 chunks a rank, one each way; use vpp: 2, or leave it out"),
        (["zb_h1", "--no-split"], "zb_h1 is made of weight gradients apart"),
    ],
)
def test_wrong_options_are_one_error(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", *options, "--pp", "4", "--micro-batches", "8"]) == 2
    assert words in capsys.readouterr().err


def test_the_table_names_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "all", "--pp", "8", "--micro-batches", "20"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "zb_v 0.0 % 8 60 63.5" in out
    assert "interleaved_1f1b: needs a multiple of the pipeline ranks (8) as micro-batches, not 20" in out
