"""A kernel whose steps wait for one another: launches and a latency beside what its bytes take."""

from __future__ import annotations

from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.memory_bound import memory_bound_cost
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.stack_choice import load_stack

TRACE_ROWS, TRACE_S = 32512, 2.41e-4
"""Rows that a rank received and seconds of the row map in deepseek-ai/profile-data train.json."""


def seconds(rows: int, gpu: str) -> float:
    shape = KernelShape("routing_map", bytes=16 * rows, num_kernels=2)
    return memory_bound_cost(shape, load_stack(f"{gpu}-transfer"), load_gpu(gpu), (), "alone").seconds


def test_the_row_map_of_the_trace_is_found_by_its_latency_and_hardly_grows_with_the_rows() -> None:
    at_trace, more = seconds(TRACE_ROWS, "h100"), seconds(8 * TRACE_ROWS, "h100")
    assert abs(at_trace / TRACE_S - 1) < 0.03
    assert at_trace < more < 1.1 * at_trace, "bytes over 2 GB/s would be eight times as long"
