"""The whole model: every model of the catalogue by its parameters, its parts one by one, a step of training, bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from ruamel.yaml import YAML

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import config, naive_model
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.config import Layer, ModelConfig
from hwprofiles.calibration.model.optimizer import AdamW, Settings, clip
from hwprofiles.calibration.model.router import Router
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from simulator.scenario.model_catalog import MODELS, load_model, model_names
from simulator.workload.model_counts import count_parameters
from tests.hwprofiles.model.tiny import deepseek, tokens

GPT = ModelConfig(
    "gpt",
    16,
    32,
    (
        Layer(config.Gqa(4, 2, 4, bias=True, sinks=True, window=3), config.Ffn(24, "geglu", bias=True)),
        Layer(config.Gqa(4, 2, 4, qk_norm=True), config.Moe(4, 2, config.Ffn(8, bias=True))),
    ),
    tied_embeddings=True,
    norm="layernorm",
    learned_positions=16,
    init_std=0.1,
)
UNBALANCED = Balancing("none")


@pytest.mark.parametrize("name", model_names())
def test_a_model_of_the_catalogue_has_the_parameters_that_the_simulator_counts(name: str) -> None:
    values = YAML(typ="safe").load(MODELS / f"{name}.yaml")
    model = Model(ModelConfig.of(values), numerics("bf16", "cuda"), device="meta")
    counts = count_parameters(load_model(name))
    routers = [part for part in model.modules() if isinstance(part, Router) and part.config.has_bias]
    # The simulator counts a router's bias, which the bias rule moves and no optimizer does: here a buffer.
    own = sum(weight.numel() for weight in model.parameters()) + sum(part.bias.numel() for part in routers)
    assert own == counts.num_parameters + counts.num_mtp_parameters
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("sizes", [deepseek(), GPT], ids=lambda sizes: sizes.name)
def test_losses_and_gradients_are_the_papers_token_by_token(sizes: ModelConfig) -> None:
    model, batch = Model(sizes, numerics("float64"), balancing=UNBALANCED, seed=2), tokens(2, 8)
    losses, expected = model(batch), naive_model.losses(model, batch)
    for mine, other in zip((losses.main, *losses.mtp), expected, strict=True):
        assert float(mine.detach()) == pytest.approx(float(other.detach()), rel=1e-7)
    weights = list(model.parameters())
    ours = torch.autograd.grad(losses.total(), weights)
    theirs = torch.autograd.grad(expected[0] + (0.3 * expected[1] if sizes.num_mtp else 0), weights)
    for (name, _), mine, other in zip(model.named_parameters(), ours, theirs, strict=True):
        assert (mine - other).norm() <= 1e-6 * other.norm() + 1e-12, name


def test_tied_embeddings_are_one_matrix_with_the_gradients_of_both() -> None:
    model, batch = Model(GPT, numerics("float64"), balancing=UNBALANCED), tokens(2, 8)
    apart = Model(replace(GPT, tied_embeddings=False), numerics("float64"), balancing=UNBALANCED)
    assert model.head.weight is model.embedding.weight and apart.head.weight is not apart.embedding.weight
    apart.load_state_dict(model.state_dict())
    (ours,) = torch.autograd.grad(model(batch).total(), [model.embedding.weight])
    parts = torch.autograd.grad(apart(batch).total(), [apart.embedding.weight, apart.head.weight])
    assert all(part.any() for part in parts)
    torch.testing.assert_close(ours, parts[0] + parts[1])


def test_stages_one_by_one_are_the_model() -> None:
    model, batch = Model(deepseek(2), numerics("float32")), tokens(2, 9)
    x, first = model.run(0, 2, None, batch)
    x, second = model.run(2, 5, x, batch)
    _, third = model.run(5, 7, x, batch)
    losses = model(batch)
    assert not first and len(second) == 1 and torch.equal(second[0], losses.main)
    assert len(third) == 2 and all(torch.equal(mine, other) for mine, other in zip(third, losses.mtp, strict=True))
    with pytest.raises(CalibrationError, match="x: is missing: part 1 goes on"):
        model.run(1, 2, None, batch)


@pytest.mark.parametrize("recipe", ["float32", "bf16"])
def test_some_steps_learn_a_pattern(recipe: str) -> None:
    model = Model(deepseek(), numerics(recipe), seed=1)
    optimizer = AdamW(model.parameters(), Settings(rate=0.02))
    batch = (torch.arange(12) * 3 % 8).repeat(4, 1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(batch).total()
        loss.backward()
        clip(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_emulated_bf16_rounds_what_float32_does_not() -> None:
    exact, rounded = (
        float(Model(deepseek(), numerics(recipe))(tokens(2, 9)).main.detach()) for recipe in ("float32", "bf16")
    )
    assert exact != rounded and rounded == pytest.approx(exact, rel=1e-2)


def test_native_bf16_stays_near_float32() -> None:
    native = Model(deepseek(), numerics("bf16", gemms="library"))
    loss = native(tokens(2, 9)).total()
    loss.backward()
    exact = float(Model(deepseek(), numerics("float32"))(tokens(2, 9)).total().detach())
    assert loss.dtype is torch.float32 and float(loss.detach()) == pytest.approx(exact, rel=2e-2)
    assert {weight.grad.dtype for weight in native.parameters() if weight.grad is not None} == {torch.float32}


def test_first_weights_follow_from_seed_and_name_alone() -> None:
    one, same, other = (
        dict(Model(deepseek(), numerics("float32"), seed=seed).named_parameters()) for seed in (4, 4, 5)
    )
    shorter = dict(Model(deepseek(0), numerics("float32"), seed=4).named_parameters())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert all(torch.equal(one[name], weight) for name, weight in shorter.items())
    for name, weight in one.items():
        if weight.ndim >= 2:
            assert not torch.equal(weight, other[name]), name
            assert 0.06 < float(weight.detach().std()) < 0.14, name
        else:
            assert weight.unique().numel() == 1, name
    up = one["parts.2.ffn.experts.up"]
    assert not torch.equal(up[0], up[1]), "two experts begin alike"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda batch: batch.int(), r"tokens: are int32 of shape \(2, 6\); int64"),
        (lambda batch: batch[0], r"tokens: are int64 of shape \(6,\); int64 of \(sequences, tokens\)"),
        (lambda batch: batch[:, :2], r"a sequence has at least 3: one read, 2 predicted"),
        (lambda batch: batch + 30, r"tokens: go from 3\d to \d+; the vocabulary to 31"),
    ],
)
def test_bad_tokens_are_named(change: Callable[[torch.Tensor], torch.Tensor], match: str) -> None:
    model = Model(deepseek(1), numerics("float32"))
    with pytest.raises(CalibrationError, match=match):
        model(change(tokens(2, 6)))


def test_the_shortest_sequence_is_read() -> None:
    losses = Model(deepseek(1), numerics("float32"))(tokens(1, 3))
    assert torch.isfinite(losses.total()) and len(losses.mtp) == 1
