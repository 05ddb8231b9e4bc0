"""How unevenly a micro-batch loads the ranks of an expert group.

Two terms, kept apart:
    noise       tokens of one sequence choose correlated experts: fresh in every micro-batch.
    persistent  what the balancing rule leaves between experts over whole batches: fixed in a step, by layer and rank.
Their sizes come from the simulated router (routing_model.py). The loads are drawn from gamma laws of those variances
(group_law.py), nodes first and then the ranks inside each: under node-limited routing the ranks of a node are hot
together. The group's sum is what the tokens sent: routing moves rows, it makes none.

A dispatch brings tokens, not rows: one copy a node over NICs, one copy a rank inside it (DeepEP). Where NICs bind it, its
time follows the load of the node; where the scale-up links or the copying SMs of one node do, the distinct tokens of the
rank. A combine waits for the fullest sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf, log, sqrt

import numpy as np
from numpy.typing import NDArray

from simulator.draws import generator
from simulator.workload.group_law import gamma_shape

PURPOSE_NOISE, PURPOSE_PERSISTENT = 1, 2
GRID = 4_096
"""Steps of the table of distinct tokens, over probabilities from 0 to 1."""
ROUNDING = 1e-9
"""Far above the rounding of a mean of ranks."""
LEAST_MISSED = 1e-6
"""Least share of tokens that never come to a rank: below it a rank has them all, however it is loaded."""


@dataclass(frozen=True, slots=True)
class TokenLaw:
    """Distinct tokens of a rank by its rows.

    A token has each of the rank's experts with the probability choice * rows over mean rows; it is there unless it has none:
    1 - (1 - choice * x) ** exponent. exponent: as many experts as the rank has, where a token's choices are independent.
    """

    choice: float
    exponent: float

    def tokens(self, load: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distinct tokens over their mean along the last axis. load: rows over mean rows, ranks along the last axis.

        By a table, for the same bits everywhere and for speed.
        """
        table = _visited(self.exponent)
        place = np.minimum(load * (self.choice * GRID), GRID)
        below = np.minimum(place.astype(np.int64), GRID - 1)
        found = table[below]
        found = found + (place - below) * (table[below + 1] - found)
        return np.asarray(found / found.mean(axis=-1, keepdims=True))


@lru_cache(maxsize=8)
def _visited(exponent: float) -> NDArray[np.float64]:
    """(GRID + 1,) share of the tokens that come, by choice * rows over mean rows from 0 to 1; not to be written to."""
    table = np.array([1.0 - (1.0 - i / GRID) ** exponent for i in range(GRID + 1)])
    table.setflags(write=False)
    return table


def token_law(num_experts: int, top_k: int, ranks: int, ranks_per_token: float) -> TokenLaw:
    """The law that gives an evenly loaded rank its share of ranks_per_token, the expected distinct ranks of a token."""
    choice, missed = top_k / num_experts, 1.0 - ranks_per_token / ranks
    if choice >= 1.0:
        return TokenLaw(1.0, 1.0)
    return TokenLaw(choice, log(max(missed, LEAST_MISSED)) / log(1.0 - choice))


@dataclass(frozen=True, slots=True)
class LoadedLinks:
    """What an exchange's time follows: seconds that grow with a node's load and with a rank's tokens, the larger being 1.

    fixed: share of the whole time that no load changes (latency, notification). by_rows: all ranks take as long as the one
    with most rows does, where each row is sent by itself to the rank of its expert.
    """

    node: float = 1.0
    rank: float = 0.0
    fixed: float = 0.0
    by_rows: bool = False


