"""Pairs of rows that differ in one recorded thing: which count, what differs, and whose sign is right."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.validation.instrument.made_up import run
from tests.validation.test_statable import LLAMA, MIXTRAL
from validation.instrument.outcome import Outcome
from validation.instrument.pairs import pairs, pairs_summary
from validation.instrument.recorded import COLUMNS, of_row, thing
from validation.published.row import Row
from validation.published.state import state

BASE = {
    "model": "m", "gpu": "H100", "n_gpus": "64", "tp": "1", "pp": "2", "mbs": "1", "gbs": "64", "seq": "4096",
    "precision": "bf16",
}  # fmt: skip


def row(name: str, measured: float, predicted: float, cells: Mapping[str, str], release: str = "f@1") -> Outcome:
    recorded = {key: text for key, text in (BASE | dict(cells)).items() if text}
    return run(name, predicted, measured=measured, source="S", release=release, recorded=recorded)


def changes(
    first: Mapping[str, str], second: Mapping[str, str], release: str = "f@1", measured: float = 2.0
) -> list[str]:
    """What the pair differs in, of steps of 1 s and `measured`; nothing where it does not count."""
    return [pair.change for pair in pairs([row("a", 1.0, 1.0, first), row("b", measured, 1.5, second, release)])]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {"precision": "fp8-tensor"}, ["precision"]),
        ({}, {"precision": "fp8-tensor", "precision.scaling": "current"}, ["precision"]),
        ({}, {"pp": "4", "tp": "2", "schedule": "1F1B"}, []),
        ({"schedule": "none"}, {"pp": "4", "tp": "2", "schedule": "1F1B"}, ["layout"]),
        ({}, {"gpu": "H200"}, ["GPU"]),
        ({}, {"gpu": "H200", "precision": "fp8-tensor"}, []),
        ({}, {"model": "n"}, []),
        ({}, {}, []),
        ({}, {"mbs": ""}, []),
        ({}, {"gbs": "128"}, ["batch"]),
        ({}, {"mbs": "2", "gbs": "128"}, ["micro-batch"]),
        ({}, {"mbs": "2", "gbs": "64"}, ["micro-batch"]),
        ({}, {"mbs": "2", "gbs": "256"}, []),
        ({}, {"n_gpus": "128", "gbs": "128"}, ["number of GPUs"]),
        ({}, {"seq": "8192", "gbs": "32"}, ["sequence"]),
        ({}, {"seq": "8192", "gbs": "128"}, []),
        ({}, {"dispatcher": "deepep"}, ["dispatcher"]),
        ({"graph_scope": "none", "dispatcher": "alltoall"}, {"graph_scope": "full_iteration"}, ["graph"]),
        ({"recompute": "none"}, {"recompute": "full"}, ["recompute"]),
    ],
)
def test_one_thing_is_a_pair(first: dict[str, str], second: dict[str, str], expected: list[str]) -> None:
    assert changes(first, second) == expected


def test_across_releases_what_one_alone_notes_is_no_difference() -> None:
    assert changes({}, {"dispatcher": "deepep"}, release="f@2") == []
    assert changes({}, {"moe.balance": "forced", "gpu": "H200"}, release="f@2") == ["GPU"]
    assert changes({}, {"dispatcher": "deepep", "gpu": "H200"}) == ["GPU"]


@pytest.mark.parametrize("name", ["graph_scope", "host.cuda_graph", "dispatcher", "moe.dispatcher", "overlap"])
def test_across_releases_how_it_was_run_has_to_be_told_of_both_or_neither(name: str) -> None:
    other = {"gpu": "H200"}
    assert changes({}, other | {name: "none"}, release="f@2") == []
    assert changes({name: "none"}, other | {name: "none"}, release="f@2") == ["GPU"]


@pytest.mark.parametrize(
    ("measured", "within", "across"), [(1.02, 0, 0), (1.05, 1, 0), (1.15, 1, 1), (0.98, 0, 0), (0.8, 1, 1)]
)
def test_small_changes_do_not_count(measured: float, within: int, across: int) -> None:
    other = {"gpu": "H200"}
    assert len(changes({}, other, measured=measured)) == within
    assert len(changes({}, other, release="f@2", measured=measured)) == across


def test_signs_shares_and_what_is_wrong() -> None:
    """B is predicted slower, as measured; C faster, and was slower; D as fast, which is no right sign."""
    rows = [
        row("A", 1.0, 1.0, {}), row("B", 2.0, 1.1, {"mbs": "2"}), row("C", 1.25, 0.5, {"gpu": "H200"}),
        row("D", 1.5, 1.0, {"precision": "fp8-tensor"}),
    ]  # fmt: skip
    found = pairs_summary(rows)
    assert (found["n"], found["right"]) == (3, pytest.approx(1 / 3))
    assert [(each["scope"], each["n"]) for each in found["by_scope"]] == [("within", 3), ("across", 0)]
    assert found["by_scope"][1]["right"] is None
    assert {each["change"]: each["right"] for each in found["by_change"]} == {
        "GPU": 0.0,
        "micro-batch": 1.0,
        "precision": 0.0,
    }
    assert [(each["first"], each["second"]) for each in found["wrong"]] == [("A", "D"), ("A", "C")]
    told = found["wrong"][1]
    assert (told["change"], told["from"], told["to"]) == ("GPU", "H100", "H200")
    assert told["measured_change_frac"] == pytest.approx(-0.2)
    assert told["predicted_change_frac"] == pytest.approx(1.0)


def recorded(cells: Mapping[str, str]) -> dict[str, str]:
    given = Row(dict(cells))
    return of_row(given, state(given))


def test_a_row_records_its_columns_and_what_its_notes_give() -> None:
    found = recorded(LLAMA)
    assert {found[name] for name in ("vpp", "cp", "ep")} == {"1"}
    assert found["precision"] == "bf16"
    assert "dp" not in found
    assert set(found) <= set(COLUMNS), "nothing of a plain row stands in its notes"
    told = recorded(MIXTRAL | {"notes": "force-balanced routing; DeepEP"})
    assert told["moe.balance"] == "forced"
    assert "deepep" in (told.get("dispatcher"), told.get("moe.dispatcher"))
    assert recorded(LLAMA | {"mbs": "1.0"}) == recorded(LLAMA | {"mbs": "1"})


def test_things_are_those_of_columns_and_keys() -> None:
    assert {thing("tp"), thing("schedule"), thing("parallel.zero_stage")} == {"layout"}
    assert thing("parallel.overlap.tp") == "overlap"
    assert thing("precision.scaling") == "precision"
    assert thing("host.cuda_graph") == thing("graph_scope") == "graph"
    assert thing("head.cross_entropy") == "head.cross_entropy"
