"""The torch model by this project's kernels: its values and gradients are those of the emulated recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.errors import EXIT_BAD_INPUT, CalibrationError
from hwprofiles.calibration.kernels import products, reference
from hwprofiles.calibration.kernels.operands import Blocks, Columns, Rows
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.blockwise import EmulatedBlockwise
from hwprofiles.calibration.numerics.blockwise_own import OwnBlockwise
from hwprofiles.calibration.numerics.comparing import SMALL, Shape, distance, products_of
from hwprofiles.calibration.numerics.fp8 import Fp8, Products
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.numerics.rounded import RoundedBf16
from hwprofiles.calibration.train import cli, loop
from hwprofiles.calibration.train.settings import MODEL, RUNS, Training
from tests.hwprofiles.model.tiny import deepseek, tokens

CPU = torch.device("cpu")


class InTorch:
    """What the kernels are to give, by the references; `calls` names each launch."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def product(self, left: Rows, right: Blocks, ends: Tensor, out: Tensor, num_sms: int) -> None:
        self.calls.append("product")
        out.copy_(reference.product(left, right, ends))

    def wgrad(self, left: Columns, right: Columns, ends: Tensor, out: Tensor, accumulate: bool, num_sms: int) -> None:
        self.calls.append("add" if accumulate else "wgrad")
        out.copy_(reference.wgrad(left, right, ends, out if accumulate else None))


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> InTorch:
    made = InTorch()
    monkeypatch.setattr(products, "chosen", lambda *_: "triton")
    monkeypatch.setattr(products, "_module", lambda *_: made)
    return made


def recipe(made: Products[Any, Any, Any]) -> Fp8:
    return Fp8("fp8-blockwise", made, RoundedBf16())


@pytest.mark.parametrize("shape", [*SMALL, Shape((16, 0, 1, 40), 136, 144), Shape((0,), 128, 128)])
def test_layers_are_the_emulated_ones_with_a_launch_a_product(shape: Shape, kernels: InTorch) -> None:
    ours, emulated = (products_of(recipe(each), shape, CPU) for each in (OwnBlockwise(CPU), EmulatedBlockwise()))
    for name, values in ours.items():
        assert values.shape == emulated[name].shape and distance(values, emulated[name]) < 1e-3, name
    assert kernels.calls == (["product"] * 2 + ["wgrad"] if sum(shape.counts) else ["wgrad"])


def test_a_models_gradients_are_the_emulated_ones(kernels: InTorch) -> None:
    batch, grads = tokens(2, 7), []
    for each in (OwnBlockwise(CPU), EmulatedBlockwise()):
        model = Model(deepseek(), recipe(each), seed=3)
        model(batch).total().backward()
        grads.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert kernels.calls.count("product") == 2 * kernels.calls.count("wgrad") > 20
    assert grads[0].keys() == grads[1].keys()
    for name, mine in grads[0].items():
        assert distance(mine, grads[1][name]) < 1e-3, name


@pytest.mark.parametrize("n", [48, 50])
@pytest.mark.parametrize("is_own", [True, False])
def test_a_second_gradient_is_added_where_the_first_lies(n: int, is_own: bool, kernels: InTorch) -> None:
    """n of 50 is padded to 64: added by torch."""
    formats = recipe(OwnBlockwise(CPU) if is_own else EmulatedBlockwise())
    formats.adds_gradients = True
    rows, weights = torch.randn(9, 32), torch.randn(2, n, 32).requires_grad_()
    once: list[Tensor] = []
    for scale in (1.0, 3.0):
        result = formats.grouped_linear(rows, weights, torch.tensor([4, 5]))
        result.backward(torch.full_like(result, scale))
        assert weights.grad is not None
        once = [*once, weights.grad, weights.grad.clone()]
    assert once[2] is once[0] and kernels.calls.count("add") == (is_own and n == 48)
    torch.testing.assert_close(once[3], 4 * once[1])


def test_unasked_no_gradient_is_added_behind_autograds_back(kernels: InTorch) -> None:
    formats = recipe(OwnBlockwise(CPU))
    weight = torch.randn(16, 32).requires_grad_()
    weight.grad = torch.full_like(weight, 7.0)
    (found,) = torch.autograd.grad(formats.linear(torch.randn(3, 32), weight).sum(), weight)
    assert found.any() and (weight.grad == 7).all() and "add" not in kernels.calls


@pytest.mark.slow
def test_a_training_with_own_products_is_that_with_emulated_ones(kernels: InTorch) -> None:
    training = Training(steps=1, seq_len=8, sequences=1)
    runs = [replace(RUNS["fp8"], gemms=gemms) for gemms in ("auto", "own")]  # type: ignore[arg-type]
    losses = [loop.train(MODEL, run, training, CPU, lambda *_: None).main for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert kernels.calls.count("add") == kernels.calls.count("wgrad") > 10, "of two micro-batches the second is added"


@pytest.mark.slow
def test_by_the_interpreter_a_layer_of_experts_is_the_emulated_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    if why := products.reason_against_triton(CPU):
        pytest.skip(why)
    from hwprofiles.calibration.kernels import triton_gemm, triton_wgrad

    small = triton_gemm.Tuned(rows=16, columns=32, warps=4)
    monkeypatch.setattr(triton_gemm, "tuned_for", lambda k: small)
    monkeypatch.setattr(triton_wgrad, "DEFAULT", small)
    shape = Shape((5, 0, 12), 32, 48)
    ours = products_of(recipe(OwnBlockwise(CPU)), shape, CPU)
    emulated = products_of(recipe(EmulatedBlockwise()), shape, CPU)
    assert all(distance(ours[name], emulated[name]) < 5e-3 for name in emulated)


def test_who_has_no_kernels_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    products.reason_against_triton.cache_clear()
    with pytest.raises(
        CalibrationError, match=r"kernel: 'auto': cpu has no FP8 gemm kernel .*needs a CUDA GPU; triton:"
    ):
        numerics("fp8-blockwise", "cpu", "own")
    assert cli.main(["--own", "--steps", "2"]) == EXIT_BAD_INPUT and "cpu has no FP8 gemm" in capsys.readouterr().err
    products.reason_against_triton.cache_clear()
    with pytest.raises(
        CalibrationError, match="gemms: 'own': this project has kernels of recipe 'fp8-blockwise' alone"
    ):
        numerics("fp8-row", "cpu", "own")
    assert isinstance(numerics("float32", "cpu", "own").plain.dtype, torch.dtype)
