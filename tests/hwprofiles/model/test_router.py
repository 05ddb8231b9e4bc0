"""The router: the rule that the simulator draws from is the rule that is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import moe_reference
from hwprofiles.calibration.model.config import Ffn, ModelConfig, Moe
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.router import Router, best, select
from hwprofiles.calibration.numerics.numerics import Plain
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.stack_choice import load_stack
from hwprofiles.yaml_file import read_yaml
from simulator import load_scenario
from simulator.network.placement import Lie
from simulator.scenario.assumptions import resolve_assumptions
from simulator.scenario.model_catalog import MODELS, load_model, model_names
from simulator.step import routing as asked
from simulator.workload.routing_rule import RoutingRule, select_experts
from simulator.workload.routing_scores import affinities, popularity, token_scores

FLAT = Moe(16, 4, Ffn(8))
LIMITED = Moe(32, 4, Ffn(8), num_groups=8, max_groups=4, score="sigmoid", has_bias=True, weight_scale=2.5)
RULES = (
    FLAT,
    LIMITED,
    replace(LIMITED, group_top=1, score="softmax"),
    replace(LIMITED, group_top=3, max_groups=2, top_k=5),
    replace(LIMITED, max_groups=1, top_k=3),
    replace(FLAT, top_k=16),
    replace(LIMITED, num_groups=32, max_groups=6, group_top=2, top_k=6),
)


def _seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def _router(config: Moe, hidden: int = 24, recipe: str = "float64", std: float = 0.3) -> Router:
    router = Router(config, hidden, numerics(recipe))
    initialise(router, std, 1)
    if config.has_bias:
        router.bias.copy_(0.2 * torch.randn(config.num_experts, generator=_seed(2)))
    return router


def _tokens(count: int, hidden: int = 24, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, hidden, generator=_seed(3), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("config", RULES, ids=str)
def test_the_choice_is_the_simulators(config: Moe) -> None:
    router = _router(config, recipe="float32")
    routing = router(_tokens(400, dtype=torch.float32))
    rule = RoutingRule(
        config.num_experts, config.top_k, ep=1, nodes=1, sequences=1, seq_len=1, groups=config.num_groups,
        max_groups=config.max_groups, group_top=config.group_top, score=config.score,
    )  # fmt: skip
    theirs = select_experts((routing.scores + router.bias).detach().numpy(), rule)
    assert np.array_equal(np.sort(routing.experts.numpy(), axis=1), np.sort(theirs, axis=1))
    assert config.top_k == config.num_experts or len({tuple(row) for row in np.sort(theirs, axis=1)}) > 20


@pytest.mark.parametrize("name", [name for name in model_names() if load_model(name).moe])
def test_a_model_of_the_catalogue_is_trained_by_the_rule_that_is_simulated(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step asks its router by the model's rule, and draws scores; the trained router chooses the same from them."""
    seen: list[RoutingRule] = []
    monkeypatch.setattr(asked, "routing_statistics", lambda rule, seed: seen.append(rule))
    scenario, model = load_scenario("deepseek-v3"), load_model(name)
    parallel = scenario.parallel.model_copy(update={"ep": 2})
    moe = scenario.moe.model_copy(update={"max_nodes_per_token": None})  # as the model's router was trained
    scenario = scenario.model_copy(update={"model": model, "parallel": parallel, "moe": moe})
    asked.ask_router(scenario, Lie(1, (2,)), resolve_assumptions(scenario, load_stack(scenario.stack)))
    rule, rng = replace(seen[0], popularity_cv=0.5, concentration=200.0), np.random.default_rng(1)
    weights = popularity(rule, rng).astype(np.float32) * affinities(rule, 64, rng)
    scores = token_scores(rule, weights, rng)
    layers = ModelConfig.of(read_yaml(MODELS / f"{name}.yaml").data).layers
    config = next(layer.ffn for layer in layers if isinstance(layer.ffn, Moe))
    assert config.score == rule.score
    ours, theirs = select(torch.from_numpy(scores), config).numpy(), select_experts(scores, rule)
    assert np.array_equal(np.sort(ours, axis=1), np.sort(theirs, axis=1))


@pytest.mark.parametrize("config", RULES, ids=str)
def test_the_choice_is_a_plain_sort_of_the_best_groups(config: Moe) -> None:
    biased = torch.randint(0, 5, (200, config.num_experts), generator=_seed(4)).double()  # with many ties
    expected = [moe_reference.chosen_experts(row, config) for row in biased.tolist()]
    assert select(biased, config).tolist() == expected


