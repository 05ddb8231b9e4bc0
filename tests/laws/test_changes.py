"""Laws of two simulations of one drawn scenario: what a single change may do to a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.results.document import to_document
from simulator.run.training_run import simulate_run
from tests.laws.runs import ROUNDING, Run, changed, simulate, unexplained
from tests.laws.scenarios import LAW, Document, scenarios

NEVER_LONGER_WITHOUT = (
    "pp_transfer", "zero_collectives", "imbalance", "kernel_gaps", "notify_floor", "sm_partition",
    "tp_collectives", "link_sharing", "host_stream",
)  # fmt: skip
"""Mechanisms that only add time to operators of a fixed order: without one, no operator takes longer.

Not so the others. node_limited_dispatch saves traffic: without it there is more. stage_imbalance: without it every stage is
the median one, which may do more than the mean. batch_ramp is no part of a step. speed_spread costs time on average only
(test_expectations.py).
"""


def without(document: Mapping[str, Any], mechanism: str) -> Run:
    return simulate(changed(document, mechanisms={mechanism: False}))


@pytest.mark.slow
@settings(LAW, max_examples=8)
@given(scenarios())
def test_a_mechanism_switched_off_is_never_longer(document: Document) -> None:
    """Draw by draw: the random loads are the same. GPUs are of one speed, else a heavy load may meet a fast one by chance."""
    document = changed(document, device={"speed_cv": 0.0})
    whole = simulate(document)
    for mechanism in NEVER_LONGER_WITHOUT:
        if mechanism == "imbalance" and document["moe"].get("capacity_factor") is not None:
            continue  # uneven loads are cut at the capacity: even ones keep more rows
        lighter = without(document, mechanism)
        assert (lighter.outcome.step_s <= whole.outcome.step_s * (1 + ROUNDING)).all(), mechanism
        assert lighter.outcome.even_s <= whole.outcome.even_s * (1 + ROUNDING), mechanism


@pytest.mark.slow
@settings(LAW, max_examples=6)
@given(scenarios())
def test_a_name_changes_itself_and_the_hash(document: Document) -> None:
    one, other = (to_document(simulate_run(load_scenario(d))) for d in (document, changed(document, name="other")))
    assert one.pop("scenario_sha256") != other.pop("scenario_sha256")
    assert (one["scenario"].pop("name"), other["scenario"].pop("name")) == ("drawn", "other")
    assert one == other


@pytest.mark.slow
@settings(LAW, max_examples=6)
@given(scenarios(), st.sampled_from([2.0, 3.0, 0.1]))
def test_cost_is_proportional_to_the_price_and_nothing_else_changes(document: Document, factor: float) -> None:
    """To the micro-dollar in which money is counted."""
    priced = changed(document, prices={"usd_per_gpu_hour": 2.0 * factor})
    one, other = (simulate_run(load_scenario(each), simulate=unexplained) for each in (document, priced))
    assert other.step == one.step
    assert other.totals.gpu_hours == one.totals.gpu_hours
    assert one.totals.cost_usd is not None and other.totals.cost_usd is not None
    for end in ("value", "low", "high"):
        expected = factor * getattr(one.totals.cost_usd, end)
        assert getattr(other.totals.cost_usd, end) == pytest.approx(expected, rel=1e-12, abs=1e-6 * (1 + factor))
