"""Balancing: closed forms of the losses, and the bias that moves against the load."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import moe_reference
from hwprofiles.calibration.model.attached import attach_loss
from hwprofiles.calibration.model.balance import Balancing, balance_loss, expert_loss, sequence_loss
from hwprofiles.calibration.model.config import Ffn, Moe
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.router import Router, Routing, best
from hwprofiles.calibration.numerics.recipes import numerics

CONFIG = Moe(8, 2, Ffn(8), has_bias=True, score="sigmoid")
EVEN = torch.arange(8).reshape(4, 2)
"""Four tokens that choose each of eight experts once."""


def _seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def _scores(tokens: int) -> Tensor:
    return torch.rand(tokens, 8, generator=_seed(1), dtype=torch.float64).add_(0.05)


def _routing(experts: Tensor, scores: Tensor) -> Routing:
    return Routing(experts, scores.gather(1, experts), scores)


def test_even_choice_or_even_scores_give_the_weight_itself() -> None:
    assert expert_loss(_routing(EVEN, _scores(4)), 0.3).item() == pytest.approx(0.3)
    uneven = torch.tensor([[0, 1]] * 4)
    assert expert_loss(_routing(uneven, torch.full((4, 8), 0.7)), 0.3).item() == pytest.approx(0.3)


def test_all_tokens_sure_of_the_same_experts_give_experts_over_top_k() -> None:
    scores = torch.zeros(4, 8)
    scores[:, :2] = 0.9
    assert expert_loss(_routing(torch.tensor([[0, 1]] * 4), scores), 0.3).item() == pytest.approx(0.3 * 8 / 2)
    assert sequence_loss(scores, 2, 0.3, 2).item() == pytest.approx(0.3 * 8 / 2)


def test_the_sequence_loss_sees_each_sequence_alone() -> None:
    scores = torch.zeros(8, 8)
    for token in range(8):  # of either sequence all tokens agree, the sequences do not
        scores[token, [0, 1] if token < 4 else [2, 3]] = 1.0
    experts = best(scores, 2)
    assert sequence_loss(scores, 2, 1.0, 2).item() == pytest.approx(4.0)
    assert expert_loss(_routing(experts, scores), 1.0).item() == pytest.approx(2.0)


def test_the_sequence_loss_counts_the_best_scores_without_bias_and_limit() -> None:
    scores = _scores(6)
    limited = replace(CONFIG, num_groups=4, max_groups=1)
    loss = balance_loss(
        _routing(torch.zeros(6, 2, dtype=torch.int64), scores), limited, Balancing(sequence_weight=1.0), 1
    )
    assert loss is not None
    torch.testing.assert_close(loss, moe_reference.balance(scores, best(scores, 2).tolist(), limited))


@pytest.mark.parametrize("num_sequences", [1, 3])
def test_losses_and_gradients_are_those_of_the_plain_formula(num_sequences: int) -> None:
    scores = _scores(12).requires_grad_()
    experts = best(torch.rand(12, 8, generator=_seed(2)), 2)
    ours = sequence_loss(scores, 2, 0.4, num_sequences) + expert_loss(_routing(experts, scores), 0.7)
    parts = [
        moe_reference.balance(part, best(part.detach(), 2).tolist(), CONFIG)
        for part in scores.split(12 // num_sequences)
    ]
    plain = 0.4 * sum(parts[1:], parts[0]) / num_sequences + 0.7 * moe_reference.balance(
        scores, experts.tolist(), CONFIG
    )
    torch.testing.assert_close(ours, plain)
    (got,), (expected,) = torch.autograd.grad(ours, scores), torch.autograd.grad(plain, scores)
    torch.testing.assert_close(got, expected)
    assert got.abs().max() > 1e-3


def test_the_loss_pushes_the_scores_of_a_full_expert_down() -> None:
    scores = torch.full((4, 8), 0.5, requires_grad=True)
    expert_loss(_routing(torch.tensor([[0, 1]] * 4), scores), 1.0).backward()
    assert scores.grad is not None
    assert (scores.grad[:, :2] > 0).all() and (scores.grad[:, 2:] < 0).all()


@pytest.mark.parametrize(("rule", "expected"), [("bias", "sequence"), ("aux_loss", "expert"), ("none", None)])
def test_each_rule_has_its_loss(rule: str, expected: str | None) -> None:
    scores, experts = _scores(4), torch.tensor([[0, 1]] * 4)
    loss = balance_loss(_routing(experts, scores), CONFIG, Balancing(rule, 0.1, 0.2, 0.3), 2)  # type: ignore[arg-type]
    if expected is None:
        assert loss is None
    elif expected == "sequence":
        assert loss is not None and torch.equal(loss, sequence_loss(scores, 2, 0.3, 2))
    else:
        assert loss is not None and torch.equal(loss, expert_loss(_routing(experts, scores), 0.2))


def test_a_loss_is_kept_without_another_copy_of_the_scores() -> None:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    scores = torch.rand(64, 8, generator=_seed(1)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sequence_loss(scores, 2, 1.0, 4)
    assert sum(kept.values()) == 64 * 8 * 4 + 4 * 8 * 4


def test_an_attached_loss_gets_its_scale_whatever_the_gradient_of_what_carries_it() -> None:
    y, inner = torch.ones(3, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    carried = attach_loss(y, inner.square(), 0.25)
    (carried * 7.0).sum().backward()
    assert y.grad is not None and y.grad.tolist() == [7.0] * 3
    assert inner.grad is not None and inner.grad.item() == pytest.approx(0.25 * 2 * 2.0)
    assert torch.equal(carried, y)


def test_the_bias_moves_by_the_rate_against_the_excess_load() -> None:
    router = Router(CONFIG, 4, numerics("float32"))
    router.update_bias(torch.tensor([9, 8, 7, 16, 0, 8, 8, 8]), 0.01)
    assert router.bias.tolist() == pytest.approx([-0.01, 0, 0.01, -0.01, 0.01, 0, 0, 0])
    router.update_bias(torch.full((8,), 3), 0.5)  # even load is the fixed point
    assert router.bias.tolist() == pytest.approx([-0.01, 0, 0.01, -0.01, 0.01, 0, 0, 0])


def test_a_mean_between_two_loads_moves_both() -> None:
    router = Router(CONFIG, 4, numerics("float32"))
    router.update_bias(torch.tensor([1, 2, 1, 2, 1, 2, 1, 2]), 0.1)
    assert router.bias.tolist() == pytest.approx([0.1, -0.1] * 4)


def test_the_bias_evens_the_load_of_a_router_that_does_not_learn() -> None:
    router = Router(CONFIG, 16, numerics("float32"))
    initialise(router, 0.4, 1)
    x = torch.randn(512, 16, generator=_seed(2)) + 0.7 * torch.randn(16, generator=_seed(3))

    def violation(loads: Tensor) -> float:
        return float(loads.max() / loads.double().mean() - 1.0)

    def loads() -> Tensor:
        return torch.bincount(router(x).experts.flatten(), minlength=8)

    before = violation(loads())
    for _ in range(150):
        router.update_bias(loads(), 0.005)
    assert before > 0.8 and violation(loads()) < 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rule": "bais"}, r"balancing\.rule: is 'bais'; allowed bias, aux_loss, none"),
        ({"bias_rate": -1.0}, r"balancing\.bias_rate: is -1\.0; a finite number"),
        ({"aux_weight": float("nan")}, r"balancing\.aux_weight: is nan"),
        ({"sequence_weight": float("inf")}, r"balancing\.sequence_weight: is inf"),
    ],
)
def test_what_is_no_balancing_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Balancing(**fields)  # type: ignore[arg-type]
