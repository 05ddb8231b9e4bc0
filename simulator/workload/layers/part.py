"""What a layout's codes stand for (embedding, layer, head …): one interface a kind, one file a kind, registered by its code.

Stages, memory, model state and model counts ask a part and know no code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from simulator.registry import Family
from simulator.scenario.model import ModelSpec
from simulator.workload.op import BlockName, Unit, Work
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory

Blocks = dict[BlockName, tuple[Work, ...]]
Vocabulary = Literal["embedding", "head"]
"""The matrices of vocabulary x hidden size; a tied head is the embedding."""

_FORWARD: tuple[BlockName, ...] = ("attn_f", "mlp_f_local", "mlp_f_routed", "attn_r", "mlp_r_local", "mlp_r_routed")


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters of something that every token passes: those of its GEMMs, and the others (norms, biases).

    replicated_gemm: of gemm, the weights that every rank of a tensor-parallel group has whole, as it has the others.
    cut_other: of other, what the ranks share (biases of column-parallel layers).
    """

    gemm: int
    other: int = 0
    replicated_gemm: int = 0
    cut_other: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.gemm + self.other

    @property
    def replicated(self) -> int:
        """Those that every rank of a tensor-parallel group has whole."""
        return self.other - self.cut_other + self.replicated_gemm

    def __add__(self, more: Weights) -> Weights:
        """Those of both."""
        return Weights(
            self.gemm + more.gemm,
            self.other + more.other,
            self.replicated_gemm + more.replicated_gemm,
            self.cut_other + more.cut_other,
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """How many ranks share the weights of the tensor-parallel GEMMs, and those of one routed expert."""

    tp: int = 1
    etp: int = 1


WHOLE = Shard()


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of a part on one rank of those that share its weights, over the whole expert group (counts, not bytes).

    dense: every replica of the stage holds them; replicated: of these, those that every rank of a tensor-parallel group has
    whole. expert: of all its routed experts; active_expert: of those that one token passes. gemm: weights of the GEMMs that
    one token passes, borrowed ones (a tied head, the head of an MTP module) included: each is two FLOP forward.
    """

    dense: int
    gemm: int
    expert: int = 0
    active_expert: int = 0
    replicated: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of part of a model.

    params(model, shard): its parameters on one of the ranks that share them; WHOLE: all of them.
    units(model, recipe): its units in forward order.
    saved(model, recipe): what its blocks keep of one micro-batch, in forward order.
    vocabulary(model): the vocabulary matrices that it computes with. holds: those that stand with it.
    series: its units' names end in the number of parts of the same series that stand before it; "": no number.
    num_attentions: attention cores that a token passes. joins_next: its one unit runs as a piece of the unit
    behind it, where its stage has one.
    is_behind_head: a module beside the main model, which runs behind the stage's other parts, wherever the layout writes it.
    """

    params: Callable[[ModelSpec, Shard], Params]
    units: Callable[[ModelSpec, Recipe], tuple[Unit, ...]]
    saved: Callable[[ModelSpec, ActivationRecipe], tuple[BlockMemory, ...]]
    vocabulary: Callable[[ModelSpec], frozenset[Vocabulary]] = lambda model: frozenset()
    holds: frozenset[Vocabulary] = frozenset()
    series: str = ""
    num_attentions: int = 0
    joins_next: bool = False
    is_behind_head: bool = False


PARTS: Family[Part] = Family("part of a model")


def joined(first: Unit, second: Unit) -> Unit:
    """The second unit with the first one's operators before its own in forward blocks and behind them in backward ones."""
    blocks = dict(second.blocks)
    for name, ops in first.blocks.items():
        own = blocks.get(name, ())
        blocks[name] = (*ops, *own) if name in _FORWARD else (*own, *ops)
    return replace(second, blocks=blocks)
