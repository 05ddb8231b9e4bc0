"""The table of collectives: of each name the longest, its rate as it is compared, narrower where the terminal is."""

from __future__ import annotations

import pytest

from tests.report.test_console import RESULT, changed, report


def section(width: int) -> list[str]:
    lines = report(width=width).splitlines()
    start = lines.index("Collectives")
    return lines[start + 1 : lines.index("", start)]


def test_of_each_name_the_longest_first_with_the_rate_that_people_compare() -> None:
    header, *rows = section(100)
    assert header.split() == ["GPUs", "nodes", "bytes", "alone", "GB/s", "limit", "known"]
    assert [row.split() for row in rows[:3]] == [
        ["reduce", "scatter", "dense", "256", "32", "11.6", "GB", "74.4", "ms", "156", "scale-up", "transferred"],
        ["combine", "f,", "beside", "compute", "64", "8", "234", "MB", "6.06", "ms", "38.6", "nic", "measured"],
        ["grad", "norm", "2,048", "256", "4.00", "B", "310", "µs", "-", "latency", "transferred"],
    ]  # fmt: skip
    assert "of each name the longest of the step" in rows[3]
    assert "(n-1)/n of the bytes" in " ".join(rows[3:])


@pytest.mark.parametrize(("width", "kept"), [(60, ["GPUs", "bytes", "alone", "GB/s"]), (80, None)])
def test_a_narrow_terminal_drops_columns_not_digits(width: int, kept: list[str] | None) -> None:
    header, first, *_ = section(width)
    assert {"bytes", "alone", "GB/s"} <= set(header.split())
    assert "11.6 GB" in first and "74.4 ms" in first and "156" in first
    assert kept is None or set(kept) <= set(header.split()) | {"limit", "nodes"}


def test_a_step_without_collectives_has_no_such_section() -> None:
    assert "Collectives" not in report(changed(step=RESULT.step.model_copy(update={"collectives": ()})))


def test_names_that_are_not_shown_are_counted() -> None:
    longest = RESULT.step.collectives[0]
    rows = tuple(
        longest.model_copy(update={"name": f"name_{place}", "seconds": 1.0 / (1 + place)}) for place in range(10)
    )
    text = report(changed(step=RESULT.step.model_copy(update={"collectives": rows})), width=120)
    assert "name 7" in text and "name 8" not in text
    assert " · 2 shorter ones with --json" in text
    assert "shorter ones" not in report(width=120)
