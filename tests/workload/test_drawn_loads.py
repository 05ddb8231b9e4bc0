"""What is drawn of loads and speeds: means of one, the spread that was asked for, and what stays the same over a step."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from simulator import portable
from simulator.draws import generator
from simulator.workload import expert_load, gpu_speed, routing_model
from simulator.workload.balancing import tremor_cv
from simulator.workload.expert_load import LoadedLinks, LoadModel, TokenLaw, draw_loads
from simulator.workload.gpu_speed import SpeedGroups, draw_slowness
from simulator.workload.routing_model import Spread
from simulator.workload.routing_rule import RoutingRule


@pytest.mark.parametrize("cv", [0.01, 0.3])
def test_gpus_are_as_fast_as_their_mean_on_average(cv: float) -> None:
    drawn = draw_slowness(cv, 256, SpeedGroups(1, width=512), work=8, seed=1, draw=0).lanes
    assert drawn.mean() == pytest.approx(1.0, abs=4 * cv / np.sqrt(drawn.size))
    assert drawn.std() == pytest.approx(cv, rel=0.05)


def test_hot_experts_stay_hot_over_a_step_and_noise_does_not() -> None:
    """By layer: the persistent term is drawn once a unit, the fresh one in every micro-batch."""
    persistent = draw_loads(LoadModel(0.0, 0.3, ranks=8, nodes=2), units=3, micro_batches=5, seed=1, draw=0)[:, :, 0]
    assert np.array_equal(persistent, np.repeat(persistent[:, :1], 5, axis=1))
    assert not np.allclose(persistent[0], persistent[1])
    fresh = draw_loads(LoadModel(0.3, 0.0, ranks=8, nodes=2), units=3, micro_batches=5, seed=1, draw=0)[:, :, 0]
    assert not np.allclose(fresh[0, 0], fresh[0, 1])
    assert fresh.mean(axis=-1) == pytest.approx(np.ones((3, 5)))


def test_the_fullest_node_is_a_mean_over_its_ranks() -> None:
    loads = draw_loads(LoadModel(0.3, 0.2, ranks=8, nodes=2), units=1, micro_batches=4, seed=2, draw=0)
    rank, fullest = loads[:, :, 0], loads[:, :, 2]
    assert (fullest <= rank.max(axis=-1, keepdims=True)).all()
    assert (fullest >= 1.0 - 1e-12).all()


def test_fresh_and_persistent_loads_multiply() -> None:
    """Of one plus their variances: what is left of the spread is the whole one over what stays."""
    whole = Spread(between=0.2, inside=4.0, shares=np.array([[0.5, 1.5], [1.1, 0.9]]))
    left = whole.against(0.5)
    assert (left.between, left.inside) == pytest.approx((0.2 / 1.25, 4.0 / 1.25))
    typical = whole.shares.mean(axis=0)
    assert left.shares - typical == pytest.approx((whole.shares - typical) / np.sqrt(1.25))
    assert whole.variance(sequences=4, seq_len=100) == pytest.approx((0.2 + 4.0 / 100) / 4)
    assert whole.against(0.0).between == whole.between


def test_a_node_has_the_mean_of_its_ranks_and_routing_makes_no_rows() -> None:
    """Both terms together: the mean over the group stays 1, and the second and third rows follow from the first."""
    loads = draw_loads(LoadModel(0.4, 0.3, ranks=8, nodes=2), units=2, micro_batches=3, seed=3, draw=1)
    rank = loads[:, :, 0]
    assert rank.mean(axis=-1) == pytest.approx(np.ones((2, 3)), abs=1e-12)
    node = rank.reshape(2, 3, 2, 4).mean(axis=-1)
    assert loads[:, :, 1] == pytest.approx(np.repeat(node, 4, axis=-1))
    assert loads[:, :, 2] == pytest.approx(np.repeat(node.max(axis=-1, keepdims=True), 8, axis=-1))


def test_numbers_of_one_purpose_are_those_of_no_other() -> None:
    """Seeds, draws and purposes side by side: no two streams begin alike, and the same one begins alike again."""
    cases = list(product(range(3), (0, 1, 2, 15, 16, 255, 256, 4095), range(16)))
    first = [generator(*case).random() for case in cases]
    assert len(set(first)) == len(cases)
    assert [generator(*case).random() for case in cases[:16]] == first[:16]


def test_every_purpose_has_a_number_of_its_own() -> None:
    named = [
        value for module in (expert_load, gpu_speed, routing_model) for name, value in vars(module).items()
        if name.startswith("PURPOSE_")
    ]  # fmt: skip
    assert len(set(named)) == len(named) == 6
    assert all(0 <= purpose < 256 for purpose in named), "eight bits beside the number of the draw"


def test_fresh_and_persistent_loads_are_drawn_apart() -> None:
    one, other = (
        draw_loads(LoadModel(*cvs, ranks=8, nodes=2), units=1, micro_batches=1, seed=1, draw=0)[0, 0, 0]
        for cvs in ((0.3, 0.0), (0.0, 0.3))
    )
    assert not np.allclose(one, other)


@pytest.mark.parametrize("size", [(7,), (3, 4)])
def test_portable_functions_are_those_of_numpy_but_for_the_last_digit(size: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(size) + 0.5
    assert portable.exp(values) == pytest.approx(np.exp(values), rel=1e-14)
    assert portable.log(values) == pytest.approx(np.log(values), rel=1e-14)
    assert portable.power(values, 5) == pytest.approx(values**5, rel=1e-14)
    assert portable.dot(values.ravel(), values.ravel()) == pytest.approx((values * values).sum(), rel=1e-14)


def test_hot_ranks_of_independent_nodes_vary_by_their_number() -> None:
    """Of R loads whose sum is given, each of variance v, the mean of R/n of them has v (n - 1) / (R - 1)."""
    assert expert_load.independent_node_cv(0.3, ranks=8, nodes=2) == pytest.approx(0.3 * np.sqrt(1 / 7))
    assert expert_load.independent_node_cv(0.3, ranks=8, nodes=8) == pytest.approx(0.3)
    assert expert_load.independent_node_cv(0.3, ranks=1, nodes=1) == 0.0


def test_nodes_never_vary_more_than_their_ranks() -> None:
    """Asked for more, a node varies as a rank does: then its ranks are alike."""
    loads = draw_loads(LoadModel(0.3, 0.0, 8, 2, node_noise_cv=0.6), units=64, micro_batches=64, seed=1, draw=0)
    assert loads[:, :, 0] == pytest.approx(loads[:, :, 1])
    assert loads[:, :, 1].std() == pytest.approx(0.3, rel=0.05)


def test_one_rank_a_node_varies_as_the_rank() -> None:
    loads = draw_loads(LoadModel(0.3, 0.0, 4, 4, node_noise_cv=0.1), units=64, micro_batches=64, seed=1, draw=0)
    assert loads[:, :, 0].std() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("ep", [1, 2, 4, 8, 16])
def test_a_rank_is_as_hot_as_the_mean_of_its_experts(ep: int) -> None:
    """Of h of E experts taken without replacement: the variance of one, over h, times (E - h) / (E - 1)."""
    rule = RoutingRule(
        num_experts=16, top_k=2, ep=ep, nodes=1, sequences=4, seq_len=64, balance="natural", popularity_cv=0.8
    )  # fmt: skip
    stats, held = routing_model.routing_statistics(rule, 0), 16 // ep
    assert stats.persistent_expert_cv > 0.1
    assert stats.persistent_cv == pytest.approx(stats.persistent_expert_cv * np.sqrt((16 - held) / 15 / held))


@pytest.mark.parametrize("sequences", [1, 4, 16])
def test_independent_tokens_are_as_even_as_there_are_many(sequences: int) -> None:
    """Without variance between sequences: that of a token over all tokens, less the mean of the 8 ranks."""
    rule = RoutingRule(num_experts=16, top_k=2, ep=8, nodes=2, sequences=sequences, seq_len=64)
    even = Spread(between=0.0, inside=3.0, shares=np.ones((routing_model.SEQUENCES, 8)))
    nodes = Spread(between=0.0, inside=1.0, shares=np.ones((routing_model.SEQUENCES, 2)))
    loads = routing_model.micro_batch_loads(rule, even, nodes, 0)
    assert loads.mean(axis=1) == pytest.approx(np.ones(routing_model.MICRO_BATCHES))
    assert loads.std() == pytest.approx(np.sqrt(3.0 / (64 * sequences) * 7 / 8), rel=0.05)


def test_a_slow_rule_trembles_as_an_ornstein_uhlenbeck_process() -> None:
    """Pulled back by stride √(2/π) / batch noise a step, pushed by stride and drift: the variance is their squares' sum over
    twice the pull.
    """
    rule = RoutingRule(
        num_experts=1024, top_k=2, ep=8, nodes=2, sequences=4, seq_len=64, bias_update_rate=1e-4, popularity_drift_cv=2e-4
    )  # fmt: skip
    expected = np.sqrt((1e-4**2 + 2e-4**2) / (2 * 1e-4 * np.sqrt(2 / np.pi) / 0.5))
    assert tremor_cv(rule, 1.0, 0.5, generator(0, 0, 90)) == pytest.approx(expected, rel=0.08)


def test_what_heats_the_ranks_of_a_node_together_in_a_sequence_does_so_over_steps() -> None:
    """Tokens keep to two nodes of four: nodes are hotter than ranks that know nothing of each other would make them."""
    rule = RoutingRule(
        num_experts=32, top_k=4, ep=8, nodes=4, sequences=8, seq_len=256, groups=4, max_groups=2, concentration=50.0,
        balance="natural", popularity_cv=0.8,
    )  # fmt: skip
    stats = routing_model.routing_statistics(rule, 0)
    ratio = stats.node_persistent_cv / stats.persistent_cv
    assert expert_load.independent_node_cv(1.0, 8, 4) * 1.05 < ratio <= 1.0
    assert ratio == pytest.approx(stats.node_noise_cv / stats.noise_cv, rel=0.15)


@pytest.mark.parametrize("weight", [0.3, 0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("node_weight", [1.0, 0.7])
def test_an_exchange_takes_the_larger_of_its_node_s_load_and_its_rank_s_tokens(
    weight: float, node_weight: float
) -> None:
    """Group by group, whether tokens can outweigh nodes or not. Tokens by their law: 1 - (1 - x k/E) ** n."""
    law = TokenLaw(choice=1 / 16, exponent=3.0)
    links = LoadedLinks(node=node_weight, rank=weight, fixed=0.1)
    model = LoadModel(0.15, 0.1, 16, 4, 0.05, 0.04, tokens=law, dispatch=links, combine=links)
    drawn = draw_loads(model, 3, 40, seed=5, draw=0)
    rows = drawn[:, :, 0]
    node = np.repeat(rows.reshape(3, 40, 4, 4).mean(axis=-1), 4, axis=-1)
    visits = 1.0 - (1.0 - rows * law.choice) ** law.exponent
    tokens = visits / visits.mean(axis=-1, keepdims=True)
    time = 0.1 + 0.9 * np.maximum(node_weight * node, weight * tokens)
    assert drawn[:, :, 1] == pytest.approx(time, rel=1e-6)
    assert drawn[:, :, 2] == pytest.approx(np.broadcast_to(time.max(axis=-1, keepdims=True), time.shape), rel=1e-6)
