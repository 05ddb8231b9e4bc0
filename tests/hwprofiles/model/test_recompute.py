"""Recompute by named module: the same gradients, fewer bytes, and the products that are to run again run again."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch

from hwprofiles.calibration.counting.kept import saved_by, total_bytes
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import config
from hwprofiles.calibration.model.config import Layer, ModelConfig
from hwprofiles.calibration.model.recompute import MODULES, again, checkpointed, is_again
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.tiny import EXPERTS, deepseek, tokens

SETS = [*((name,) for name in MODULES), ("rmsnorm", "mla_up_proj", "swiglu"), MODULES[:-1], ("layer", "rmsnorm")]


def _gradients(recompute: Collection[str], recipe: str = "float32") -> list[torch.Tensor]:
    model = Model(deepseek(), numerics(recipe), recompute=recompute)
    model(tokens(2, 9)).total().backward()
    return [weight.grad for weight in model.parameters() if weight.grad is not None]


@pytest.fixture(scope="module")
def plain() -> list[torch.Tensor]:
    """Without recompute."""
    return _gradients(())


@pytest.mark.parametrize("recompute", SETS, ids=",".join)
def test_gradients_are_the_same_to_the_bit(recompute: tuple[str, ...], plain: list[torch.Tensor]) -> None:
    again_made = _gradients(recompute)
    assert len(again_made) == len(plain) > 40
    assert all(torch.equal(mine, other) for mine, other in zip(again_made, plain, strict=True))


def test_loads_are_counted_once() -> None:
    for recompute in ((), ("layer",), ("moe",)):
        model = Model(deepseek(0), numerics("float32"), recompute=recompute)
        model(tokens(2, 9)).total().backward()
        assert [int(layer.ffn.take_loads().sum()) for layer in model.layers[1:]] == [2 * 8 * 2] * 2


def _kept(recompute: Collection[str], ffn: config.Ffn | config.Moe) -> int:
    attention = config.Mla(4, 48, 32, 16, 8, 16)
    model = ModelConfig("m", 64, 128, (Layer(attention, ffn),))
    layer = Model(model, numerics("bf16", gemms="library"), recompute=recompute).layers[0]
    x = torch.zeros(2, 32, 64, dtype=torch.bfloat16, requires_grad=True)
    with saved_by(layer) as saved:
        held = layer(x)
    assert held.requires_grad
    return total_bytes(saved.kept())


T, H, WIDTH = 64, 64, 96
NORMS = 2 * T * (2 * H + 48 + 32)
DROPPED = {
    "rmsnorm": NORMS,
    "mla_up_proj": 2 * T * 4 * (24 + 24 + 16),
    "attention": 4 * T * 4,
    "swiglu": 2 * T * WIDTH,
    "mlp": 2 * T * 3 * WIDTH,
}
"""Bytes of one layer: BF16, t tokens; the log-sums of 4 heads in FP32."""


@pytest.mark.parametrize("module", sorted(DROPPED))
def test_what_a_module_makes_is_not_kept(module: str) -> None:
    dense = config.Ffn(WIDTH)
    assert _kept((), dense) - _kept((module,), dense) == DROPPED[module]


def test_of_a_whole_layer_its_input_is_kept() -> None:
    assert _kept(("layer",), config.Ffn(WIDTH)) == 2 * T * H
    assert _kept(("layer",), EXPERTS) == 2 * T * H


def test_modules_together_drop_what_each_drops() -> None:
    three = ("rmsnorm", "mla_up_proj", "swiglu")
    dense = config.Ffn(WIDTH)
    assert _kept((), dense) - _kept(three, dense) == sum(DROPPED[name] for name in three)


def test_dropped_is_made_again_once_for_all_that_ask_and_twice_for_two_backwards() -> None:
    calls: list[bool] = []
    x = torch.ones(3, requires_grad=True)

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(is_again())
        return 2 * x

    y = double(x)
    with again(double, (x,), (y,)):
        result = (y.square() + y.exp() * y).sum()
    result.backward(retain_graph=True)
    assert calls == [False, True] and not is_again()
    result.backward()
    assert calls == [False, True, True]
    other = torch.ones(3, requires_grad=True)
    ((2 * other).square() + (2 * other).exp() * 2 * other).sum().backward()
    assert x.grad is not None and other.grad is not None and torch.allclose(x.grad, 2 * other.grad)


def test_a_checkpoint_runs_to_its_end_again() -> None:
    calls: list[str] = []
    x = torch.ones(3, requires_grad=True)

    def both(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        calls.append("again" if is_again() else "first")
        return 2 * y

    checkpointed(both, x).sum().backward()
    assert calls == ["first", "again"]


def test_without_gradients_nothing_is_kept_for_later() -> None:
    with torch.no_grad():
        losses = Model(deepseek(), numerics("float32"), recompute=MODULES)(tokens(1, 4))
    assert not losses.main.requires_grad


def test_an_unknown_module_names_the_nearest() -> None:
    with pytest.raises(CalibrationError, match=r"recompute: 'rmsnrom' is no module.*rmsnorm"):
        Model(deepseek(), numerics("float32"), recompute=("rmsnrom",))
