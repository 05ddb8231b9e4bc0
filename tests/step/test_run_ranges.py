"""What no input says: its range is that of equal runs, and stating the software takes the unknown one away."""

from __future__ import annotations

from itertools import pairwise
from math import exp, hypot, log

import pytest

from simulator import load_scenario, simulate_step
from simulator.report.facts import interval_words, software_words
from simulator.results.joint import sum_ends
from simulator.results.step_result import RangePart
from simulator.results.widening import as_source
from simulator.scenario.run_ranges import UNKNOWN, all_run_ranges, run_ranges
from tests.laws.runs import changed
from tests.laws.test_power import BUSY

NINETY, OF_MEAN = 1.645, 1.253
"""Standard deviations of 90 % on both sides of a normal law, and one over its mean distance."""


def test_ranges_are_those_of_the_distances_that_their_sources_give() -> None:
    for each in all_run_ranges():
        found = next(word for word in each.source.split() if word.endswith(".9") or "." in word)
        reach = NINETY * OF_MEAN * float(found) / 100.0
        assert (each.low, each.high) == pytest.approx((exp(-reach) - 1, exp(reach) - 1), abs=1e-3)
        assert log(1 + each.high) == pytest.approx(-log(1 + each.low), abs=2e-3)


def test_naming_the_software_narrows_the_interval() -> None:
    """The same switches, with and without the name of who sets them: the step is the same, and one range is gone."""
    named = load_scenario(changed(BUSY, framework="megatron-core@0.9"))
    unnamed = named.model_copy(update={"framework": None})
    stated, unknown = (simulate_step(each).step for each in (named, unnamed))
    assert stated.step_s == unknown.step_s
    assert stated.interval.low > unknown.interval.low and stated.interval.high < unknown.interval.high
    gone = run_ranges(unnamed)[UNKNOWN]
    up = stated.interval.high / stated.step_s - 1.0
    assert unknown.interval.high / stated.step_s - 1.0 == pytest.approx(hypot(up, gone.high), rel=0.15)
    assert UNKNOWN not in run_ranges(named)
    assert "narrows the interval" in software_words(unknown)
    told = software_words(unknown).partition(" to about ")[2].replace("−", "-").replace(" %", "").split(" to ")
    down = stated.interval.low / stated.step_s - 1.0
    assert [float(each) for each in told] == pytest.approx([100.0 * down, 100.0 * up], abs=2.0)
    assert software_words(stated) == ""


def test_a_step_tells_what_its_interval_is_made_of() -> None:
    """The parts' sum is the interval but for what they do together; the greatest stand first, and the words name them."""
    found = simulate_step(load_scenario(BUSY)).step
    assert found.ranges
    assert {UNKNOWN, "run.unrecorded", "gemm", "attention"} <= {part.what for part in found.ranges}
    assert all(first.size >= second.size for first, second in pairwise(found.ranges))
    ends = (found.interval.low / found.step_s - 1.0, found.interval.high / found.step_s - 1.0)
    assert sum_ends(map(as_source, found.ranges)) == pytest.approx(ends, rel=0.08)
    assert interval_words(found).startswith(
        "the interval is mostly: which software runs it, since none is stated, -14.5 % to +17.0 %; what a FLOP"
    )
    untold = found.model_copy(update={"ranges": None})
    assert interval_words(untold) == software_words(untold) == ""
    one = found.model_copy(update={"ranges": (RangePart(what="gemm", low=-0.1, high=0.2),)})
    assert interval_words(one) == "the interval is mostly: GEMM, -10.0 % to +20.0 %"
