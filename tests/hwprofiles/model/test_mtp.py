"""Multi-token prediction: which token each module reads and predicts, and what it shares with the main model."""

from __future__ import annotations

import pytest
import torch

from hwprofiles.calibration.model import naive_model
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.transformer import Losses, Model
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.tiny import deepseek, tokens

UNBALANCED = Balancing("none")


def _model(num_mtp: int) -> Model:
    return Model(deepseek(num_mtp), numerics("float64"), balancing=UNBALANCED)


def test_losses_and_gradients_of_two_modules_are_the_report_s() -> None:
    model, batch = _model(2), tokens(2, 7)
    losses = model(batch)
    expected = naive_model.losses(model, batch)
    for mine, other in zip((losses.main, *losses.mtp), expected, strict=True):
        assert float(mine.detach()) == pytest.approx(float(other.detach()), rel=1e-7)
    weights = list(model.parameters())
    ours = torch.autograd.grad(losses.total(0.5), weights)
    theirs = torch.autograd.grad(expected[0] + 0.25 * (expected[1] + expected[2]), weights)
    for (name, _), mine, other in zip(model.named_parameters(), ours, theirs, strict=True):
        assert (mine - other).norm() <= 1e-6 * other.norm(), name


def test_a_module_predicts_one_token_further() -> None:
    """The last token is the target of the last module's last position alone; the one before is module 1's, and read by 2."""
    model, batch = _model(2), tokens(1, 8)
    with torch.no_grad():
        before = model(batch)
        batch[0, -1] = (batch[0, -1] + 1) % 32
        after = model(batch)
    assert after.main == before.main and after.mtp[0] == before.mtp[0] and after.mtp[1] != before.mtp[1]


def test_a_module_has_no_embedding_and_no_head_of_its_own() -> None:
    main, more = _model(0), _model(1)
    layer = sum(weight.numel() for weight in main.layers[-1].parameters())
    own = 2 * 16 * 16 + 3 * 16
    assert sum(p.numel() for p in more.parameters()) == sum(p.numel() for p in main.parameters()) + layer + own
    more(tokens(1, 5)).mtp[0].backward()
    for shared in (more.embedding.weight, more.head.weight):
        assert shared.grad is not None and shared.grad.abs().sum() > 0
    assert more.head.norm.weight.grad is None, "the module's own norm stands before the head"


def test_the_weight_of_the_modules_is_shared_by_them() -> None:
    one, two, three = torch.tensor(1.0), torch.tensor(2.0), torch.tensor(4.0)
    assert float(Losses(one, (two, three)).total(0.3)) == pytest.approx(1 + 0.3 * 3)
    assert Losses(one).total() is one
