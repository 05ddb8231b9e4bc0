"""Operands that do not fit are refused with both sides of the mismatch; nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernels import products
from hwprofiles.calibration.kernels.operands import Blocks, Columns, Rows
from hwprofiles.calibration.kernels.products import Kernel, fprop, wgrad
from hwprofiles.calibration.kernels.sms import at_most_sms, num_sms, set_num_sms
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8, Quantised
from tests.hwprofiles.kernels.operands import blocks, columns, rows

CPU = torch.device("cpu")
R, N, K, E = 12, 128, 256, 3


def off_by(bytes_: int, like: Tensor) -> Tensor:
    """The same numbers and strides, at an address that is off."""
    items = bytes_ // like.element_size()
    storage = torch.empty(like.numel() + items, dtype=like.dtype)
    return storage[items:].view(like.shape)


def empty(*sizes: int, dtype: torch.dtype = FP8, device: str = "cpu") -> Tensor:
    return torch.empty(sizes, dtype=dtype, device=device)


def floats(*sizes: int, device: str = "cpu") -> Tensor:
    return torch.empty(sizes, device=device)


LEFT, RIGHT = rows(R, K), blocks(E, N, K)
GROUPS = Groups((5, 0, 7))
OUT: dict[str, Any] = {"groups": GROUPS}
WRONG_PRODUCTS: dict[str, tuple[Callable[[], tuple[Rows, Blocks, dict[str, Any]]], str]] = {
    "dtype of left": (
        lambda: (replace(LEFT, values=empty(R, K, dtype=torch.bfloat16)), RIGHT, OUT),
        r"left.values: torch.bfloat16; torch.float8_e4m3fn is wanted",
    ),
    "dtype of scales": (
        lambda: (replace(LEFT, scales=LEFT.scales.double()), RIGHT, OUT),
        r"left.scales: torch.float64; scales are torch.float32",
    ),
    "K of both": (
        lambda: (LEFT, blocks(E, N, 128), OUT), r"right.values: K of 128; left.values have K of 256"
    ),
    "K of no whole tile": (
        lambda: (replace(LEFT, values=empty(R, 192)), RIGHT, OUT),
        r"left.values: shape \(12, 192\); multiples of any x 128 are wanted",
    ),
    "N of no whole block": (
        lambda: (LEFT, replace(RIGHT, values=empty(E, 64, K)), OUT),
        r"right.values: shape \(3, 64, 256\); multiples of any x 128 x 128 are wanted",
    ),
    "one matrix without its group": (
        lambda: (LEFT, replace(RIGHT, values=empty(N, K)), OUT), r"right.values: shape \(128, 256\); 3 dimensions"
    ),
    "rows of scales": (
        lambda: (replace(LEFT, scales=rows(8, K).scales), RIGHT, OUT),
        r"left.scales: shape \(8, 2\); left.values \(12, 256\) want \(12, 2\)",
    ),
    "columns innermost in scales": (
        lambda: (replace(LEFT, scales=LEFT.scales.contiguous()), RIGHT, OUT),
        r"left.scales: strides \(2, 1\); rows are innermost",
    ),
    "pitch of scales": (
        lambda: (Rows(LEFT.values[:11], floats(2, 11).t()), RIGHT, {"groups": Groups((11, 0, 0))}),
        r"left.scales: pitch 11; a multiple of 4, at least 11",
    ),
    "scales of another weight": (
        lambda: (LEFT, replace(RIGHT, scales=floats(E, 2, 1)), OUT),
        r"right.scales: shape \(3, 2, 1\); the other operands want \(3, 1, 2\)",
    ),
    "a weight that is not transposed": (
        lambda: (LEFT, replace(RIGHT, values=RIGHT.values.transpose(1, 2).contiguous().transpose(1, 2)), OUT),
        r"right.values: strides .*; it has to be contiguous",
    ),
    "columns innermost in no left": (
        lambda: (replace(LEFT, values=empty(K, R).t()), RIGHT, OUT), r"left.values: strides \(1, 12\); the last dimension"
    ),
    "rows that are not aligned": (
        lambda: (replace(LEFT, values=empty(R, K + 8)[:, :K]), RIGHT, OUT),
        r"left.values: rows 264 bytes apart; a multiple of 16, at least 256",
    ),
    "an address": (
        lambda: (replace(LEFT, values=off_by(4, LEFT.values)), RIGHT, OUT),
        r"left.values: an address 4 bytes off; a multiple of 16 is wanted",
    ),
    "a device": (
        lambda: (LEFT, replace(RIGHT, values=empty(E, N, K, device="meta")), OUT),
        r"right: on meta; left.values are on cpu",
    ),
    "counts": (
        lambda: (LEFT, RIGHT, {"groups": Groups((5, 0, 8))}), r"groups: 13 rows; the operands have 12"
    ),
    "a count below 0": (lambda: (LEFT, RIGHT, {"groups": Groups((13, -1, 0))}), r"groups: -1 rows of a group"),
    "number of groups": (
        lambda: (LEFT, RIGHT, {"groups": Groups((12,))}), r"groups: 1 groups; right.values are 3 matrices"
    ),
    "ends of another number": (
        lambda: (LEFT, RIGHT, {"groups": empty(2, dtype=torch.int32)}), r"groups: shape \(2,\); .*want \(3,\)"
    ),
    "ends of 64 bits": (
        lambda: (LEFT, RIGHT, {"groups": empty(3, dtype=torch.int64)}), r"groups: torch.int64; torch.int32 is wanted"
    ),
    "an end of no dimension": (
        lambda: (LEFT, RIGHT, {"groups": torch.tensor(12, dtype=torch.int32)}), r"groups: shape \(\); 1 dimensions are wanted"
    ),
    "ends elsewhere": (
        lambda: (LEFT, RIGHT, {"groups": empty(3, dtype=torch.int32, device="meta")}),
        r"groups: on meta; left.values are on cpu",
    ),
    "too many groups": (
        lambda: (Rows(empty(0, 128), floats(0, 1)), Blocks(empty(1025, 128, 128), floats(1025, 1, 1)), {}),
        r"right.values: 1025 groups; 1 to 1024 are possible",
    ),
    "more rows than 32 bits count": (
        lambda: (
            Rows(empty(2**31, 128, device="meta"), floats(1, 2**31, device="meta").t()),
            Blocks(empty(1, 128, 128, device="meta"), floats(1, 1, 1, device="meta")), {},
        ),
        r"R: 2147483648; 2147418112 is the most",
    ),
    "dtype of the result": (
        lambda: (LEFT, RIGHT, OUT | {"out_dtype": torch.float16}), r"out_dtype: torch.float16; a product gives torch.bf"
    ),
    "shape of the result": (
        lambda: (LEFT, RIGHT, OUT | {"out": floats(R, K)}), r"out: shape \(12, 256\); the other operands want \(12, 128\)"
    ),
    "rows of the result": (
        lambda: (LEFT, RIGHT, OUT | {"out": floats(R, N + 2)[:, :N]}), r"out: rows 520 bytes apart; a multiple of 16"
    ),
    "a kernel's name": (lambda: (LEFT, RIGHT, OUT | {"kernel": "cud"}), r"kernel: 'cud' is unknown; allowed auto, cuda"),
    "a kernel without its GPU": (
        lambda: (LEFT, RIGHT, OUT | {"kernel": "cuda"}), r"kernel: 'cuda': cpu has no FP8 gemm kernel \(cuda: needs a CUDA"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_PRODUCTS)
def test_operands_of_a_product_that_do_not_fit(wrong: str) -> None:
    make, told = WRONG_PRODUCTS[wrong]
    left, right, settings = make()
    with pytest.raises(CalibrationError, match=told):
        fprop(left, right, **settings)


TOKENS = Groups((130, 0, 5))
GRADS, INPUTS = columns(TOKENS, 64), columns(TOKENS, 128)
WRONG_WGRADS: dict[str, tuple[Callable[[], tuple[Columns, Columns, dict[str, Any]]], str]] = {
    "tokens of both": (
        lambda: (GRADS, columns(Groups((128,)), 128), {}), r"right.values: 128 tokens; left.values have 384"
    ),
    "tokens of no whole tile": (
        lambda: (replace(GRADS, values=empty(64, 100)), INPUTS, {}),
        r"left.values: shape \(64, 100\); multiples of 16 x 128 are wanted",
    ),
    "scales of rows": (
        lambda: (replace(GRADS, scales=GRADS.scales.t()), INPUTS, {}),
        r"left.scales: shape \(64, 3\); the other operands want \(3, 64\)",
    ),
    "counts": (
        lambda: (GRADS, INPUTS, {"groups": Groups((130, 0, 129))}),
        r"groups: 512 rows, each group padded to 128; the operands have 384",
    ),
    "shape of the result": (
        lambda: (GRADS, INPUTS, {"groups": TOKENS, "out": floats(3, 128, 64)}),
        r"out: shape \(3, 128, 64\); the other operands want \(3, 64, 128\)",
    ),
    "dtype of the result": (
        lambda: (GRADS, INPUTS, {"groups": TOKENS, "out": empty(3, 64, 128, dtype=torch.bfloat16)}),
        r"out: torch.bfloat16; torch.float32 is wanted",
    ),
    "nothing to add to": (
        lambda: (GRADS, INPUTS, {"groups": TOKENS, "accumulate": True}), r"accumulate: True without out"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_WGRADS)
def test_operands_of_a_weight_gradient_that_do_not_fit(wrong: str) -> None:
    make, told = WRONG_WGRADS[wrong]
    left, right, settings = make()
    with pytest.raises(CalibrationError, match=told):
        wgrad(left, right, **settings)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: fprop(LEFT.values, RIGHT), r"left: a Tensor; Rows of values and scales are wanted"),  # type: ignore[arg-type]
        (lambda: fprop(LEFT, GRADS), r"right: a Columns; Blocks of values and scales"),  # type: ignore[arg-type]
        (lambda: fprop(replace(LEFT, scales=None), RIGHT), r"left.scales: a NoneType; a tensor is wanted"),  # type: ignore[arg-type]
        (lambda: fprop(LEFT, RIGHT, [5, 0, 7]), r"groups: a list; ends in a tensor, Groups or None"),  # type: ignore[arg-type]
        (lambda: fprop(LEFT, RIGHT, GROUPS, out=1.0), r"out: a float; a tensor is wanted"),  # type: ignore[arg-type]
        (lambda: wgrad(None, INPUTS), r"left: a NoneType; Columns of values and scales"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_no_operand_is_told_of_by_its_name(call: Callable[[], Tensor], told: str) -> None:
    with pytest.raises(CalibrationError, match=told):
        call()


def test_a_lack_of_memory_is_no_lasting_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library is."""
    device, said = torch.device("cuda", 0), [torch.OutOfMemoryError("no memory"), OSError("no library")]
    tried: list[int] = []
    monkeypatch.setattr(products, "_LASTING", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: products.HOPPER)

    def probe(*_: object) -> None:
        tried.append(len(tried))
        raise said[min(len(tried), 2) - 1]

    monkeypatch.setattr(products, "_probe", probe)
    reasons = [products.reason_against_cuda(device, "gemm") for _ in range(3)]
    assert reasons == ["OutOfMemoryError: no memory", "OSError: no library", "OSError: no library"] and len(tried) == 2


