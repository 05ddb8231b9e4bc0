"""Feed-forward networks whose kernels quantise on the way: values and gradients are those of the emulated recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernels import products
from hwprofiles.calibration.model.config import Ffn as FfnConfig
from hwprofiles.calibration.model.config import Moe
from hwprofiles.calibration.model.ffn import Ffn
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.numerics import blockwise_library, blockwise_own, gated
from hwprofiles.calibration.numerics.blockwise import EmulatedBlockwise
from hwprofiles.calibration.numerics.blockwise_own import OwnBlockwise
from hwprofiles.calibration.numerics.comparing import distance
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.numerics import Plain
from tests.hwprofiles.kernels.test_fp8_own import InTorch

pytest.importorskip("triton")

from hwprofiles.calibration.kernels import streams

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(bool(why := products.reason_against_triton(CPU)), reason=f"not interpreted here: {why}")
HIDDEN, WIDTH, TOKENS = 72, 128, 6
MOE = Moe(expert=FfnConfig(width=WIDTH), num_experts=3, top_k=2, num_shared=0)


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> InTorch:
    """Products by the references; streaming kernels interpreted."""
    made = InTorch()
    monkeypatch.setattr(products, "chosen", lambda *_: "triton")
    monkeypatch.setattr(products, "_module", lambda *_: made)
    for module in (blockwise_library, blockwise_own, gated):
        monkeypatch.setattr(module, "fused_kernels", lambda device: streams)
    return made


def by(products_: OwnBlockwise | EmulatedBlockwise) -> Fp8:
    return Fp8("fp8-blockwise", products_, Plain("bf16", torch.bfloat16))


def passed(make: Callable[[Fp8], nn.Module], formats: Fp8) -> dict[str, Tensor]:
    """Result and gradients of a layer on random tokens."""
    layer = make(formats)
    initialise(layer, 0.05, 3)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, TOKENS, HIDDEN, generator=generator).bfloat16().requires_grad_()
    result = layer(x)
    result.backward(torch.randn(result.shape, generator=generator).bfloat16())
    assert x.grad is not None
    found = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
    return {"result": result.detach(), "x": x.grad, **found}


LAYERS: dict[str, Callable[[Fp8], nn.Module]] = {
    "dense": lambda formats: Ffn(FfnConfig(width=WIDTH), HIDDEN, formats),
    "dense, product again": lambda formats: Ffn(FfnConfig(width=WIDTH), HIDDEN, formats, frozenset({"swiglu"})),
    "experts": lambda formats: MoeLayer(MOE, HIDDEN, formats),
}


@pytest.mark.parametrize("name", ["dense", pytest.param("dense, product again", marks=pytest.mark.slow), "experts"])
def test_a_network_is_that_of_its_parts(name: str, kernels: InTorch, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    whole = gated.gated
    for module in ("ffn", "experts"):
        path = f"hwprofiles.calibration.model.{module}.gated"
        monkeypatch.setattr(path, lambda *a, **k: asked.append(a[1]) or whole(*a, **k))
    ours, emulated = (passed(LAYERS[name], by(each)) for each in (OwnBlockwise(CPU), EmulatedBlockwise()))
    assert len(asked) == 1 and kernels.calls.count("product") == 4 and kernels.calls.count("wgrad") == 2
    assert ours.keys() == emulated.keys()
    for key, found in ours.items():
        assert distance(found, emulated[key]) < 1e-3, key


def test_other_networks_are_not_gated() -> None:
    formats = by(OwnBlockwise(CPU))
    assert gated.can_gate(formats, WIDTH, CPU) and not gated.can_gate(by(EmulatedBlockwise()), WIDTH, CPU)
    assert not gated.can_gate(formats, WIDTH + 64, CPU) and not gated.can_gate(formats.plain, WIDTH, CPU)
    for other in (replace(MOE, clamp=7.0), replace(MOE, expert=FfnConfig(width=WIDTH, activation="geglu"))):
        assert not MoeLayer(other, HIDDEN, formats).experts.is_gated(CPU)
    assert MoeLayer(MOE, HIDDEN, formats).experts.is_gated(CPU)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"down": torch.zeros(3, HIDDEN, 2 * WIDTH)}, r"up: shape \(3, 256, 72\); x .* want \(3, 512, 72\)"),
        ({"x": torch.zeros(12, 80)}, r"down: shape \(3, 72, 128\); x \(12, 80\)"),
        ({"counts": (4, 4, 5)}, "counts: 13 rows together; x has 12"),
        ({"counts": (-1, 8, 5)}, "counts: -1 rows of a group"),
        ({"row_weights": torch.ones(11)}, r"row_weights: shape \(11,\); \(12,\) is wanted"),
        ({"places": gated.Places(torch.zeros(12, 2), torch.zeros(24))}, "counts: 12 rows together; places have 24"),
    ],
)
def test_networks_whose_parts_do_not_fit_are_refused(more: dict[str, object], told: str) -> None:
    given = {
        "x": torch.zeros(12, HIDDEN), "up": torch.zeros(3, 2 * WIDTH, HIDDEN), "down": torch.zeros(3, HIDDEN, WIDTH),
        "counts": (4, 0, 8),
    }  # fmt: skip
    with pytest.raises(CalibrationError, match=told):
        gated.gated(by(OwnBlockwise(CPU)), **{**given, **more})  # type: ignore[arg-type]
