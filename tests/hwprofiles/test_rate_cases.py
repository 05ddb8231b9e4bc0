"""What calibration measures: cells agree with tensors, results with references, each case runs on the processor or says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from hwprofiles.calibration.counting.traffic import Traffic
from hwprofiles.calibration.rates import casts, dense, dense_fp8, eager, few_sms, grouped, loss, norms, routing, rows
from hwprofiles.calibration.rates.case import COLUMNS, RateCase, Size
from hwprofiles.calibration.rates.kinds import KINDS
from hwprofiles.calibration.rates.moved import COARSE, Kernel, memory_case, size_of
from hwprofiles.kernels.shape import KERNELS, OWN_STREAMS, KernelShape
from simulator.workload import plain_norms
from simulator.workload.counting import fp8_bytes

CPU = torch.device("cpu")
META = torch.device("meta")
ON_A_GPU = {"compiled", "cublas-limited", "few-blocks", OWN_STREAMS}
FUSED = [
    kernel
    for each in (norms, casts, loss)
    for kernel in each.KERNELS
    if kernel.per_number is not None and kernel.op not in ("adamw", "fill")
]
"""Kernels whose bytes are told and not counted."""


@cache
def every(size: Size, *kinds: str) -> tuple[RateCase, ...]:
    """Of these kinds, or of all."""
    return tuple(case for kind in kinds or KINDS for case in KINDS[kind](CPU, size))


def kernel_of(op: str, library: str, variant: str = "", dtype: str = "bf16") -> Kernel:
    """The one of these."""
    found = [
        kernel
        for each in (norms, casts, rows, routing, loss, eager)
        for kernel in each.KERNELS
        if (kernel.op, kernel.library, kernel.variant, kernel.dtype) == (op, library, variant, dtype)
    ]
    return found[0]


def test_every_case_runs_on_the_processor_or_says_why() -> None:
    for case in every("cpu"):
        try:
            case.make()()
        except NotImplementedError as error:
            assert "alone" in str(error), case.name
            cells = case.cells
            is_fp8 = str(cells["dtype"]).startswith("fp8") and cells["op"] in ("gemm", "grouped_gemm")
            assert is_fp8 or cells["library"] in ON_A_GPU or case.around is not None, case.name


@pytest.mark.parametrize("size", ["cpu", "quick", "full"])
def test_each_kernel_comes_once_with_cells_of_the_table(size: Size) -> None:
    """Its name is one of KERNELS; what it moves or computes is told."""
    cases = every(size, *(name for name in KINDS if size != "full" or name not in ("few_sms", "beside")))
    for case in cases:
        assert set(case.cells) <= set(COLUMNS)
        assert case.cells["op"] in KERNELS
        assert float(case.cells.get("flop") or case.cells["bytes"]) > 0 < case.operand_bytes
    assert max(Counter(tuple(str(case.cells.get(name, "")) for name in COLUMNS) for case in cases).values()) == 1


def test_the_grid_has_whole_shapes_to_leave_out() -> None:
    """At least ten weight shapes of every number format and pass, on both sides of 2^30 of m n k; sizes of memory-bound kernels
    from 1 MB to 1 GB, at least four of each."""
    cases = every("full", *(name for name in KINDS if name not in ("few_sms", "beside")))
    gemms = [case.cells for case in cases if case.cells["part"] == "gemm"]
    for dtype in ("bf16", "fp8-row", "fp8-tensor", "fp8-block"):
        for variant in ("fprop", "dgrad", "wgrad"):
            of = [cells for cells in gemms if (cells["dtype"], cells["variant"]) == (dtype, variant)]
            assert (
                len({(cells["m"], cells["n"]) if variant == "wgrad" else (cells["n"], cells["k"]) for cells in of})
                >= 10
            )
            assert len({cells["m"] * cells["n"] * cells["k"] >= 2**30 for cells in of}) == 2
    of_kind: dict[tuple[str, str, str, str], list[int]] = {}
    for cells in (case.cells for case in cases if case.cells["part"] == "memory"):
        kind = str(cells["op"]), str(cells["variant"]), str(cells["dtype"]), str(cells["library"])
        of_kind.setdefault(kind, []).append(cells["bytes"])
    assert all(len(sizes) >= 3 for sizes in of_kind.values())
    copies = of_kind["copy", "", "bf16", "torch"]
    assert min(copies) < 3e6
    assert max(copies) > 0.9e9


@pytest.mark.parametrize(
    "kernel", FUSED, ids=lambda kernel: f"{kernel.op}-{kernel.library}-{kernel.variant}-{kernel.dtype}"
)
def test_a_fused_kernel_moves_its_operands_and_results_once(kernel: Kernel) -> None:
    """But for what is one a row or one for all rows, such as tables of angles."""
    size, width = kernel.shapes[1]
    case = memory_case(CPU, kernel, size, width)
    operands = kernel.operands(META, size, width)
    moved = size_of(operands) + size_of(kernel.function(*operands))
    if kernel.wrt:
        moved += sum(operands[idx].nbytes for idx in kernel.wrt)
        if kernel.op == "rope":  # whose gradient is turned back without what came in
            moved -= 2.0 * size * width
    assert case.cells["bytes"] == pytest.approx(moved, rel=0.1 if kernel.op == "rope" else 0.01)


def test_bytes_are_those_that_the_simulator_counts() -> None:
    """Norms of plain modules, casts to FP8, sums by index."""
    size, width = COARSE[1]
    numbers = size * width

    def counted(op: str, library: str, variant: str = "", dtype: str = "bf16") -> int:
        return int(memory_case(CPU, kernel_of(op, library, variant, dtype), size, width).cells["bytes"])

    assert counted("rmsnorm", "eager") == pytest.approx(numbers * sum(plain_norms.FORWARD[:2]), rel=0.01)
    assert counted("rmsnorm_bwd", "eager") == pytest.approx(numbers * sum(plain_norms.BACKWARD[:2]), rel=0.1)
    assert counted("quantise", "triton", dtype="fp8-block") == 2 * numbers + fp8_bytes(numbers)
    assert counted("swiglu", "torch") == 10 * numbers  # one function: 6, and its first half apart: 4
    assert counted("unpermute", "torch") == pytest.approx((6 + 2 / rows.TOP_K) * numbers, rel=0.01)
    assert counted("cross_entropy", "torch") == pytest.approx((2 + 4 + 4 + 4) * numbers, rel=0.01)
    assert counted("cross_entropy_bwd", "torch") == pytest.approx((4 + 4 + 4 + 4 + 4 + 2) * numbers, rel=0.01)
    assert counted("adamw", "compiled", "bf16-moments", "fp32") == (2 * (4 + 2 + 2) + 4 + 2) * numbers


@pytest.mark.parametrize(
    ("function", "operands", "read", "written", "launches"),
    [
        (torch.add, lambda: (torch.zeros(8, 4), torch.zeros(8, 1)), 4 * (32 + 8), 4 * 32, 1),
        (lambda x: x.t()[1:].contiguous(), lambda: (torch.zeros(8, 4),), 4 * 24, 4 * 24, 1),
        (lambda x, i: x[i], lambda: (torch.zeros(8, 4), torch.zeros(3, dtype=torch.int64)), 24 + 48, 48, 1),
        (lambda x: x.expand(8, 4).add(1.0), lambda: (torch.zeros(1, 4),), 16, 128, 1),
        (lambda x, y: x.copy_(y), lambda: (torch.zeros(8), torch.zeros(8, dtype=torch.bfloat16)), 16, 32, 1),
        (lambda x, i, y: x.index_add_(0, i, y), lambda: (torch.zeros(8, 4), torch.zeros(3, dtype=torch.int64),
         torch.zeros(3, 4)), 24 + 2 * 48, 48, 1),
        (lambda x: x.mul_(2.0).view(-1), lambda: (torch.zeros(8, 4),), 128, 128, 1),
        (lambda x: torch.empty_like(x), lambda: (torch.zeros(8, 4),), 0, 0, 0),
    ],
)  # fmt: skip
def test_traffic_counts_each_function(function, operands, read, written, launches) -> None:  # type: ignore[no-untyped-def]
    given = operands()
    with Traffic() as traffic:
        function(*given)
    assert (traffic.bytes_read, traffic.bytes_written, traffic.launches) == (read, written, launches)


def _read(cells: Mapping[str, Any]) -> float:
    """Bytes of both operands of a dense product."""
    return (2.0 if cells["dtype"] == "bf16" else 1.0) * (cells["m"] + cells["n"]) * cells["k"]


def test_cells_of_products_are_their_sizes() -> None:
    """Operands' and result's bytes; the passes of a layer have its FLOP, and KernelShape's."""
    tokens, n, k = 128, 256, 512
    for case in (
        *(make(CPU, tokens, n, k) for make in (dense.fprop, dense.dgrad, dense.wgrad)),
        *(dense_fp8.fp8_case(CPU, dtype, variant, tokens, n, k) for dtype in dense_fp8.FORMATS for variant in
          ("fprop", "dgrad", "wgrad")),
        *(grouped.grouped_case(CPU, variant, n, k, (48, 80)) for variant in grouped.PASSES),
    ):  # fmt: skip
        cells = case.cells
        assert cells["flop"] == 2.0 * tokens * n * k
        shape = KernelShape("gemm", m=cells["m"], n=cells["n"], k=cells["k"])
        assert shape.flop_of_sizes == cells["flop"]
        if cells["dtype"] in ("bf16", "fp8-row", "fp8-tensor"):
            result = case.make()()
            assert tuple(result.shape[-2:]) == (cells["m"], cells["n"])
            if cells["op"] == "gemm":
                assert result.element_size() * result.numel() == case.operand_bytes - _read(cells)
        sides = {"fprop": (tokens * k, n * k, tokens * n), "dgrad": (tokens * n, n * k, tokens * k),
                 "wgrad": (tokens * n, tokens * k, n * k)}[cells["variant"]]  # fmt: skip
        in_bytes, out_bytes = (1.0 if cells["dtype"] != "bf16" else 2.0), 2.0
        if cells["variant"] == "wgrad" and cells["op"] == "gemm" and cells["library"] != "cublas-bf16-out":
            out_bytes = 4.0
        groups = cells["groups"]
        weights = sides[1] if cells["variant"] != "wgrad" else sides[2]
        more = (groups - 1) * weights * (in_bytes if cells["variant"] != "wgrad" else out_bytes)
        assert case.operand_bytes == in_bytes * (sides[0] + sides[1]) + out_bytes * sides[2] + more


