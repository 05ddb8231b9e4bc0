"""How unevenly a micro-batch loads the ranks of an expert group.

Two terms, kept apart:
    noise       tokens of one sequence choose correlated experts: fresh in every micro-batch.
    persistent  what the balancing rule leaves between experts over whole batches: fixed in a step, by layer and rank.
Their sizes come from the simulated router (routing_model.py). The loads are drawn from gamma laws of those variances
(group_law.py), nodes first and then the ranks inside each: under node-limited routing the ranks of a node are hot
together. The group's sum is what the tokens sent: routing moves rows, it makes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from simulator.draws import generator
from simulator.workload.group_law import gamma_shape

PURPOSE_NOISE, PURPOSE_PERSISTENT = 1, 2


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Coefficients of variation of loads over mean loads in an expert group, and its size.

    noise_cv, persistent_cv: of a rank's rows. ranks, nodes: of the group. node_noise_cv, node_persistent_cv: of a node's
    rows; None: as the ranks of a node are when they do not depend on each other.
    """

    noise_cv: float
    persistent_cv: float
    ranks: int
    nodes: int
    node_noise_cv: float | None = None
    node_persistent_cv: float | None = None


def noise_cv(ranks: int, sequences: int, choices: int, concentration: float) -> float:
    """Coefficient of variation of a rank's rows in one micro-batch where choices are Dirichlet-multinomial.

    A rank's share of a sequence has variance (1/R)(1 - 1/R)(1/(A+1) + 1/N); over S sequences the relative variance is
    (R - 1)/S × (1/(A+1) + 1/N).
    ranks: R of the expert group. sequences: S in the group's micro-batch. choices: N, tokens × top_k of a sequence.
    concentration: A of the Dirichlet law; infinite gives independent tokens.
    """
    return sqrt((ranks - 1) / sequences * (1.0 / (concentration + 1.0) + 1.0 / choices))


def independent_node_cv(cv: float, ranks: int, nodes: int) -> float:
    """Coefficient of variation of the nodes' loads when the ranks' loads have cv and depend on each other only by their sum."""
    return cv * sqrt((nodes - 1) / (ranks - 1)) if ranks > 1 else 0.0


def draw_loads(model: LoadModel, units: int, micro_batches: int, seed: int, draw: int) -> NDArray[np.float64]:
    """(units, micro_batches, 3, ranks): load over mean load of the lane's rank, of its node, and of the fullest node.

    Raises InputError for a coefficient of variation that the group cannot have.
    """
    load = np.ones((units, micro_batches, model.ranks))
    terms = (
        (PURPOSE_PERSISTENT, model.persistent_cv, model.node_persistent_cv, 1),
        (PURPOSE_NOISE, model.noise_cv, model.node_noise_cv, micro_batches),
    )
    for purpose, cv, node_cv, fresh in terms:
        if cv > 0:
            load *= group_loads(generator(seed, draw, purpose), cv, node_cv, model.ranks, model.nodes, (units, fresh))
    load /= load.mean(axis=-1, keepdims=True)
    node = load.reshape(units, micro_batches, model.nodes, model.ranks // model.nodes).mean(axis=-1)
    out = np.empty((units, micro_batches, 3, model.ranks))
    out[:, :, 0] = load
    out[:, :, 1] = np.repeat(node, model.ranks // model.nodes, axis=-1)
    out[:, :, 2] = node.max(axis=-1, keepdims=True)
    return out


def group_loads(
    rng: np.random.Generator, cv: float, node_cv: float | None, ranks: int, nodes: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """(*shape, ranks) loads of mean 1 over the ranks, exact in the variance of the ranks' and of the nodes' loads."""
    variance = cv**2
    if node_cv is None or ranks == nodes:
        node_cv = independent_node_cv(cv, ranks, nodes)
    between = min(node_cv**2, variance)
    inside = (variance - between) / (1.0 + between)
    node = _shares(rng, gamma_shape(between, nodes), (*shape, nodes, 1), axis=-2)
    rank = _shares(rng, gamma_shape(inside, ranks // nodes), (*shape, nodes, ranks // nodes), axis=-1)
    return (node * rank).reshape(*shape, ranks)


def _shares(rng: np.random.Generator, gamma: float, shape: tuple[int, ...], axis: int) -> NDArray[np.float64]:
    """Gamma variates over their mean along the axis."""
    if gamma == inf:
        return np.ones(shape)
    drawn = rng.standard_gamma(gamma, shape)
    return np.asarray(drawn / drawn.mean(axis=axis, keepdims=True))