BY_NODE = LoadedLinks()


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Coefficients of variation of loads over mean loads in an expert group, and its size.

    noise_cv, persistent_cv: of a rank's rows. ranks, nodes: of the group. node_noise_cv, node_persistent_cv: of a node's
    rows; None: as the ranks of a node are when they do not depend on each other. tokens: distinct tokens by rows; None: as
    many. dispatch, combine: what their times follow.
    members, nic_weights: of a group whose nodes differ in members, by node: ranks, and load of its NICs over the busiest. There
    all ranks wait for the busiest NICs, which hold back whoever sends to them; nodes is then ranks.
    limit: most rows of a rank over the mean, where experts have a capacity.
    """

    noise_cv: float
    persistent_cv: float
    ranks: int
    nodes: int
    node_noise_cv: float | None = None
    node_persistent_cv: float | None = None
    tokens: TokenLaw | None = None
    dispatch: LoadedLinks = BY_NODE
    combine: LoadedLinks = BY_NODE
    members: tuple[int, ...] = ()
    nic_weights: tuple[float, ...] = ()
    limit: float = inf


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


def draw_loads(
    model: LoadModel, units: int, micro_batches: int, seed: int, draw: int, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(units, micro_batches, 3, ranks) over their means: rows of the lane's rank, time of a dispatch to it, and of a combine,
    which is that of the fullest sender.

    out: of that shape, where it is to be written. Raises InputError for a coefficient of variation that the group cannot have.
    """
    if out is None:
        out = np.empty((units, micro_batches, 3, model.ranks))
    load = np.ones((units, 1, model.ranks))
    terms = (
        (PURPOSE_PERSISTENT, model.persistent_cv, model.node_persistent_cv, 1),
        (PURPOSE_NOISE, model.noise_cv, model.node_noise_cv, micro_batches),
    )
    for purpose, cv, node_cv, fresh in terms:
        if cv > 0:
            drawn = group_loads(generator(seed, draw, purpose), cv, node_cv, model.ranks, model.nodes, (units, fresh))
            load = np.multiply(load, drawn, out=drawn)  # of all micro-batches behind the last term, if that is fresh
    load /= load.mean(axis=-1, keepdims=True)
    if load.shape[1] != micro_batches:
        load = np.repeat(load, micro_batches, axis=1)
    if model.limit < inf:
        load = _limited(load, model.limit)
    if model.members:
        node = _busiest_nics(model, load)
    else:
        node = load.reshape(units, micro_batches, model.nodes, model.ranks // model.nodes).mean(axis=-1)
    ranks = model.ranks // node.shape[-1]
    out[:, :, 0] = load
    if model.dispatch.by_rows:
        for place, links in ((1, model.dispatch), (2, model.combine)):
            out[:, :, place] = _time(links, load, load).max(axis=-1, keepdims=True)
        return out
    out[:, :, 1] = np.repeat(_time(model.dispatch, node), ranks, axis=-1)
    out[:, :, 2] = _time(model.combine, node).max(axis=-1, keepdims=True)
    matters = _tokens_matter(model, load, node)
    if matters.any():
        some, near = load[matters], np.repeat(node[matters], ranks, axis=-1)
        tokens = some if model.tokens is None else model.tokens.tokens(some)
        out[matters, 1] = _time(model.dispatch, near, tokens)
        out[matters, 2] = _time(model.combine, near, tokens).max(axis=-1, keepdims=True)
    return out


def _tokens_matter(model: LoadModel, load: NDArray[np.float64], node: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Groups in which some rank's distinct tokens may outweigh the least loaded node: (units, micro-batches).

    Tokens vary less than rows (the law is concave): none is above the fullest rank's rows over the mean.
    """
    by_rank = [links for links in (model.dispatch, model.combine) if links.rank > 0]
    matters = np.zeros(load.shape[:-1], dtype=bool)
    if by_rank:
        fullest, emptiest = load.max(axis=-1), node.min(axis=-1)
        for links in by_rank:
            matters |= links.rank * fullest * (1.0 + ROUNDING) > links.node * emptiest
    return matters


def _limited(load: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Loads of mean 1 along the last axis, none above the limit: what is cut goes where there is room."""
    cut = np.minimum(load, limit)
    room = limit - cut
    missing = 1.0 - cut.mean(axis=-1, keepdims=True)
    space = room.mean(axis=-1, keepdims=True)
    return np.asarray(cut + room * np.divide(missing, space, out=np.zeros_like(space), where=space > 0))


def _busiest_nics(model: LoadModel, load: NDArray[np.float64]) -> NDArray[np.float64]:
    """(…, ranks) load of the NICs that carry most, over that of even loads; load: (…, ranks)."""
    first = np.concatenate(([0], np.cumsum(model.members)[:-1]))
    node = np.add.reduceat(load, first, axis=-1) / np.array(model.members)
    busiest = (node * np.array(model.nic_weights)).max(axis=-1, keepdims=True)
    return np.broadcast_to(busiest, load.shape)


def _time(
    links: LoadedLinks, node: NDArray[np.float64], tokens: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Time of an exchange at each rank over that of even loads; tokens: None where no rank's count."""
    sent = links.node * node if tokens is None else np.maximum(links.node * node, links.rank * tokens)
    return np.asarray(links.fixed + (1.0 - links.fixed) * sent)


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
    rank *= node
    return rank.reshape(*shape, ranks)


def _shares(rng: np.random.Generator, gamma: float, shape: tuple[int, ...], axis: int) -> NDArray[np.float64]:
    """Gamma variates over their mean along the axis."""
    if gamma == inf:
        return np.ones(shape)
    drawn: NDArray[np.float64] = rng.standard_gamma(gamma, shape)
    drawn /= drawn.mean(axis=axis, keepdims=True)
    return drawn
