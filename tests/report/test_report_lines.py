"""Lines of the report, word by word, of the made-up document: each figure stands under its own name."""

from __future__ import annotations

import pytest

from simulator.report import numbers
from simulator.report.facts import fullest_rank
from simulator.results.run_result import GpuHourPrice
from simulator.results.step_result import AssumptionRow, Basis, RankTimes
from tests.report.test_console import RESULT, changed, report
from tests.report.test_report_figures import lines, row


def test_the_heading_says_who_and_where() -> None:
    text = " ".join(lines(report(width=140))).partition(" stack ")[0]
    for words in (
        "671 B parameters, 37.6 B active, 11.6 B in MTP modules",
        "2,048 GPUs in h800-x8",
        " · pp16 dp128 ep64 dualpipe · fp8-blockwise 15",
        " 15,360 × 4,096 tokens a step, 120 micro-batches of 1 ·",
    ):
        assert words in text
    plan: dict[str, object] = {
        "recompute": {"granularity": "full"},
        "training": RESULT.scenario["training"] | {"global_batch_size": 384, "micro_batch_size": 3},
    }
    text = " ".join(lines(report(changed(scenario=RESULT.scenario | plan), width=140))).partition(" stack ")[0]
    assert " dualpipe · fp8-blockwise · full recompute 384" in text
    assert " 384 × 4,096 tokens a step, 1 micro-batch of 3 ·" in text


def test_the_fullest_rank_is_filled_by_what_it_holds() -> None:
    assert row(report(width=140), "weights 1") == (
        "weights 14.0 GB · gradients 10.0 GB · optimizer 6.00 GB · activations 30.5 GB · buffers 6.00 GB"
    )


def test_the_run_s_table_has_hours_money_and_days_each_with_its_range() -> None:
    text = report(width=140)
    assert row(text, "14.8 T tokens").split(" tokens ")[1] == "GPU-hours 90 % interval USD 90 % interval wall clock"
    assert row(text, "at full batch") == "at full batch 2.73 M 5.46 M 55.5 d"
    assert row(text, "with the ramp") == "with the ramp 2.75 M 2.55 to 3.05 M 5.49 M 5.11 to 6.09 M 55.8 d"


def test_one_phase_with_a_ramp_is_enough() -> None:
    second = RESULT.phases[0].model_copy(update={"name": "two", "ramp": None})
    assert "with the ramp" in report(changed(phases=(*RESULT.phases, second)))
    assert "whole run" in report(changed(phases=(second,)))


def test_the_ramp_is_told_with_its_own_steps_sizes_and_error() -> None:
    assert row(report(width=140), "pretrain: ") == (
        "pretrain: batch 3,072 to 15,360 over 469 B tokens, 14,991 steps; 5 batch sizes simulated, the others interpolated "
        "within 0.4 %"
    )


def test_the_price_is_the_one_that_was_taken_and_its_sheet_is_named() -> None:
    price = GpuHourPrice(usd_per_gpu_hour=2.0, low=1.5, high=3.0, source="x")
    scenario = RESULT.scenario | {"prices": {"usd_per_gpu_hour": None, "sheet": "market-of-may"}}
    text = " ".join(lines(report(changed(price=price, scenario=scenario), width=140)))
    assert "at 2.00 USD per GPU-hour (prices of market-of-may)" in text


def test_four_of_the_untold_assumptions_are_named() -> None:
    rows = tuple(AssumptionRow(key=f"key-{place}", value=1, source="x") for place in range(6))
    assert "6 have no computed effect (key-0, key-1, key-2, key-3, …)" in " ".join(
        lines(report(changed(assumptions=rows), width=140))
    )


def test_every_basis_is_shown_with_its_words() -> None:
    basis = Basis(measured=0.9, interpolated=0.04, extrapolated=0.03, transferred=0.02, assumed=0.01)
    text = report(changed(basis=basis), width=140)
    for label, words in (
        ("measured 90.0 %", "this shape, on this GPU"), ("interpolated 4.0 %", "between measured shapes"),
        ("extrapolated 3.0 %", "beyond the measured shapes"), ("transferred 2.0 %", "from other GPUs"),
        ("assumed 1.0 %", "a stated guess"),
    ):  # fmt: skip
        assert row(text, label).startswith(f"{label} {words}")


def test_figures_stand_under_their_headers_and_are_counted_from_one() -> None:
    text = report(width=140)
    assert "for 62.9 M tokens; 90 % interval in brackets" in " ".join(lines(text))
    assert row(text, "attention counted as") == (
        "attention counted as TFLOP/s a GPU MFU (dense BF16 peak) model FLOP a token"
    )
    assert row(text, "1 7.90 s").startswith("1 7.90 s FP8 grouped GEMMs")
    assert "expert_gemm: the routed experts' matrix products" not in " ".join(lines(text)), "no such category here"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (numbers.by_key("routing.skew_cv", 0.87654), "0.8765"),
        (numbers.seconds(7200.0), "2.00 h"),
        (numbers.amount_of_bytes(3e18), "3.00 EB"),
        (numbers.amount_of_bytes(3e15), "3.00 PB"),
        (numbers.seconds_to_compare(19.1234), "19.123 s"),
    ],
)
def test_a_number_s_text(found: str, expected: str) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("bubbles", "expected"), [((2.0, 2.0), ""), ((2.0, 3.0), ""), ((5.0, 1.0), "rank 1 works 1.29 times")]
)
def test_the_rank_that_the_others_wait_for_is_told_where_work_is_uneven(
    bubbles: tuple[float, float], expected: str
) -> None:
    """Of a step of 10 s: work is what is neither bubble nor optimizer."""
    ranks = tuple(
        RankTimes(
            pp_rank=rank, forward_s=4.0, backward_s=6.0 - bubble, weight_s=0.0, overlapped_f_b_s=0.0, bubble_s=bubble,
            optimizer_s=0.0,
        )
        for rank, bubble in enumerate(bubbles)
    )  # fmt: skip
    times = RESULT.step.model_copy(update={"step_s": 10.0, "by_rank": ranks})
    assert expected in fullest_rank(times)
    assert bool(expected) == ("layers_per_stage moves layers" in fullest_rank(times))