def test_results_are_those_of_plain_products() -> None:
    """Grouped calls of experts' layers give what each expert's product is, in all passes."""
    counts, n, k = (48, 16, 64), 32, 64
    for variant in grouped.PASSES:
        torch.manual_seed(0)
        one = grouped.grouped_case(CPU, variant, n, k, counts).make()()
        torch.manual_seed(0)
        rows_of, weights = sum(counts), len(counts)
        if variant == "wgrad":
            dy, x = torch.randn(rows_of, n, dtype=torch.bfloat16), torch.randn(rows_of, k, dtype=torch.bfloat16)
            wanted = torch.stack([dy[part].t() @ x[part] for part in grouped.parts(counts)])
        else:
            wide = (weights, n, k)
            if variant == "fprop":
                w = torch.randn(*wide, dtype=torch.bfloat16).transpose(1, 2)
                left = torch.randn(rows_of, k, dtype=torch.bfloat16)
            else:
                left = torch.randn(rows_of, n, dtype=torch.bfloat16)
                w = torch.randn(*wide, dtype=torch.bfloat16)
            wanted = torch.cat([left[part] @ w[idx] for idx, part in enumerate(grouped.parts(counts))])
        torch.testing.assert_close(one, wanted, rtol=0.02, atol=0.2)


def test_chains_give_what_torch_s_own_functions_do() -> None:
    """Norms, gated activations and optimizer steps written out here."""
    x, weight = norms._normed(CPU, 8, 64)
    torch.testing.assert_close(norms.eager_norm(x, weight), norms.torch_norm(x, weight), rtol=0.02, atol=0.02)
    up = torch.randn(8, 128, dtype=torch.bfloat16)
    torch.testing.assert_close(norms.own_swiglu(up), norms.swiglu(up), rtol=0.05, atol=0.02)
    cos, sin = norms._angles(CPU, 8, 64)
    heads = torch.randn(1, 8, 2, 128, dtype=torch.bfloat16)
    turned = norms.turned_pairs(heads[0], cos[:, None], sin[:, None])
    torch.testing.assert_close(turned[None], norms.rope.apply(heads, cos, sin), rtol=0.02, atol=0.02)
    states = [[each.clone() for each in loss._state(CPU, 8, 8)]]
    states.append([each.clone() for each in states[0]])
    for step, state in zip((loss.chained_step, loss.compiled_step), states, strict=True):
        step(*state)
    for one, other in zip(*states, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize(("groups", "mean"), [(4, 8192), (8, 1024), (32, 256)])
def test_uneven_loads_are_as_many_rows(groups: int, mean: int) -> None:
    counts = grouped.uneven_loads(groups, mean)
    assert sum(counts) == groups * mean
    assert list(counts) == sorted(counts, reverse=True)
    assert all(count > 0 and count % grouped.ALIGNED == 0 for count in counts)


def test_fewer_sms_are_a_column() -> None:
    """Of each kernel: one row on all SMs, the others on what is left, with what holds the others around it."""
    cases = list(few_sms.cases(CPU, "cpu"))
    assert {case.around is None for case in cases} == {True, False}
    assert all((case.cells["sms"] == "") == (case.around is None) for case in cases)