def test_of_equal_scores_the_first_expert_and_the_first_group_are_chosen() -> None:
    assert select(torch.zeros(2, 16), FLAT).tolist() == [[0, 1, 2, 3]] * 2
    scores = torch.zeros(1, 32)
    scores[0, [9, 30]] = 1.0  # groups 2 and 7 lead; of the others the first two
    assert select(scores, LIMITED).tolist() == [[9, 30, 0, 1]]
    assert best(torch.tensor([[1.0, 2.0, 2.0, 0.0]]), 3).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("is_normalised", [True, False])
def test_weights_are_scores_without_the_bias(is_normalised: bool) -> None:
    router = _router(replace(LIMITED, is_normalised=is_normalised))
    routing = router(_tokens(50))
    chosen = routing.scores.gather(1, routing.experts)
    expected = 2.5 * (chosen / chosen.sum(1, keepdim=True) if is_normalised else chosen)
    torch.testing.assert_close(routing.weights, expected)
    router.bias.zero_()
    without = router(_tokens(50))
    assert torch.equal(without.scores, routing.scores) and not torch.equal(without.experts, routing.experts)


@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
@pytest.mark.parametrize("is_normalised", [True, False])
def test_gradients_are_those_of_the_plain_formula(score: str, is_normalised: bool) -> None:
    config = replace(LIMITED, score=score, is_normalised=is_normalised)  # type: ignore[arg-type]
    router, x = _router(config, 6), _tokens(7, 6).requires_grad_()
    routing = router(x)
    of_weights = torch.randn(7, 4, generator=_seed(5), dtype=torch.float64)
    of_scores = torch.randn(7, 32, generator=_seed(6), dtype=torch.float64)
    ours = torch.autograd.grad(
        (routing.weights * of_weights).sum() + (routing.scores * of_scores).sum(), (x, router.weight)
    )
    scores = torch.stack([moe_reference.token_scores(token, router.weight, config) for token in x])
    weights = scores.gather(1, routing.experts)
    weights = 2.5 * (weights / weights.sum(1, keepdim=True) if is_normalised else weights)
    plain = torch.autograd.grad((weights * of_weights).sum() + (scores * of_scores).sum(), (x, router.weight))
    torch.testing.assert_close(routing.scores, scores)
    for got, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("native", [True, False])
def test_scores_are_in_fp32_from_bf16_operands(native: bool) -> None:
    formats = Plain("bf16", torch.bfloat16) if native else numerics("bf16")
    router = Router(LIMITED, 256, formats)
    initialise(router, 0.05, 1)
    x = _tokens(64, 256, torch.bfloat16).to(formats.dtype)
    operand = router.weight.detach().bfloat16().double()
    routing = router(x)
    assert routing.scores.dtype is routing.weights.dtype is torch.float32
    torch.testing.assert_close(routing.scores.double(), torch.sigmoid(x.double() @ operand.t()), rtol=1e-5, atol=1e-6)
    assert not torch.equal(routing.scores, routing.scores.bfloat16().float())


def test_kept_are_the_input_the_scores_and_what_was_chosen() -> None:
    router, x = Router(LIMITED, 64, Plain("bf16", torch.bfloat16)), _tokens(40, 64, torch.bfloat16)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        router(x.requires_grad_())
    kept.pop(router.weight.untyped_storage().data_ptr())
    assert sum(kept.values()) == 40 * (2 * 64 + 4 * 32 + 12 * 4)


def test_the_bias_has_no_gradient_and_is_no_parameter() -> None:
    router = _router(LIMITED)
    router(_tokens(9)).weights.square().sum().backward()
    assert [name for name, _ in router.named_parameters()] == ["weight"]
    assert router.bias.grad is None and not router.bias.requires_grad
    assert "bias" in router.state_dict()


@pytest.mark.parametrize("is_of_input", [True, False])
def test_nan_in_scores_is_one_clear_error(is_of_input: bool) -> None:
    router, x = _router(LIMITED), _tokens(9)
    with torch.no_grad():
        (x if is_of_input else router.weight)[5, 0] = float("nan")
    token = 5 if is_of_input else 0
    with pytest.raises(CalibrationError, match=rf"^router\.scores: is NaN for token {token} of 9: .* learning rate"):
        router(x)


def test_scores_that_underflow_give_weights_of_zero() -> None:
    router = _router(LIMITED, recipe="float32", std=1.0)
    x = torch.full((1, 24), -1e4)
    with torch.no_grad():
        router.weight.abs_()
    x.requires_grad_()
    weights = router(x).weights
    weights.sum().backward()
    assert not weights.any() and x.grad is not None and x.grad.isfinite().all()
