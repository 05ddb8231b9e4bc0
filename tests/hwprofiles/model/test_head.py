"""The head's loss: its definition, its gradient, what it keeps; the embedding's errors."""

from __future__ import annotations

import math

import pytest
import torch

from hwprofiles.calibration.counting.kept import saved_by
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import config, head, naive
from hwprofiles.calibration.model.config import Layer, ModelConfig
from hwprofiles.calibration.model.embedding import Embedding
from hwprofiles.calibration.model.head import Head, cross_entropy
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.close import assert_same, drawn, normal

MODEL = ModelConfig("m", 12, 40, (Layer(config.Gqa(2, 2, 4), config.Ffn(8)),))


def _targets(*shape: int, vocab: int = 40) -> torch.Tensor:
    return torch.randint(0, vocab, shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several groups of rows, the last one not full."""
    monkeypatch.setattr(head, "ROWS", 4)


def test_the_loss_and_its_gradients_are_the_definition() -> None:
    layer, targets = drawn(Head(MODEL, numerics("float64"))), _targets(2, 5)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return naive.cross_entropy(naive.norm(layer.norm, x) @ layer.weight.T, targets)

    assert_same(lambda x: layer(x, targets), plain, [normal(2, 5, 12)], layer)


def test_the_gradient_is_that_of_small_steps() -> None:
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, _targets(6, vocab=5)), [normal(6, 5)])


def test_equal_logits_of_any_size_cost_the_logarithm_of_the_vocabulary() -> None:
    for value in (0.0, 80.0):
        assert float(cross_entropy(torch.full((3, 40), value), _targets(3))) == pytest.approx(math.log(40), rel=1e-5)


def test_bf16_logits_are_kept_once_and_the_loss_is_in_fp32() -> None:
    layer = drawn(Head(MODEL, numerics("bf16", gemms="library")))
    x = normal(2, 8, 12).detach().bfloat16().requires_grad_()
    with saved_by(layer) as saved:
        loss = layer(x, _targets(2, 8))
    exact = naive.cross_entropy(layer.logits(layer.norm(x)), _targets(2, 8))
    assert loss.dtype is torch.float32 and float(loss.detach()) == pytest.approx(float(exact.detach()), rel=1e-6)
    kept = sorted(each.num_bytes for each in saved.kept() if each.dtype is torch.bfloat16)
    assert kept == sorted([2 * 16 * 12, 2 * 16 * 12, 2 * 16 * 40])
    assert sum(each.num_bytes for each in saved.kept()) - sum(kept) == 16 * (4 + 4 + 8)  # norm, log-sum, target


def test_a_tied_head_is_the_embedding() -> None:
    embedding = Embedding(MODEL, numerics("float32"))
    assert Head(MODEL, numerics("float32"), embedding.weight).weight is embedding.weight


def test_learned_positions_are_added_and_their_end_is_named() -> None:
    model = ModelConfig("m", 6, 9, MODEL.layers, learned_positions=4)
    layer, tokens = drawn(Embedding(model, numerics("float64"))), torch.tensor([[1, 1, 1], [8, 0, 1]])
    assert layer.positions is not None
    assert torch.equal(layer(tokens)[0, 2], layer.weight[1] + layer.positions[2])
    with pytest.raises(CalibrationError, match="tokens: 5 a sequence; learned_positions has 4"):
        layer(torch.zeros(1, 5, dtype=torch.int64))


def test_tokens_outside_the_vocabulary_are_named() -> None:
    layer = Embedding(MODEL, numerics("float32"))
    for bad in (-1, 40):
        with pytest.raises(CalibrationError, match=r"tokens: go from -?\d+ to \d+; the vocabulary to 39"):
            layer(torch.tensor([[3, bad]]))


def test_tokens_elsewhere_are_named() -> None:
    with pytest.raises(CalibrationError, match="tokens: are on meta, the model on cpu; move them there"):
        Embedding(MODEL, numerics("float32"))(torch.zeros(1, 2, dtype=torch.int64, device="meta"))


def test_targets_of_another_shape_are_named() -> None:
    with pytest.raises(CalibrationError, match=r"targets: have shape \(2, 4\); .* need \(2, 5\)"):
        cross_entropy(torch.zeros(2, 5, 40), _targets(2, 4))
