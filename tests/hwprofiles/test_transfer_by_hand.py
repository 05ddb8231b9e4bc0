"""What a transfer stack makes of a table small enough to reckon by hand: means, ranges, bases and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hwprofiles import transfer
from hwprofiles.catalog import load_gpu
from hwprofiles.efficiencies import Efficiencies
from hwprofiles.stack_records import Parameter
from hwprofiles.transfer import Made, build_stack

SOURCES = {
    "runs": {"kind": "measurement", "where": "runs", "date": "2025-05"},
    "guess": {"kind": "assumed", "where": "a guess"},
}


def built(
    monkeypatch: pytest.MonkeyPatch, gpu: str, *groups: dict[str, Any], made: Made = "transfer"
) -> Mapping[str, Parameter]:
    """Parameters of the GPU's stack from these groups; a foreign GEMM's residual widens to 0.8 and 1.5
    times, one of another GPU of the family to 0.95 and 1.2 at least."""
    gemm = {"prefix": "gemm.bf16", "gpu": "h100", "source": "runs", "values": {"eta": (0.9, 0.9, 0.9)}}
    table = Efficiencies.model_validate({
        "families": ("ampere", "hopper", "blackwell"), "sources": SOURCES,
        "other_gpu_residual": (1.0, 0.95, 1.2), "other_family_residual": (1.0, 0.8, 1.5),
        "groups": (gemm, *({"source": "runs", **group} for group in groups)),
    })  # fmt: skip
    monkeypatch.setattr(transfer, "load_efficiencies", lambda: table)
    return build_stack(made, gpu).parameters


def ends(parameter: Parameter) -> tuple[float, float, float]:
    return parameter.value, parameter.low, parameter.high


H100 = {"prefix": "memory", "gpu": "h100", "values": {"rmsnorm": (0.9, 0.8, 0.95)}}
H200 = {"prefix": "memory", "gpu": "h200", "values": {"rmsnorm": (0.4, 0.3, 0.5)}}
B200 = {"prefix": "memory", "gpu": "b200", "values": {"rmsnorm": (0.6, 0.2, 0.99)}}


def test_shares_of_the_own_family_have_their_geometric_mean_and_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """√(0.9 · 0.4) = 0.6, from the lowest low to the highest high of the family, whatever others reach."""
    found = built(monkeypatch, "h800", H100, H200, B200)["memory.rmsnorm"]
    assert ends(found) == pytest.approx((0.6, 0.3, 0.95))
    assert (found.basis, found.unit) == ("transferred", "1")


def test_without_the_own_family_the_range_spans_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = built(monkeypatch, "a100", H100, H200, B200)["memory.rmsnorm"]
    assert ends(found) == pytest.approx((0.6, 0.2, 0.99))


def test_the_own_measurement_is_one_of_its_family_in_a_transfer_stack_and_alone_in_a_public_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pooled = built(monkeypatch, "h200", H100, H200)["memory.rmsnorm"]
    assert ends(pooled) == pytest.approx((0.6, 0.3, 0.95)) and pooled.basis == "transferred"
    own = built(monkeypatch, "h200", H100, H200, made="public")["memory.rmsnorm"]
    assert ends(own) == pytest.approx((0.4, 0.3, 0.5)) and own.basis == "interpolated"
    assert ends(built(monkeypatch, "h200", H100, made="public")["memory.rmsnorm"]) == ends(
        built(monkeypatch, "h200", H100)["memory.rmsnorm"]
    )


def test_a_chip_of_equal_datasheet_counts_as_the_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = built(monkeypatch, "h800", H100, H200, made="public")["memory.rmsnorm"]
    assert ends(own) == pytest.approx((0.9, 0.8, 0.95)) and own.basis == "interpolated"


def test_what_one_family_alone_may_use_serves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {**H200, "only_families": ("hopper",)}
    assert "memory.rmsnorm" not in built(monkeypatch, "a100", own)
    assert ends(built(monkeypatch, "h800", own)["memory.rmsnorm"]) == (0.4, 0.3, 0.5)


def test_constants_of_a_fit_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the fits of a family that of the nearest datasheet; a mean of two would be the fit of no kernel."""
    other = {"prefix": "gemm.bf16", "gpu": "h200", "values": {"eta": (0.4, 0.4, 0.4)}}
    for made in ("public", "transfer"):
        assert ends(built(monkeypatch, "h800", other, made=made)["gemm.bf16.eta"]) == (0.9, 0.9, 0.9)
        assert ends(built(monkeypatch, "h200", other, made=made)["gemm.bf16.eta"]) == (0.4, 0.4, 0.4)
        assert ends(built(monkeypatch, "gb200", other, made=made)["gemm.bf16.eta"]) == (0.4, 0.4, 0.4), "HBM: 8 TB/s"
    b200 = {"prefix": "gemm.bf16", "gpu": "b200", "values": {"eta": (0.7, 0.7, 0.7)}}
    assert ends(built(monkeypatch, "gb200", other, b200)["gemm.bf16.eta"]) == (0.7, 0.7, 0.7), "its family first"


