"""Left out: the GEMMs of a B200 under a training-like load, of which neither rates nor energies were fitted."""

from __future__ import annotations

from statistics import median

from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.power.constants import PowerConstants, power_constants
from hwprofiles.power.model import Load, solve
from hwprofiles.power.states import speed_when_measured
from hwprofiles.stack_choice import load_stack
from tests.hwprofiles.test_gemm_groups import simumax
from tests.hwprofiles.test_kernel_table_published import needs_reference


def settled_s(shape: KernelShape, burst_s: float, constants: PowerConstants) -> float:
    """A GEMM alone at the board's limit, from its first launches."""
    out_bytes = 8.0 if shape.variant == "wgrad" else 2.0
    flop_j = constants.flop_j(shape, 2.0 * shape.m * shape.n * shape.k)
    byte_j = constants.byte_j(2.0 * (shape.m + shape.n) * shape.k + out_bytes * shape.m * shape.n)
    load = Load(burst_s, 0.0, flop_j, byte_j)
    return load.seconds(solve(load, constants.chip(constants.tdp_w)))


@needs_reference
def test_large_gemms_of_a_loaded_b200_are_nearer_under_its_limit_and_that_chip_is_at_the_high_end() -> None:
    stack, gpu = load_stack("b200-public"), load_gpu("b200")
    constants = power_constants(stack, gpu)
    hungry = constants.at("gemm.bf16.pj_per_flop", constants.by_key["gemm.bf16.pj_per_flop"].high)
    loops, settled, at_high = [], [], []
    for variant, point in simumax("matmul"):
        if point.size.flop < 1e12:
            continue
        shape = KernelShape("gemm", variant, "bf16", point.size.m, point.size.n, point.size.k)
        loop_s = kernel_seconds(shape, stack, gpu, "alone").seconds
        flop_j, chip = constants.flop_j(shape, point.size.flop), constants.chip(gpu.tdp_w)
        share = constants.value("loop_share")
        burst_s = loop_s * speed_when_measured(loop_s, "benchmark_loop", flop_j, 0.0, chip, share)
        loops.append(loop_s / point.seconds)
        settled.append(settled_s(shape, burst_s, constants) / point.seconds)
        at_high.append(settled_s(shape, burst_s, hungry) / point.seconds)
    assert len(loops) > 100
    assert median(loops) < 0.77
    assert 0.81 < median(settled) < 0.9
    assert 0.88 < median(at_high) < 1.02