def test_every_problem_is_told_at_once() -> None:
    left = replace(LEFT, scales=LEFT.scales.contiguous())
    with pytest.raises(CalibrationError) as caught:
        fprop(left, replace(RIGHT, scales=floats(E, 2, 1)), GROUPS)
    assert [problem.field for problem in caught.value.problems] == ["left.scales", "right.scales"]


@pytest.mark.parametrize("kernel", ["auto", "triton"])
def test_a_cpu_without_the_interpreter_is_told_of_it(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    products.reason_against_triton.cache_clear()
    with pytest.raises(CalibrationError, match="set TRITON_INTERPRET=1 before the start"):
        products.chosen(kernel, "gemm", CPU)
    products.reason_against_triton.cache_clear()


def test_scales_that_lie_as_wanted_are_not_copied() -> None:
    assert Rows.of(Quantised(LEFT.values, LEFT.scales, (1, 128))).scales is LEFT.scales


def test_sms_are_left_to_others_and_given_back() -> None:
    before = num_sms(CPU)
    with at_most_sms(1):
        assert num_sms(CPU) == 1
        with pytest.raises(CalibrationError, match="num_sms: 0 SMs run no kernel"):
            set_num_sms(0)
        with pytest.raises(CalibrationError, match=r"num_sms: 2\.5 SMs run no kernel"):
            set_num_sms(2.5)  # type: ignore[arg-type]
    assert num_sms(CPU) == before > 1
