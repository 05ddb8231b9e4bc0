"""Law: the program that loads a GPU for minutes tells each load's blocks apart, and when SMs are held."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from hwprofiles.calibration import steady_power
from hwprofiles.calibration.nvml import PowerReading
from hwprofiles.calibration.steady_power import Sampler, measure

PASS_S, TIMES = 0.0005, (0.0003, 0.00015, 0.00005)


class Gpu:
    """Executes one pass after the other, each in PASS_S."""

    free_s = 0.0

    def launch(self, count: int) -> Callable[[], tuple[float, float, float]]:
        self.free_s = max(self.free_s, time.monotonic()) + count * PASS_S
        end_s = self.free_s

        def wait() -> tuple[float, float, float]:
            time.sleep(max(0.0, end_s - time.monotonic()))
            return TIMES

        return wait


class Holder:
    """Notes when SMs are held."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


def test_loads_follow_one_another_and_bursts_are_four_times_their_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady_power, "REST_S", 0.001)
    monkeypatch.setattr(steady_power, "IDLE_S", (0.004,))
    holder, begin = Holder(), time.monotonic()
    loads = list(measure(Gpu().launch, holder, 0.3, begin))
    assert [each["load"] for each in loads] == ["full", "beside", "idle_0.004"]
    assert holder.calls == ["start", "stop"]
    for before, after in pairwise(loads):
        assert before["from_s"] < before["to_s"] < after["from_s"]
    for each in loads:
        assert {(block["gemm_s"], block["attention_s"], block["memory_s"]) for block in each["blocks"]} == {TIMES}
        assert all(block["load"] == each["load"] for block in each["blocks"])
    assert [block["begin_s"] for block in loads[0]["blocks"]] == [block["burst_s"] for block in loads[0]["blocks"]]
    bursts = [block["burst_s"] for block in loads[2]["blocks"]]
    assert max(bursts) < 4 * 0.004
    assert sum(after < before for before, after in pairwise(bursts)) >= 2


def test_held_sms_are_let_go_where_a_load_fails() -> None:
    holder = Holder()

    def broken(count: int) -> Callable[[], tuple[float, float, float]]:
        if holder.calls:
            raise RuntimeError("out of memory")
        return lambda: TIMES

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steady_power, "REST_S", 0.0)
        with pytest.raises(RuntimeError, match="out of memory"):
            list(measure(broken, holder, 0.01, time.monotonic()))
    assert holder.calls == ["start", "stop"]


def test_the_sampler_reads_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady_power, "READ_S", 0.001)
    sampler = Sampler(lambda: PowerReading(5.0, 1.5e9, 60.0), time.monotonic())
    time.sleep(0.02)
    samples = sampler.stop()
    assert len(samples) > 2
    assert {(each.energy_j, each.sm_clock_hz, each.temperature_c) for each in samples} == {(5.0, 1.5e9, 60.0)}
    assert [each.at_s for each in samples] == sorted(each.at_s for each in samples)
