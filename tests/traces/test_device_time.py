"""Where a device's time goes: by hand, and sums that hold whatever overlaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles.traces.classes import GROUPS
from hwprofiles.traces.device_time import shared_time
from hwprofiles.traces.summary import summarise
from tests.traces.kineto import ADD, GATHER, GEMM, kernel, launch, operator, step, write

US = 1e-6


def test_overlap_and_gaps_by_hand(tmp_path: Path) -> None:
    """Two GEMMs, the second launched 3 us after the device fell idle; an all-gather of which 6 of 10 us are hidden."""
    path = write(
        tmp_path / "t.json",
        [
            launch(1, 0.0), launch(2, 1.0), launch(3, 23.0), launch(4, 24.0),
            kernel(GEMM, 10.0, 10.0, number=1),
            kernel(GATHER, 14.0, 6.0, stream=20, number=2),
            kernel(GEMM, 25.0, 5.0, number=3),
            kernel(ADD, 32.0, 2.0, number=4),
            kernel(GATHER, 32.0, 6.0, stream=20),
            kernel("Memcpy DtoH (Device -> Pinned)", 33.0, 7.0, stream=21, cat="gpu_memcpy"),
        ],
    )  # fmt: skip
    (device,) = summarise([path]).devices
    mean = device.mean
    assert mean.window_s == pytest.approx(30 * US)
    assert mean.classes == pytest.approx(
        {"gemm": 15 * US, "elementwise": 2 * US, "all_gather": 4 * US, "memcpy_host": 2 * US}
    )
    assert mean.kernel_s == pytest.approx(
        {"gemm": 15 * US, "elementwise": 2 * US, "all_gather": 12 * US, "memcpy_host": 7 * US}
    )
    assert mean.compute_s == pytest.approx(17 * US)
    assert mean.communication_s == pytest.approx(12 * US)
    assert mean.exposed_s == pytest.approx(4 * US)
    assert mean.overlapped_s == pytest.approx(8 * US)
    assert mean.idle_s == pytest.approx(7 * US)
    assert mean.launch_gap_s == pytest.approx(3 * US)
    assert mean.launch_s == pytest.approx(2 * US)
    assert mean.busy_s + mean.idle_s == pytest.approx(mean.window_s)


def test_two_kernels_at_once_share_the_time(tmp_path: Path) -> None:
    (device,) = summarise(
        [write(tmp_path / "t.json", [kernel(GEMM, 0.0, 10.0), kernel(ADD, 4.0, 8.0, stream=8)])]
    ).devices
    assert device.mean.classes == pytest.approx({"gemm": 7 * US, "elementwise": 5 * US})
    assert device.mean.launch_gap_s is None and device.mean.launch_s is None


def test_no_gap_while_an_older_kernel_runs(tmp_path: Path) -> None:
    """The one that began last has ended, another has not."""
    listed = [kernel(GEMM, 10.0, 20.0), kernel(ADD, 12.0, 2.0, stream=8), launch(1, 19.0)]
    path = write(tmp_path / "t.json", [*listed, kernel(ADD, 20.0, 2.0, stream=8, number=1)])
    (device,) = summarise([path]).devices
    assert (device.mean.idle_s, device.mean.launch_gap_s, device.mean.launch_s) == (0, 0, 0)


def test_steps_by_their_marks(tmp_path: Path) -> None:
    """Kernels run after their step's mark has ended; the last step has no end; what no step launched is not counted."""
    listed = [launch(9, 0.0), kernel(GEMM, 1.0, 1.0, number=9)]
    for number in range(3):
        begin = 100.0 * number + 10.0
        listed += [step(7 + number, begin, begin + 90.0), launch(number + 1, begin + 80.0)]
        listed += [kernel(GEMM, begin + 95.0, 30.0 + number, number=number + 1)]
    summary = summarise([write(tmp_path / "t.json", listed)])
    (device,) = summary.devices
    assert (device.num_steps, device.num_in_trace) == (2, 3)
    assert device.mean.window_s == pytest.approx(100 * US)
    assert device.mean.classes == pytest.approx({"gemm": 30.5 * US})
    assert device.mean.idle_s == pytest.approx(69.5 * US)
    assert any("last of its 3 steps" in line for line in summary.warnings)


