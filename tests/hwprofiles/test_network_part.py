"""Messages between GPUs as a calibration measures them: two processes here, made-up rings back, processes that die or hang."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from hwprofiles.calibration.machine import network_fit
from hwprofiles.calibration.machine.network_fit import OWN_STEP, link_rate, parameters, uneven_errors
from hwprofiles.calibration.ring_fit import EXCHANGE, RingFit, RingPoint, predict
from hwprofiles.units import MEBI

torch = pytest.importorskip("torch")

from hwprofiles.calibration.machine import network  # noqa: E402
from hwprofiles.calibration.machine.ranks import Rank, run  # noqa: E402

GPU, SHARE, FILL_S, EXCHANGE_SHARE = "h100", 0.85, 3e-6, 0.9


def rows() -> list[dict[str, Any]]:
    """What a host of these constants gives."""
    fit, found, rate = RingFit(SHARE, FILL_S, OWN_STEP), [], link_rate(GPU)
    for ranks in (2, 4, 8):
        for op in (*network_fit.RINGS, "all_to_all"):
            for size in (16 * MEBI, 64 * MEBI, 256 * MEBI):
                is_exchange = op == "all_to_all"
                point = RingPoint(GPU, EXCHANGE if is_exchange else op, ranks, int(size), 1.0, False, rate)
                own = replace(fit, share=SHARE * EXCHANGE_SHARE) if is_exchange and ranks > 4 else fit
                found.append(
                    {
                        "name": f"{op} {ranks} {size:g}", "op": op, "ranks": str(ranks), "bytes": str(size), "kernel": "",
                        "seconds": str(predict(point, own)), "sent_bytes": str(size * (ranks - 1) / ranks),
                    }
                )  # fmt: skip
    uneven = {"name": "uneven 8 1.5", "op": "uneven", "ranks": "8", "bytes": str(256 * MEBI), "kernel": ""}
    even_s = float(found[-1]["seconds"])
    found.append({**uneven, "sent_bytes": str(1.5 * 256 * MEBI * 7 / 8), "seconds": str(1.5 * even_s / 1.05)})
    sends = {"op": "send_recv", "bytes": str(64 * MEBI), "sent_bytes": str(16 * MEBI), "kernel": ""}
    found += [{**sends, "name": f"send {ranks}", "ranks": str(ranks), "seconds": str(1e-4 * ranks)} for ranks in (2, 8)]
    for kernel, ratio in (("gemm", 0.8), ("attention", 0.9), ("copy", 0.75)):
        beside = {"name": kernel, "op": "all_gather", "ranks": "8", "bytes": str(256 * MEBI), "kernel": kernel}
        found.append({**beside, "alone_s": "1e-3", "beside_s": str(1e-3 / ratio), "is_covered": "True"})
    return found


def test_the_constants_of_a_network_come_back() -> None:
    found = parameters(rows(), "made up", "2026-11-27", GPU)
    assert found["link.nvlink.ring"].value == pytest.approx(SHARE)
    assert found["ring.fill_s"].value == pytest.approx(FILL_S, abs=6e-7)
    assert found["ring.exchange_share"].value == pytest.approx(EXCHANGE_SHARE, abs=0.01)
    assert found["link.nvlink.pair_bytes_per_s"].value == pytest.approx(16 * MEBI / 2e-4)
    assert found["link.nvlink.p2p_bytes_per_s"].value == pytest.approx(16 * MEBI / 8e-4)
    assert "2 GPUs left out" in found["link.nvlink.ring"].source.note
    assert "uneven all-to-alls by their busiest GPU: +5.0%" in found["link.nvlink.ring"].source.note


def test_what_kernels_keep_beside_messages_comes_back_whole_or_not() -> None:
    found = parameters(rows(), "made up", "2026-11-27", "unknown")
    assert [found[f"overlap.collective.{each}.ratio"].value for each in ("gemm", "attention", "memory")] == [
        pytest.approx(each) for each in (0.8, 0.9, 0.75)
    ]
    assert found["overlap.collective.sms"].value == network_fit.NCCL_SMS
    assert all(entry.source.date for entry in found.values())
    fewer = [row for row in rows() if row["kernel"] != "copy"]
    waiting = [{**row, "is_covered": "False"} for row in rows()]
    for lacking in (fewer, waiting):
        assert not [key for key in parameters(lacking, "made up", "2026-11-27", "unknown") if key.startswith("overlap")]
    assert parameters([], "", "", GPU) == {}


def test_links_of_an_unknown_node_give_no_shares() -> None:
    assert all(key.startswith("overlap") for key in parameters(rows(), "made up", "2026-11-27", "no-such-gpu"))


def test_an_uneven_all_to_all_is_judged_by_its_busiest_gpu() -> None:
    even = {"name": "a", "op": "all_to_all", "ranks": "8", "bytes": "800", "sent_bytes": "700", "seconds": "7e-3"}
    uneven = {**even, "name": "uneven 8 1.5", "op": "uneven", "sent_bytes": "1050", "seconds": "1e-2"}
    assert uneven_errors([even, uneven]) == {"uneven 8 1.5": pytest.approx(0.05)}


def test_one_gpu_has_nobody_to_send_to(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(network, "TINY_WORLD", 1)
    assert "one GPU" in network.measure(torch.device("cpu"), "cpu", found.append)[0]
    assert found == []


def dies(place: Rank) -> Iterator[Mapping[str, Any]]:
    """One row, then the last process is gone."""
    yield {"name": "first", "rank": place.rank}
    time.sleep(0.5)
    if place.rank == place.world - 1:
        raise ValueError("this GPU fell off the bus")
    time.sleep(60)


def hangs(place: Rank) -> Iterator[Mapping[str, Any]]:
    """One row, then a rank waits for ever."""
    yield {"name": "first", "pid": os.getpid()}
    time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "told", "silence_s"), [(dies, "fell off the bus", 60.0), (hangs, "no row for 1 s, behind 1 rows", 1.0)]
)
def test_rows_stay_where_a_process_dies_or_hangs(work: Any, told: str, silence_s: float) -> None:
    found: list[Any] = []
    begin = time.monotonic()
    reason = run(work, 2, "cpu", found.append, is_tiny=True, silence_s=silence_s)
    assert reason is not None
    assert told in reason
    assert [row["name"] for row in found] == ["first"]
    assert time.monotonic() - begin < 40


@pytest.mark.slow
def test_two_processes_measure_every_row() -> None:
    found: list[Any] = []
    assert network.measure(torch.device("cpu"), "cpu", found.append) == ()
    names = [row["name"] for row in found]
    assert len(set(names)) == len(names) == 13
    assert all(set(row) <= set(network.COLUMNS) and row["seconds"] > 0 for row in found)
    assert all(row["low"] <= row["seconds"] <= row["high"] for row in found if "low" in row)
    more: list[Any] = []
    assert network.measure(torch.device("cpu"), "cpu", more.append, names[1:]) == ()
    assert [row["name"] for row in more] == names[:1]
