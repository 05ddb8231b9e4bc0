"""The published run stays predicted as well as docs/accuracy.md says; an error that grows fails here."""

from __future__ import annotations

import csv
from collections.abc import Mapping

import pytest

from simulator.cli.validate import ACCURACY
from validation import lock
from validation.case import case_names, load_case
from validation.compare import Row, compare_case, summary

TRACE, NOTRACE = "h800-deepseek-2024", "h800-notrace"


@pytest.fixture(scope="module")
def rows() -> Mapping[tuple[str, str], Row]:
    found = compare_case(load_case("deepseek-v3"))
    return {(row.stack, row.quantity): row for row in found}


@pytest.mark.parametrize(
    ("stack", "quantity", "most"),
    [
        (TRACE, "step.step_s", 0.08),
        (NOTRACE, "step.step_s", 0.05),
        (TRACE, "step.parts.edge.forward_s", 0.12),
        (TRACE, "step.parts.edge.backward_s", 0.12),
        (TRACE, "step.parts.edge.overlapped_f_b_s", 0.13),
        (TRACE, "step.parts.middle.overlapped_f_b_s", 0.04),
        (TRACE, "step.parts.edge.weight_s", 0.15),
        (TRACE, "step.parts.edge.bubble_s", 0.32),
        (TRACE, "trace.pair_s", 0.04),
        (NOTRACE, "trace.pair_s", 0.10),
        (NOTRACE, "trace.attn_f_s", 0.15),
        (NOTRACE, "trace.mlp_f_s", 0.15),
        (NOTRACE, "trace.mlp_b_s", 0.15),
        (NOTRACE, "trace.attn_b_s", 0.15),
        (TRACE, "steady_state.gpu_hours", 0.08),
    ],
)
def test_errors_stay_within(rows: Mapping[tuple[str, str], Row], stack: str, quantity: str, most: float) -> None:
    assert abs(rows[stack, quantity].error_frac) <= most


def test_counts_are_exact(rows: Mapping[tuple[str, str], Row]) -> None:
    """Parameters of the published architecture, counted by hand from its config; FLOP by the recount of its FLOP table."""
    assert rows[TRACE, "model.num_parameters"].predicted == 671_026_419_200
    assert rows[TRACE, "model.num_mtp_parameters"].predicted == pytest.approx(11.61e9, rel=1e-3)
    assert rows[TRACE, "step.model_flop_per_token.causal"].predicted == pytest.approx(250.45e9, rel=1e-4)


def test_published_step_lies_in_both_intervals(rows: Mapping[tuple[str, str], Row]) -> None:
    for stack in (TRACE, NOTRACE):
        row = rows[stack, "step.step_s"]
        assert row.low <= row.measured <= row.high


def test_committed_accuracy_table_is_current(rows: Mapping[tuple[str, str], Row]) -> None:
    """`moesim validate --write` was run after the last change of a prediction."""
    with ACCURACY.open(encoding="utf-8") as file:
        committed = [entry for entry in csv.DictReader(file) if entry["group"] == "case"]
    others = [row for name in case_names() if name != "deepseek-v3" for row in compare_case(load_case(name))]
    found = {(row.case_id, row.stack, row.quantity): row for row in (*rows.values(), *others)}
    assert len(committed) == len(found)
    for entry in committed:
        row = found[entry["case"], entry["stack"], entry["quantity"]]
        for key in ("predicted", "low", "high", "measured"):
            assert float(entry[key]) == pytest.approx(getattr(row, key), rel=1e-4), (row.quantity, key)
        assert float(entry["error_frac"]) == pytest.approx(row.error_frac, rel=1e-3, abs=1e-5), row.quantity
        assert (entry["model"], entry["gpu"], entry["note"]) == (row.group.model, row.group.gpu, row.note)


def test_every_range_holds_its_prediction(rows: Mapping[tuple[str, str], Row]) -> None:
    for row in rows.values():
        assert row.low <= row.predicted <= row.high, row.quantity
        assert row.low < row.high or row.quantity.startswith("model.") or "flop_per_token" in row.quantity


def test_summary_counts_what_it_says(rows: Mapping[tuple[str, str], Row]) -> None:
    stats = summary(list(rows.values()))
    assert stats["n"] == len(rows)
    assert 0 <= stats["median"] <= stats["p90"] <= 1
    found = {entry["stack"]: entry["step_error_frac"] for entry in stats["by_group"]}
    assert found == {stack: rows[stack, "step.step_s"].error_frac for stack in (TRACE, NOTRACE)}
    assert len(stats["by_group"]) == 2


def test_assumptions_are_locked() -> None:
    """A changed assumption needs an entry of validation/assumptions.lock with its reason; the first one stays."""
    assert lock.changed() == []
    assert lock.entries()[0]["reason"].startswith("assumptions, rates and layout as stated before any comparison")


def test_a_file_that_differs_from_the_last_entry_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its text changed or it is there for the first time."""
    found = lock.current()
    monkeypatch.setattr(lock, "current", lambda: {**found, lock.LOCKED[0]: "0" * 64, "new.yaml": "1" * 64})
    assert lock.changed() == [lock.LOCKED[0], "new.yaml"]


def test_blind_prediction_stays_published() -> None:
    text = (lock.ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert "| 2026-11-24 | **first, blind** | 18.21 s | −8.6 % | 18.48 s | −7.3 % |" in text


def test_every_case_loads() -> None:
    for name in case_names():
        assert load_case(name).case_id == name