def test_several_optimizer_steps_without_marks_are_said(tmp_path: Path) -> None:
    mark = step(0, 0.0, 1.0) | {"name": "Optimizer.step#AdamW.step"}
    summary = summarise([write(tmp_path / "t.json", [mark, mark, mark, kernel(GEMM, 0.0, 10.0)])])
    assert any("3 calls of an optimizer's step" in line for line in summary.warnings)
    assert not summarise([write(tmp_path / "u.json", [mark, kernel(GEMM, 0.0, 10.0)])]).warnings


def test_ranks_of_files_and_devices_of_one_file(tmp_path: Path) -> None:
    paths = [
        write(
            tmp_path / f"{rank}.json.gz",
            [kernel(GEMM, 0.0, 10.0 + rank)],
            distributedInfo={"rank": rank, "world_size": 2},
        )
        for rank in (1, 0)
    ]
    both = summarise(paths)
    assert both.has_ranks and both.world_size == 2
    assert [each.rank for each in both.devices] == [1, 0]
    one = summarise([write(tmp_path / "t.json", [kernel(GEMM, 0.0, 10.0, device=0), kernel(ADD, 5.0, 5.0, device=1)])])
    assert [(each.rank, each.device, each.mean.window_s) for each in one.devices] == [
        (0, 0, pytest.approx(10 * US)),
        (1, 1, pytest.approx(5 * US)),
    ]
    assert not one.has_ranks


def test_what_has_no_class_is_listed(tmp_path: Path) -> None:
    (device,) = summarise(
        [
            write(
                tmp_path / "t.json",
                [
                    kernel("mystery", 0.0, 4.0),
                    kernel("riddle", 4.0, 6.0),
                    kernel("riddle", 10.0, 6.0),
                    operator(1, "aten::x"),
                ],
            )
        ]
    ).devices
    assert list(device.unknown.items()) == [("riddle", pytest.approx(12 * US)), ("mystery", pytest.approx(4 * US))]


intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(0, len(GROUPS) - 1)), min_size=1, max_size=12
)


@settings(max_examples=50, deadline=None)
@given(intervals)
def test_shares_sum_to_the_window_and_agree_with_counting_moments(drawn: list[tuple[int, int, int]]) -> None:
    """busy + idle = window; each class by walking every whole moment."""
    start = np.array([float(begin) for begin, _, _ in drawn])
    end = start + np.array([float(length) for _, length, _ in drawn])
    row = np.array([group for _, _, group in drawn])
    shared = shared_time(start, end, row, GROUPS, 0.0, 100.0)
    assert shared.seconds.sum() + shared.idle_s == pytest.approx(100.0)
    by_hand, exposed = np.zeros(len(GROUPS)), 0.0
    for moment in range(100):
        on = [int(((start <= moment) & (end > moment) & (row == group)).sum()) for group in range(len(GROUPS))]
        first = next((group for group, count in enumerate(on) if count), None)
        if first is not None:
            by_hand[first] += 1.0
        exposed += on[1] > 0 and on[0] == 0
    assert shared.seconds == pytest.approx(by_hand)
    assert shared.exposed_s == exposed


def test_reference_trace(reference: Path) -> None:
    """An eager training step of a Qwen3-MoE on an H200: the sums that its events have, read without this reader."""
    summary = summarise([reference / "traces" / "qwen3moe_h200.json.gz"])
    (device,) = summary.devices
    mean = device.mean
    assert summary.gpus == ("NVIDIA H200",) and not summary.warnings and not device.unknown
    assert mean.window_s == pytest.approx(0.164294, rel=1e-5)
    assert sum(mean.kernel_s.values()) - sum(
        mean.kernel_s[name] for name in ("memcpy_device", "memcpy_host", "memset")
    ) == pytest.approx(0.152777, rel=1e-4)
    assert mean.busy_s + mean.idle_s == pytest.approx(mean.window_s)
    assert mean.classes["attention_fwd"] == pytest.approx(0.003645, rel=1e-3)
    assert mean.classes["grouped_gemm"] == pytest.approx(0.024445, rel=1e-3)
    assert mean.classes["optimizer"] == pytest.approx(0.013973, rel=1e-3)
    assert mean.launch_gap_s == pytest.approx(0.001166, rel=1e-2)
    assert mean.communication_s == 0