def test_a_pass_of_another_chip_is_the_own_gemm_times_its_ratio_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The H100's weight gradient has 2/3 of its forward's 0.9: 2/3 of the B200's 0.6. Shares stop at 1, residuals stay."""
    own = {"prefix": "gemm.bf16", "gpu": "b200", "values": {"eta": (0.6, 0.5, 0.7)}}
    values = {"eta": (0.6, 0.54, 0.66), "residual": (1.0, 0.9, 1.1)}
    special = {"prefix": "gemm.bf16.wgrad", "gpu": "h100", "values": values}
    found = built(monkeypatch, "b200", own, special)
    assert ends(found["gemm.bf16.wgrad.eta"]) == pytest.approx((0.4, 0.36, 0.44))
    assert "gemm.bf16 of b200 times the ratio of wgrad to it on h100" in found["gemm.bf16.wgrad.eta"].source.note
    assert found["gemm.bf16.wgrad.eta"].basis == "transferred" and found["gemm.bf16.eta"].basis == "interpolated"
    assert found["gemm.bf16.wgrad.residual"].value == 1.0
    assert ends(built(monkeypatch, "h800", own, special)["gemm.bf16.wgrad.eta"]) == (0.6, 0.54, 0.66)
    fast = {**special, "values": {**values, "eta": (1.8, 1.8, 1.8)}}
    assert ends(built(monkeypatch, "b200", own, fast)["gemm.bf16.wgrad.eta"]) == (1.0, 1.0, 1.0)


def test_a_carried_pass_is_of_the_state_of_the_own_gemm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its residual too, which tells a kernel's cost the state: a ratio is of no state, what it multiplies is."""
    values = {"eta": (0.6, 0.5, 0.7), "residual": (1.0, 0.9, 1.1), "bm_max": (256.0, 256.0, 256.0)}
    state = {"h100": "first_launches", "b200": "benchmark_loop"}
    plain = [{"prefix": "gemm.bf16", "gpu": gpu, "state": state[gpu], "values": values} for gpu in state]
    special = {"prefix": "gemm.bf16.wgrad", "gpu": "h100", "state": state["h100"], "values": values}
    for gpu, own in (("b200", "benchmark_loop"), ("h800", "first_launches")):
        found = built(monkeypatch, gpu, *plain, special)
        assert {found[f"gemm.bf16.wgrad.{name}"].state for name in values} == {own}, gpu


@pytest.mark.parametrize("rate, is_memory_s", [(0.001, True), (0.0016, True), (0.0018, False)])
def test_weight_gradients_that_memory_adds_up_go_with_its_bandwidth(
    monkeypatch: pytest.MonkeyPatch, rate: float, is_memory_s: bool
) -> None:
    """An H100's memory moves 3.35 / 989 = 0.0034 bytes a FLOP, two for each that is stored; more of them stay in the cache, and
    go with the store rate of the own GEMM (here twice the H100's).
    """
    name, exact = "st_bytes_per_flop", (0.005, 0.005, 0.005)
    plain = [{"prefix": "gemm.bf16", "gpu": gpu, "values": {name: exact, "eta": exact}} for gpu in ("h100", "a100")]
    plain[1]["values"] = {name: (0.01, 0.01, 0.01), "eta": exact}
    special = {
        "prefix": "gemm.bf16.wgrad",
        "gpu": "h100",
        "values": {name: (rate, 0.5 * rate, 2.0 * rate), "eta": exact},
    }
    a100, h100 = load_gpu("a100"), load_gpu("h100")
    found = built(monkeypatch, "a100", *plain, special)["gemm.bf16.wgrad.st_bytes_per_s"]
    share = h100.peak_flop_per_s["bf16"] / h100.num_sms * rate / (h100.hbm_bytes_per_s / h100.num_sms)
    wanted = (
        share * a100.hbm_bytes_per_s / a100.num_sms
        if is_memory_s
        else 2.0 * rate * a100.peak_flop_per_s["bf16"] / a100.num_sms
    )
    assert ends(found) == pytest.approx((wanted, 0.5 * wanted, 2.0 * wanted))


