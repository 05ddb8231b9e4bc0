"""Which library's kernel stands for a memory-bound op where nobody names one."""

from __future__ import annotations

import pytest

from hwprofiles.calibration.fits.serving import CHAINS, serving
from hwprofiles.kernels.shape import KERNELS


@pytest.mark.parametrize(
    ("op", "libraries", "expected"),
    [
        ("rmsnorm", {"torch", "compiled", "eager"}, "torch"),
        ("swiglu", {"torch", "compiled"}, None),
        ("quantise", {"torch", "compiled", "triton"}, "triton"),
        ("copy", {"torch"}, "torch"),
        ("rope", {"moesim"}, None),
        ("unpermute", {"moesim", "torch"}, None),
        ("transpose", {"torch"}, None),
        ("transpose", {"torch", "triton"}, "triton"),
    ],
)
def test_a_chain_of_plain_functions_is_no_measure_of_a_framework_s_kernel(
    op: str, libraries: set[str], expected: str | None
) -> None:
    assert serving(op, libraries) == expected


def test_chains_are_kernels_bound_by_memory() -> None:
    assert {"permute", "unpermute", "transpose", "routing_map"} <= CHAINS
    assert all(KERNELS[op].bound == "memory" for op in CHAINS)
