"""A saved result is simulated again where this version wrote it, and else says why there is no timeline."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.errors import InconsistentSimulation
from simulator.report import items
from simulator.results.run_result import RunResult
from tests.report.made import small_item

OURS = "1.2.3"


@pytest.fixture(autouse=True)
def released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "package_version", lambda: OURS)


def saved(factor: float = 1.0, **changes: Any) -> RunResult:
    """The small run as a file of this version would hold it, its step `factor` times as long."""
    result = small_item().result
    step = result.step.model_copy(update={"step_s": result.step.step_s * factor})
    return result.model_copy(update={"version": OURS, "step": step, **changes})


def test_a_result_of_this_version_is_simulated_again_and_has_its_timeline() -> None:
    item = items.saved_item(saved())
    assert item.why_no_timeline == ""
    assert item.timeline is not None
    assert item.timeline.step_s == pytest.approx(item.result.step.step_s, rel=1e-9)
    assert items.saved_item(saved(), with_timeline=False).timeline is None


@pytest.mark.parametrize(
    ("factor", "is_same"), [(1 + 1e-10, True), (1 - 1e-10, True), (1 + 2e-9, False), (1 - 2e-9, False)]
)
def test_another_step_than_its_scenario_gives_is_refused(factor: float, is_same: bool) -> None:
    if is_same:
        items.saved_item(saved(factor), with_timeline=False)
        return
    with pytest.raises(InconsistentSimulation, match="simulated again") as caught:
        items.saved_item(saved(factor), with_timeline=False)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "ours", "why"),
    [
        ({"version": "1.2.2"}, OURS, "moesim 1.2.2 wrote it, and this is moesim 1.2.3"),
        ({"version": f"{OURS}.dirty"}, f"{OURS}.dirty", "may have changed since"),
        ({"version": "0.2.0+unknown"}, "0.2.0+unknown", "may have changed since"),
        ({"stack_sha256": "0" * 64}, OURS, "held other measurements"),
        ({"scenario": {"name": "x", "model": "/etc/passwd"}}, OURS, "does not load here"),
    ],
)
def test_a_result_of_another_program_is_taken_as_it_is(
    changes: dict[str, Any], ours: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not(*arguments: object) -> None:
        raise AssertionError("the step was simulated")

    monkeypatch.setattr(items, "package_version", lambda: ours)
    monkeypatch.setattr(items, "prepare", must_not)
    item = items.saved_item(saved(**changes))
    assert item.timeline is None
    assert why in item.why_no_timeline
