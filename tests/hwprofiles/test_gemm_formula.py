"""The GEMM formula by hand for a kernel of one tile size: waves of tiles on the free SMs, memory, power."""

from __future__ import annotations

from math import ceil

import pytest

from hwprofiles.kernels.gemm_formula import GemmConstants, GemmLimits, GemmSize, gemm_seconds

PEAK, HBM, SMS = 1e15, 3e12, 100


def constants(l2: float) -> GemmConstants:
    """l2: bytes/s at which an SM fetches operands."""
    return GemmConstants(
        t0_s=1e-6, t_tile_s=2e-7, st_bytes_per_s=1e11, l2_bytes_per_s=l2, eta=0.8, ecap=0.7, eb=0.9, p=4.0,
        bm_max=64, bn_max=16, bn_step=16,
    )  # fmt: skip


def by_hand(groups: int, m: int, n: int, k: int, free_sms: int, l2: float) -> float:
    """BF16, not a weight gradient: 2 bytes an element of operands and result. m: rows of one group."""
    step = max(2 * 128 * 64 * 16 / (0.8 * PEAK / SMS), (64 + 16) * 128 * 2 / l2)
    tile = ceil(k / 128) * step + 2e-7 + 64 * 16 * 2 / 1e11
    compute = ceil(groups * ceil(m / 64) * ceil(n / 16) / free_sms) * tile
    memory = groups * 2 * (m * k + n * k + m * n) / (0.9 * HBM)
    power = 2 * groups * m * n * k / (0.7 * PEAK)
    return 1e-6 + (compute**4 + memory**4 + power**4) ** 0.25


@pytest.mark.parametrize("l2", [2e11, 2e12])
@pytest.mark.parametrize("free_sms", [SMS, 80, 7])
@pytest.mark.parametrize(("groups", "m", "n", "k"), [(1, 64, 16, 128), (1, 130, 40, 1000), (4, 4096, 512, 2048)])
def test_waves_memory_and_power(groups: int, m: int, n: int, k: int, free_sms: int, l2: float) -> None:
    """An SM is as fast whether others are held or not: only the waves are more."""
    size = GemmSize(groups * m, n, k, groups, "fprop", "bf16")
    found = gemm_seconds(size, constants(l2), GemmLimits(PEAK, HBM, SMS, free_sms))
    assert found == pytest.approx(by_hand(groups, m, n, k, free_sms, l2), rel=1e-9)
