"""The range of a memory-bound kernel, and whose constants a call has: its variant's, its library's, its op's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.rows import KernelTable
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.stack_records import Parameter
from hwprofiles.units import GIGA, MICRO

H100 = load_gpu("h100")


def cost_of(shape: KernelShape, **ends: tuple[float, float, float]) -> tuple[float, float, float]:
    """Low, likeliest, high. ends: key behind `memory.` with "__" for dots → value, low, high."""
    source = {"kind": "measurement", "where": "x"}
    parameters = {
        f"memory.{key.replace('__', '.').replace('_of_', '-')}": Parameter.model_validate(
            {"value": value, "low": low, "high": high, "unit": "1", "basis": "interpolated", "source": source}
        )
        for key, (value, low, high) in ends.items()
    }
    stack = SimpleNamespace(name="made", kernels=KernelTable(()), parameters=parameters, assumptions={})
    cost = kernel_seconds(shape, stack, H100, "alone")
    return cost.low, cost.seconds, cost.high


def test_the_ends_are_of_the_fastest_and_the_slowest_call() -> None:
    """Of the share where bytes bind, of the rate where elements do, and of what every call waits."""
    moved, rate = 1 << 30, H100.hbm_bytes_per_s
    wait = (5 * MICRO, 4 * MICRO, 7 * MICRO)
    found = cost_of(KernelShape("sort", bytes=moved), sort=(0.8, 0.5, 0.9), sort__latency_s=wait)
    expected = (4 * MICRO + moved / (0.9 * rate), 5 * MICRO + moved / (0.8 * rate), 7 * MICRO + moved / (0.5 * rate))
    assert found == pytest.approx(expected)
    shape = KernelShape("sort", m=1 << 20, n=1024, bytes=1 << 20)
    elements = cost_of(shape, sort=(0.8, 0.8, 0.8), sort__elements_per_s=(100 * GIGA, 50 * GIGA, 200 * GIGA))
    assert elements == pytest.approx(tuple((1 << 30) / (each * GIGA) for each in (200, 100, 50)))


def test_a_call_has_the_constants_of_the_most_special_key() -> None:
    exact = {"cast": (0.2, 0.2, 0.2), "cast__torch": (0.4, 0.4, 0.4), "cast__torch_of_wide": (0.8, 0.8, 0.8)}
    for library, variant, share in (
        ("torch", "wide", 0.8),
        ("torch", "narrow", 0.4),
        ("", "wide", 0.2),
        ("x", "", 0.2),
    ):
        shape = KernelShape("cast", variant, bytes=1 << 30, library=library)
        assert cost_of(shape, **exact)[1] == pytest.approx((1 << 30) / (share * H100.hbm_bytes_per_s))
