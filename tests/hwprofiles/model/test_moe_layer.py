"""The MoE layer against a token and an expert at a time, and laws of routing."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwprofiles.calibration.counting.kept import saved_by, total_bytes
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import moe_reference
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.config import Activation, Ffn, Moe
from hwprofiles.calibration.model.dispatch import Dispatcher, LocalDispatch
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.recompute import checkpointed
from hwprofiles.calibration.numerics.numerics import Plain
from hwprofiles.calibration.numerics.recipes import numerics

HIDDEN = 6
CONFIG = Moe(8, 2, Ffn(4))
LIMITED = replace(CONFIG, num_groups=4, max_groups=2, score="sigmoid", has_bias=True, weight_scale=2.5)
CONFIGS = (
    CONFIG,
    LIMITED,
    replace(LIMITED, num_shared=2),
    replace(LIMITED, num_shared=1, expert=Ffn(4, "gelu", bias=True)),
    replace(CONFIG, expert=Ffn(4, "geglu", bias=True), score="sigmoid", is_normalised=False),
    replace(CONFIG, num_groups=4, max_groups=3, group_top=1, is_normalised=False, weight_scale=16.0, num_shared=1),
    replace(CONFIG, expert=Ffn(4, "relu2"), top_k=1),
    replace(CONFIG, has_bias=True, top_k=8),
)
OFF = Balancing("none")


def _seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def _drawn(*size: int, seed: int = 3) -> Tensor:
    return torch.randn(size, generator=_seed(seed), dtype=torch.float64)


def _layer(
    config: Moe, recipe: str = "float64", balancing: Balancing = OFF, dispatcher: Dispatcher | None = None
) -> MoeLayer:
    layer = MoeLayer(config, HIDDEN, numerics(recipe), balancing, dispatcher)
    initialise(layer, 0.5, 1)
    for number, (name, parameter) in enumerate(layer.named_parameters()):
        if name.endswith("bias"):
            parameter.data.copy_(_drawn(*parameter.shape, seed=10 + number))
    if config.has_bias:
        layer.router.bias.copy_(0.3 * _drawn(config.num_experts, seed=4))
    return layer


def _weights(layer: MoeLayer) -> Mapping[str, Tensor]:
    """Parameters, and the bias, by name: those that the plain form reads."""
    return dict(layer.named_parameters()) | dict(layer.named_buffers())


def _plain(x: Tensor, layer: MoeLayer) -> Tensor:
    weights, flat = _weights(layer), x.flatten(0, 1)
    y, chosen = moe_reference.moe(flat, weights, layer.config)
    assert chosen == layer.router(flat).experts.tolist()
    if layer.config.num_shared:
        y = y + moe_reference.shared(flat, weights, layer.config)
    return y.view(x.shape)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_output_and_gradients_are_those_of_a_token_and_an_expert_at_a_time(config: Moe) -> None:
    layer, x, grad = _layer(config), _drawn(2, 9, HIDDEN).requires_grad_(), _drawn(2, 9, HIDDEN, seed=5)
    inputs = (x, *layer.parameters())
    ours, plain = layer(x), _plain(x, layer)
    torch.testing.assert_close(ours, plain)
    expected = torch.autograd.grad(plain, inputs, grad, materialize_grads=True)
    for got, wanted in zip(torch.autograd.grad(ours, inputs, grad), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("recipe", "tolerance"), [("native", 0.01), ("bf16", 0.01), ("fp8-blockwise", 0.08), ("fp8-row", 0.08)]
)
def test_it_differs_by_the_formats_rounding(recipe: str, tolerance: float) -> None:
    config, hidden = replace(LIMITED, expert=Ffn(128), num_shared=1), 128
    formats = Plain("bf16", torch.bfloat16) if recipe == "native" else numerics(recipe)
    layer = MoeLayer(config, hidden, formats, OFF)
    initialise(layer, 0.1, 1)
    x = _drawn(2, 32, hidden).bfloat16()
    exact = MoeLayer(config, hidden, numerics("float64"), OFF)
    exact.load_state_dict({name: value.bfloat16().double() for name, value in layer.state_dict().items()})
    inputs = tuple(x.to(dtype).detach().clone().requires_grad_() for dtype in (formats.dtype, torch.float64))
    for each, value in zip((layer, exact), inputs, strict=True):
        each(value).backward(_drawn(2, 32, hidden, seed=5).bfloat16().to(value.dtype))
    assert torch.equal(
        *(each.router(value.flatten(0, 1)).experts for each, value in zip((layer, exact), inputs, strict=True))
    )
    pairs = [(layer(inputs[0]), exact(inputs[1])), (inputs[0].grad, inputs[1].grad)]
    pairs += [(one.grad, other.grad) for one, other in zip(layer.parameters(), exact.parameters(), strict=True)]
    for got, wanted in pairs:
        assert got is not None and wanted is not None
        assert (got.double() - wanted).norm() < tolerance * wanted.norm()


@settings(max_examples=15, deadline=None)
@given(
    tokens=st.integers(1, 12),
    seed=st.integers(0, 1000),
    groups=st.sampled_from([(1, 1), (4, 2), (8, 3)]),
    score=st.sampled_from(["sigmoid", "softmax"]),
)
def test_rows_are_conserved_and_order_does_not_matter(
    tokens: int, seed: int, groups: tuple[int, int], score: str
) -> None:
    config = replace(LIMITED, num_groups=groups[0], max_groups=groups[1], score=score)  # type: ignore[arg-type]
    layer, x = _layer(config), _drawn(1, tokens, HIDDEN, seed=seed)
    routing = layer.router(x[0])
    received = layer.dispatcher.dispatch(x[0], routing)
    assert received.rows.shape == (tokens * 2, HIDDEN) and received.counts.sum() == tokens * 2
    assert all(len(set(row)) == 2 for row in routing.experts.tolist())
    torch.testing.assert_close(routing.weights.sum(1), torch.full((tokens,), 2.5, dtype=torch.float64))
    y = layer(x)
    shuffled = torch.randperm(tokens, generator=_seed(seed))
    torch.testing.assert_close(layer(x[:, shuffled]), y[:, shuffled])
    assert layer.take_loads().sum() == 2 * 2 * tokens and not layer.take_loads().any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_experts_numbers_do_not_matter(seed: int) -> None:
    config = replace(LIMITED, num_groups=1, max_groups=1, expert=Ffn(4, bias=True))
    layer, x = _layer(config), _drawn(2, 7, HIDDEN, seed=seed)
    other, order = copy.deepcopy(layer), torch.randperm(8, generator=_seed(seed))
    for held in (other.router.weight, other.router.bias, *other.experts.parameters()):
        held.data.copy_(held.data[order])
    torch.testing.assert_close(other(x), layer(x))
    assert torch.equal(other.take_loads(), layer.take_loads()[order])


def test_all_tokens_may_go_to_one_expert() -> None:
    layer, x = _layer(replace(CONFIG, top_k=1, has_bias=True)), _drawn(2, 9, HIDDEN)
    layer.router.bias[5] = 10.0
    torch.testing.assert_close(layer(x), _plain(x, layer))
    assert layer.take_loads().tolist() == [0, 0, 0, 0, 0, 18, 0, 0]


@pytest.mark.parametrize(("rule", "weight"), [("bias", 0.2), ("aux_loss", 0.3)])
def test_the_balance_loss_reaches_the_router_and_nothing_else(rule: str, weight: float) -> None:
    config = replace(LIMITED, num_groups=1, max_groups=1)
    balancing = Balancing(rule, aux_weight=0.3, sequence_weight=0.2)  # type: ignore[arg-type]
    x, grads = _drawn(2, 9, HIDDEN), []
    for each in (balancing, OFF):
        layer = _layer(config, balancing=each)
        layer.loss_scale = 0.5
        layer(x).square().sum().backward()
        grads.append({name: parameter.grad for name, parameter in layer.named_parameters()})
    scores = layer.router(x.flatten(0, 1)).scores
    top = scores.detach().topk(2, dim=1).indices if rule == "bias" else layer.router(x.flatten(0, 1)).experts
    cuts = zip(scores.chunk(2), top.chunk(2), strict=True) if rule == "bias" else [(scores, top)]
    losses = [moe_reference.balance(part, chosen.tolist(), config) for part, chosen in cuts]
    (own,) = torch.autograd.grad(0.5 * weight * sum(losses[1:], losses[0]) / len(losses), layer.router.weight)
    for name, grad in grads[0].items():
        plain = grads[1][name]
        assert grad is not None and plain is not None
        torch.testing.assert_close(grad, plain + own if name == "router.weight" else plain)
    assert own.abs().max() > 1e-3


def test_a_recomputed_layer_counts_its_loads_once_and_gives_the_same_gradients() -> None:
    grads = []
    for is_again in (False, True):
        layer = _layer(replace(LIMITED, num_shared=1), balancing=Balancing("bias", sequence_weight=0.5))
        x = _drawn(2, 9, HIDDEN).requires_grad_()
        (checkpointed(layer, x) if is_again else layer(x)).square().sum().backward()
        assert layer.take_loads().sum() == 2 * 9 * 2
        grads.append([x.grad, *(parameter.grad for parameter in layer.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_kept_is_what_the_simulator_counts() -> None:
    """The tensors of simulator/workload/layers/moe.py; beside them only how often each sequence chose each expert."""
    config = replace(LIMITED, expert=Ffn(32), num_shared=2)
    layer, x = MoeLayer(config, 64, Plain("bf16", torch.bfloat16)), _drawn(2, 16, 64).bfloat16().requires_grad_()
    initialise(layer, 0.1, 1)
    with saved_by(layer) as saved:
        y = layer(x)
    tokens, rows, up, width = 32, 32 * 2, 2 * 32, 32
    scores_and_choice = 4 * tokens * 8 + 12 * rows
    routed = 8 * rows + 4 * rows + 2 * rows * (64 + up + width)
    shared = 2 * tokens * 2 * (up + width)
    assert (
        y.requires_grad
        and total_bytes(saved.kept()) == 2 * tokens * 64 + scores_and_choice + routed + shared + 4 * 2 * 8
    )


@pytest.mark.parametrize("names", [["swiglu"], ["shared_expert"], ["swiglu", "shared_expert"]])
def test_recomputing_parts_changes_no_number(names: list[str]) -> None:
    config = replace(LIMITED, num_shared=1)
    plain, x = _layer(config), _drawn(2, 9, HIDDEN).requires_grad_()
    layer = MoeLayer(config, HIDDEN, numerics("float64"), OFF, recompute=frozenset(names))
    layer.load_state_dict(plain.state_dict())
    grads = [torch.autograd.grad(each(x).square().sum(), (x, *each.parameters())) for each in (layer, plain)]
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_the_bias_moves_only_under_its_rule_and_is_no_parameter() -> None:
    loads = torch.tensor([9, 1, 1, 1, 1, 1, 1, 1])
    for rule, moves in (("bias", True), ("aux_loss", False), ("none", False)):
        layer = _layer(LIMITED, balancing=Balancing(rule, bias_rate=0.01))  # type: ignore[arg-type]
        before = layer.router.bias.clone()
        layer.update_bias(loads)
        moved = layer.router.bias - before
        torch.testing.assert_close(moved, torch.tensor([-0.01] + [0.01] * 7) * moves)
        assert not any("router.bias" in name for name, _ in layer.named_parameters())


def test_a_models_own_balancing_is_by_bias_where_its_router_has_one() -> None:
    assert MoeLayer(LIMITED, HIDDEN, numerics("float64")).balancing.rule == "bias"
    assert MoeLayer(CONFIG, HIDDEN, numerics("float64")).balancing.rule == "aux_loss"


class _Ranks(LocalDispatch):
    ranks, rank = 3, 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: _layer(CONFIG, dispatcher=_Ranks()),
            r"ranks: 3 ranks cannot share 8 experts evenly; allowed 1, 2, 4, 8",
        ),
        (
            lambda: _layer(CONFIG, balancing=Balancing("bias")),
            r"balancing\.rule: is 'bias', and the model's router has none",
        ),
        (
            lambda: _layer(CONFIG)(_drawn(2, 9, 7)),
            r"hidden_size: tokens of shape \(2, 9, 7\); allowed \(sequences, tokens, 6\)",
        ),
        (lambda: _layer(CONFIG)(_drawn(2, 0, 6)), r"hidden_size: tokens of shape \(2, 0, 6\); .* at least one token"),
        (lambda: _layer(replace(CONFIG, top_k=9)), r"moe\.top_k: 9 is more than the 8 experts of 1 of 1 groups"),
        (
            lambda: _layer(replace(LIMITED, num_groups=3)),
            r"moe\.num_expert_groups: 3 does not divide num_routed_experts 8",
        ),
        (lambda: _layer(CONFIG)(_drawn(9, 6)), r"hidden_size: tokens of shape \(9, 6\)"),
        (lambda: _layer(CONFIG)(_drawn(2, 9, 6) * float("nan")), r"router\.scores: is NaN for token 0 of 18"),
    ],
)
def test_what_cannot_be_is_one_clear_error(make: object, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        make()  # type: ignore[operator]


def test_an_activation_has_its_number_of_matrices() -> None:
    kinds: tuple[Activation, ...] = ("swiglu", "geglu", "gelu", "relu2")
    rows = [_layer(replace(CONFIG, expert=Ffn(4, kind))).experts.up.shape[1] for kind in kinds]
    assert rows == [8, 8, 4, 4]
