"""Each figure of the report is the one that its label names: worked out by hand from the made-up document."""

from __future__ import annotations

import pytest

from simulator.report import numbers
from simulator.report.layout import shortened
from simulator.results.interval import Interval
from simulator.results.step_result import AssumptionRow, Binding
from tests.report.test_console import RESULT, changed, report

HOURS = RESULT.totals.gpu_hours.value


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def row(text: str, label: str) -> str:
    return next(line for line in lines(text) if line.startswith(label))


def test_exposed_communication_is_a_share_of_the_step() -> None:
    """0.71 s of 20.4 s."""
    assert "exposed communication 710 ms (3.5 %)" in " ".join(lines(report(width=140)))


def test_what_is_below_the_first_categories_is_summed() -> None:
    """Optimizer 0.335 s and kernel gaps 0.215 s: 2.7 % of 20.4 s."""
    assert row(report(width=140), "2 more").startswith("2 more 0.55 2.7 %")


def test_shares_of_the_parts_are_those_of_the_mean_rank() -> None:
    """1.16, 2.0375, 0.5125, 14.4825, 1.8725 and 0.335 s of 20.4 s."""
    assert row(report(width=140), "share") == "share 5.7 % 10.0 % 2.5 % 71.0 % 9.2 % 1.6 % 100.0 %"


def test_each_convention_has_its_own_rate_share_and_work() -> None:
    text = report(width=140)
    assert row(text, "causal") == "causal 377 38.1 % 250 GFLOP"
    assert row(text, "non-causal") == "non-causal 423 42.8 % 281 GFLOP"


def test_the_run_and_its_full_batches_have_wall_clocks_of_their_own() -> None:
    """4,825,214 s are 55.8 days; at full batch 2,730,035 of 2,745,011 GPU-hours, 55.5 days."""
    text = report(width=140)
    assert row(text, "with the ramp").endswith("55.8 d")
    assert row(text, "at full batch").endswith("55.5 d")


def test_a_run_of_two_phases_has_the_tokens_of_both_and_is_no_single_step() -> None:
    first, second = (RESULT.phases[0].model_copy(update={"name": name, "ramp": None}) for name in ("one", "two"))
    assert "29.6 T tokens" in report(changed(phases=(first, second)))
    short = first.model_copy(update={"steps": 1.0, "tokens": 6.3e7})
    assert "one step" not in report(changed(phases=(short, second)))
    assert "no longer run is given" not in report(changed(phases=(short, second)))


def test_the_five_things_that_bind_most_are_shown() -> None:
    seven = tuple(Binding(what=f"limit-{place}", seconds=7.0 - place, why="made up") for place in range(7))
    text = report(changed(step=RESULT.step.model_copy(update={"binding": seven})))
    shown = [place for place in range(7) if f"limit-{place}" in text]
    assert shown == [0, 1, 2, 3, 4]


def effects(*ends: tuple[float, float]) -> tuple[AssumptionRow, ...]:
    """Rows whose ends are these shares of the run's GPU-hours."""
    return tuple(
        AssumptionRow(
            key=f"key-{place}", value=1, low=0, high=2, source="x",
            effect_on_gpu_hours=Interval(low=low * HOURS, high=high * HOURS),
        )
        for place, (low, high) in enumerate(ends)
    )  # fmt: skip


def test_the_strongest_assumption_is_the_one_with_the_farther_end() -> None:
    """-6 to +1 % is wider than 0 to +6.5 %, and moves the hours less far."""
    text = report(changed(assumptions=effects((-0.06, 0.01), (0.0, 0.065))))
    assert text.index("key-1") < text.index("key-0")


def test_eight_assumptions_are_shown_and_the_others_counted() -> None:
    text = report(changed(assumptions=effects(*((0.0, 0.5 - 0.01 * place) for place in range(11)))))
    assert [place for place in range(11) if f"key-{place} " in text] == list(range(8))
    assert "3 more move less" in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (numbers.signed_percent(0.003), "+0.3 %"),
        (numbers.seconds_to_compare(0.25), "0.250 s"),
        (numbers.seconds_to_compare(0.0995), "99.500 ms"),
        (numbers.by_key("attention.extra_flop", 2e9), "2.00 GFLOP"),
        (shortened("abcdefgh", 5), "abcd…"),
        (shortened("abcde", 5), "abcde"),
    ],
)
def test_a_number_s_text(found: str, expected: str) -> None:
    assert found == expected
