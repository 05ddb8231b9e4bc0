"""What a simulated rank does, in the classes of a profiler's trace: every second of an operator has one class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles.kernels.shape import KERNELS
from hwprofiles.traces.intervals import inside, joined
from simulator.results.stream_time import COMPUTE_CLASSES, MEMORY_CLASSES, class_of_op, memory_class, shares_of
from simulator.results.timeline import BUBBLE, EXPOSED, Kernel, OperatorClass


def kernel(op: str, seconds: float) -> Kernel:
    return Kernel("name", op, "bf16", (), 0, seconds, "measured", "")


def operator(by_category: dict[str, float], *kernels: Kernel) -> OperatorClass:
    total = sum(by_category.values())
    return OperatorClass(
        "label", "F", max(by_category, key=lambda name: by_category[name]), total, by_category, {}, kernels
    )


def test_kernels_share_what_gaps_and_collectives_leave() -> None:
    """8 of 10 s are kernels, which take 1 : 3; by their own times, though they may sum to less."""
    found = shares_of(
        operator(
            {"gemm": 2.0, "memory_bound": 6.0, "kernel_gaps": 0.5, "tp_collectives": 1.5},
            kernel("gemm fprop", 1.0), kernel("rmsnorm", 3.0), kernel("all_gather tp", 9.0),
        )
    )  # fmt: skip
    assert found == pytest.approx(
        {
            ("gemm", "gemm"): 0.2,
            ("memory_bound", "rmsnorm"): 0.6,
            ("idle", "kernel_gaps"): 0.05,
            ("exposed_communication", "tp_collectives"): 0.15,
        }
    )


def test_operators_without_kernels_go_by_their_category() -> None:
    assert shares_of(operator({"optimizer": 2.0, "expert_gemm": 6.0})) == pytest.approx(
        {("optimizer", "optimizer"): 0.25, ("grouped_gemm", "expert_gemm"): 0.75}
    )


def test_a_collective_of_the_compute_stream_is_exposed() -> None:
    assert shares_of(operator({"optimizer": 2.0}, kernel("collective", 2.0))) == {
        ("exposed_communication", "name"): 1.0
    }


@pytest.mark.parametrize(("why", "row"), [(BUBBLE, "idle"), (EXPOSED, "exposed_communication")])
def test_reasons_to_idle(why: str, row: str) -> None:
    assert shares_of(OperatorClass("words", "", why, 0.0, {}, {})) == {(row, why): 1.0}


def test_every_kernel_has_a_class_and_listed_operators_exist() -> None:
    assert {class_of_op(op) for op in KERNELS} <= set(COMPUTE_CLASSES)
    listed = [op for ops in MEMORY_CLASSES.values() for op in ops]
    assert len(listed) == len(set(listed)) and set(listed) <= KERNELS.keys()
    assert all(class_of_op(op) == "memory_bound" for op in listed)
    assert (memory_class("cast"), memory_class("swiglu")) == ("copy", "elementwise")


stretches = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=8)


@settings(max_examples=50, deadline=None)
@given(stretches, stretches)
def test_what_lies_inside_agrees_with_counting_moments(
    mine: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    start, end = (np.array([float(begin + length * side) for begin, length in mine]) for side in (0, 1))
    begin, until = (np.array([float(at + length * side) for at, length in others]) for side in (0, 1))
    busy = joined(begin, until)
    covered = [bool(((begin <= moment) & (until > moment)).any()) for moment in range(60)]
    assert float((busy[1] - busy[0]).sum()) == sum(covered)
    assert (busy[0][1:] > busy[1][:-1]).all()
    by_hand = [sum(covered[at : at + length]) for at, length in mine]
    assert inside(start, end, busy).tolist() == by_hand