def test_of_two_fits_on_equal_chips_the_first_in_the_file_serves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    second = {"prefix": "gemm.bf16", "gpu": "h800", "values": {"eta": (0.5, 0.5, 0.5)}}
    for gpu in ("h100", "h800"):
        assert ends(built(monkeypatch, gpu, second, made="public")["gemm.bf16.eta"]) == (0.9, 0.9, 0.9)


def test_a_foreign_gemm_is_wider_by_the_table_s_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    residual = {"prefix": "gemm.bf16", "gpu": "h100", "values": {"residual": (1.0, 0.9, 1.2)}}
    assert ends(built(monkeypatch, "h800", residual)["gemm.bf16.residual"]) == (1.0, 0.9, 1.2)
    assert ends(built(monkeypatch, "a100", residual)["gemm.bf16.residual"]) == pytest.approx((1.0, 0.72, 1.8))


def test_bytes_a_flop_become_bytes_a_second_of_one_sm(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = load_gpu("h800")
    rates = {"prefix": "gemm.bf16", "gpu": "h100", "values": {"l2_bytes_per_flop": (0.02, 0.01, 0.04)}}
    found = built(monkeypatch, "h800", rates)["gemm.bf16.l2_bytes_per_s"]
    per_sm = gpu.peak_flop_per_s["bf16"] / gpu.num_sms
    assert ends(found) == pytest.approx((0.02 * per_sm, 0.01 * per_sm, 0.04 * per_sm))
    assert found.unit == "bytes/s"


@pytest.mark.parametrize(
    ("key", "unit"),
    [("all_to_all.sm_cost_dispatch", "s*SM/byte"), ("ring.base_s", "s"), ("attention.bf16.fwd.c_tokens", "tokens"),
     ("overlap.comm_sms", "SMs"), ("link.nic.ring", "1")],
)  # fmt: skip
def test_a_key_s_end_tells_its_unit_and_a_guess_stays_one(monkeypatch: pytest.MonkeyPatch, key: str, unit: str) -> None:
    prefix, _, name = key.rpartition(".")
    bound = {"prefix": prefix, "source": "guess", "values": {name: (0.5, 0.4, 0.6)}}
    found = built(monkeypatch, "h800", bound)[key]
    assert (found.unit, found.basis, ends(found)) == (unit, "assumed", (0.5, 0.4, 0.6))


def test_of_two_guesses_the_mean_is_taken_where_nobody_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses = [
        {"prefix": "link.nic", "source": "guess", "values": {"ring": (value, value, value)}} for value in (0.4, 0.9)
    ]
    assert ends(built(monkeypatch, "h800", *guesses)["link.nic.ring"]) == pytest.approx((0.6, 0.4, 0.9))
    measured = {"prefix": "link.nic", "gpu": "h100", "values": {"ring": (0.7, 0.7, 0.7)}}
    assert ends(built(monkeypatch, "h800", *guesses, measured)["link.nic.ring"]) == (0.7, 0.7, 0.7)


def test_a_residual_of_another_gpu_of_the_family_is_at_least_as_wide_as_such_transfers_err(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of an H200 0.97 to 1.1 at home; an A100's wider one stays as it was, times 0.8 and 1.5."""
    near = {"prefix": "gemm.bf16", "gpu": "h200", "values": {"eta": (0.9, 0.9, 0.9), "residual": (1.0, 0.97, 1.1)}}
    assert ends(built(monkeypatch, "h200", near, made="public")["gemm.bf16.residual"]) == (1.0, 0.97, 1.1)
    assert ends(built(monkeypatch, "h20", near)["gemm.bf16.residual"]) == (1.0, 0.95, 1.2)
    wide = {**near, "values": {**near["values"], "residual": (1.0, 0.9, 1.3)}}
    assert ends(built(monkeypatch, "h20", wide)["gemm.bf16.residual"]) == (1.0, 0.9, 1.3)
