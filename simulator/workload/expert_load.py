"""How unevenly a micro-batch loads the ranks of an expert group (I1).

Two terms, kept apart:
    noise       tokens of one sequence choose correlated experts. A sequence's expert probabilities are Dirichlet with
                total concentration A, its choices multinomial; the load of a rank is the sum over the group's sequences. The
                share of a rank in one sequence has variance (1/R)(1 - 1/R)(1/(A+1) + 1/N); over S sequences the relative
                variance is (R - 1)/S * (1/(A+1) + 1/N), with R ranks and N choices a sequence.
    persistent  what the balancing rule leaves between experts over whole batches: fixed in a step, by layer and rank.
The rank loads are drawn from a gamma law of that relative variance (exact in the first two moments) and scaled so that the
group's sum is what the tokens sent: routing moves rows, it makes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from simulator.draws import generator

PURPOSE_NOISE, PURPOSE_PERSISTENT = 1, 2


@dataclass(frozen=True, slots=True)
class LoadModel:
    """noise_cv, persistent_cv: coefficients of variation of a rank's rows in a micro-batch. ranks, nodes: of the group."""

    noise_cv: float
    persistent_cv: float
    ranks: int
    nodes: int


def noise_cv(ranks: int, sequences: int, choices: int, concentration: float) -> float:
    """Coefficient of variation of a rank's rows in one micro-batch.

    ranks: of the expert group. sequences: in the group's micro-batch. choices: tokens × top_k of a sequence.
    concentration: A of the Dirichlet law; infinite gives independent tokens.
    """
    return sqrt((ranks - 1) / sequences * (1.0 / (concentration + 1.0) + 1.0 / choices))


def expert_cv_to_rank_cv(expert_cv: float, experts_per_rank: int) -> float:
    """Of independent experts, a rank holds the sum: its relative spread falls with the root of their number."""
    return expert_cv / sqrt(experts_per_rank)


def draw_loads(model: LoadModel, units: int, micro_batches: int, seed: int, draw: int) -> NDArray[np.float64]:
    """(units, micro_batches, 3, ranks): load over mean load of the lane's rank, of its node, and of the fullest node."""
    shape = (units, micro_batches, model.ranks)
    load = np.ones(shape)
    if model.persistent_cv > 0:
        load *= _gamma(generator(seed, draw, PURPOSE_PERSISTENT), model.persistent_cv, (units, 1, model.ranks))
    if model.noise_cv > 0:
        load *= _gamma(generator(seed, draw, PURPOSE_NOISE), model.noise_cv, shape)
    load /= load.mean(axis=-1, keepdims=True)
    node = load.reshape(*shape[:2], model.nodes, -1).mean(axis=-1)
    out = np.empty((units, micro_batches, 3, model.ranks))
    out[:, :, 0] = load
    out[:, :, 1] = np.repeat(node, model.ranks // model.nodes, axis=-1)
    out[:, :, 2] = node.max(axis=-1, keepdims=True)
    return out


def _gamma(rng: np.random.Generator, cv: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean 1, coefficient of variation cv."""
    return rng.standard_gamma(1.0 / cv**2, shape) * cv**2
