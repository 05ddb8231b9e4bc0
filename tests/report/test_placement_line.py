"""The heading says what of the domains is used, paid and idle, and what the step waits for; nothing where all is filled."""

from __future__ import annotations

from simulator.report.facts import placement_line
from simulator.results.placement_result import ExpertGroups, Placement
from tests.report.test_console import RESULT, changed, report

RACKS = Placement(
    gpus_per_domain=64, domain_gpus=72, rule="groups_and_job", num_domains=4, gpus_used=256, gpus_paid=288, gpus_idle=32
)
WAYS = tuple(
    ExpertGroups(groups=groups, ranks_by_domain=parts, is_simulated=parts == (56, 8))
    for groups, parts in ((2, (64,)), (1, (40, 24)), (1, (48, 16)), (1, (56, 8)))
)


def test_a_job_that_fills_its_hosts_has_no_line() -> None:
    assert placement_line(RESULT) == ""
    assert placement_line(changed(placement=None)) == ""


def test_used_paid_and_idle_stand_in_a_line_and_both_hours_in_the_run() -> None:
    hours = RESULT.totals.gpu_hours
    totals = RESULT.totals.model_copy(update={"gpu_hours_paid": hours.times(1.125)})
    text = " ".join(report(changed(placement=RACKS, totals=totals)).split())
    assert "64 of 72 GPUs used of 4 scale-up domains (a multiple of the parallel groups that divides the job)" in text
    assert "288 paid, 32 idle" in text
    assert "GPU-hours with the idle GPUs that are paid for" in text
    assert "GPU-hours with the idle" not in report()


def test_ways_of_lying_and_the_slowest_are_told() -> None:
    line = placement_line(changed(placement=RACKS.model_copy(update={"expert_groups": WAYS, "gpus_per_domain": 72})))
    assert "expert groups lie in 4 ways (2 as 64, 1 as 40 + 24, 1 as 48 + 16, …): the step waits for 56 + 8" in line


def test_a_job_inside_one_domain_is_told_by_its_own_gpus() -> None:
    half = Placement(
        gpus_per_domain=8, domain_gpus=8, rule="groups", num_domains=1, gpus_used=4, gpus_paid=8, gpus_idle=4
    )
    line = placement_line(changed(placement=half))
    assert line == "4 of the 8 GPUs of a scale-up domain used: 8 paid, 4 idle"
