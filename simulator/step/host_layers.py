"""What layers of the torch model take the host, by small models measured on the stack's machine (hwprofiles/hosts/torch_model).

A layer's seconds of a pass are a dense layer's, and what its attention, its experts and what it computes again take more than
that one's. They are shared out to its operators in the ratio of their counted calls; so are seconds of what stands beside its
layer (a module that predicts further, an embedding), which thereby take as much over their calls as the layer's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, fsum
from typing import Final

from hwprofiles.hosts.torch_model import CHUNK, FEW_EXPERTS, MANY_EXPERTS, OF_LAYERS, PARTS, PASSES, key
from hwprofiles.stack_records import Parameter
from simulator.costs.host_issue import HostCosts, issue_s
from simulator.scenario.derived import num_micro_batches
from simulator.scenario.host_speed import has_layers
from simulator.scenario.model import ModelSpec
from simulator.scenario.scenario import Scenario
from simulator.workload.host_calls import is_backward
from simulator.workload.modules.moesim_fp8 import WEIGHT_CAST, WEIGHT_TURN
from simulator.workload.op import AllToAll, Op, Unit, Work

AGAIN: Final = ("attn_r", "mlp_r_local", "mlp_r_routed")
"""Blocks of what is computed again, of a layer that is so whole."""
OF_WEIGHTS: Final = {WEIGHT_CAST: "weight_f", WEIGHT_TURN: "weight_b"}
"""End of the name of what is made of a weight once a step → its seconds."""
SUM: Final = "_grad_sum"
"""End of the name of what torch adds to a gradient: no function of the model."""
BESIDE: Final = ("mtp_", "embedding")
"""Beginnings of the names of what a unit holds beside its layer."""


@dataclass(frozen=True)
class TorchLayers:
    """seconds: `<part>_<f or b>` → of a layer or head. alone: modules are computed again, and no whole layer is. first: share
    of the micro-batches in which weights are new.
    """

    seconds: Mapping[str, float]
    model: ModelSpec
    alone: bool
    first: float

    def blocks(self, unit: Unit, costs: HostCosts) -> dict[str, dict[int, float]]:
        """Block → operator, by the object → seconds of issuing it."""
        counted: dict[str, dict[int, float]] = {
            name: {id(each): self._alone(each, name, costs) for each in work} for name, work in unit.blocks.items()
        }
        factors = self._factors(unit, counted)
        return {
            name: {
                id(each): counted[name][id(each)] * (1.0 if _once(each) else factors[_pass(name)]) for each in work
            }
            for name, work in unit.blocks.items()
        }  # fmt: skip

    def _alone(self, work: Work, block: str, costs: HostCosts) -> float:
        of_weight = next((part for end, part in OF_WEIGHTS.items() if _name(work).endswith(end)), None)
        return issue_s(work, block, costs) if of_weight is None else self.seconds[of_weight] * self.first

    def _factors(self, unit: Unit, counted: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
        """Pass → seconds over those of counted calls."""
        own: dict[str, list[float]] = {"f": [], "b": [], "r": []}
        for name, work in unit.blocks.items():
            own[_pass(name)] += [
                counted[name][id(each)] for each in work if not (_once(each) or _name(each).startswith(BESIDE))
            ]
        totals = self._head(unit) if unit.kind == "head" else self._layer(unit, bool(own["r"]))
        sums = {way: fsum(each) for way, each in own.items()}
        return {way: totals[way] / sums[way] if sums[way] else 1.0 for way in own}

    def _head(self, unit: Unit) -> dict[str, float]:
        """Of a loss of as many chunks as the tokens have."""
        chunks = ceil(next(op.shape.m for op in unit.ops() if op.name == "head") / CHUNK)
        seconds = {way: self.seconds[f"head_{way}"] + (chunks - 1) * self.seconds[f"chunk_{way}"] for way in PASSES}
        return {**seconds, "r": 0.0}

    def _layer(self, unit: Unit, is_again: bool) -> dict[str, float]:
        seconds, of = {way: self._plain(unit, way) for way in PASSES}, self.seconds
        if is_again:
            again = (of["again_b"] - of["shared_b"]) / of["shared_f"]
            return {"f": seconds["f"] * of["again_f"] / of["shared_f"], "b": seconds["b"], "r": seconds["f"] * again}
        if self.alone:
            seconds = {way: each * of[f"parts_again_{way}"] / of[f"shared_{way}"] for way, each in seconds.items()}
        return {**seconds, "r": 0.0}

    def _plain(self, unit: Unit, way: str) -> float:
        """Of a layer none of which is computed again. What calls more functions takes no less: a difference below nothing is
        the host's unrest.
        """
        of = {part: self.seconds[f"{part}_{way}"] for part in OF_LAYERS}

        def over(part: str, plainer: str) -> float:
            return max(0.0, of[part] - of[plainer])

        more = [over(_attention(self.model), "dense")]
        if unit.kind == "moe" and self.model.moe is not None:
            moe = self.model.moe
            each = over("more_experts", "experts") / (MANY_EXPERTS - FEW_EXPERTS)
            more += [over("experts", "dense"), (moe.num_routed_experts - FEW_EXPERTS) * each]
            more += [over("biased", "experts")] if moe.router_bias else []
            more += [over("shared", "experts")] if moe.num_shared_experts else []
        return max(0.0, of["dense"] + fsum(more))


def torch_layers(scenario: Scenario, own: Mapping[str, Parameter] | None, times: float) -> TorchLayers | None:
    """None: of another software, or the stack has none of its recipe. own: parameters of a stack whose host costs serve; times:
    what all its seconds are to be multiplied by.
    """
    recipe = scenario.precision.recipe
    if own is None or not has_layers(scenario, own):
        return None
    seconds = {
        f"{part}_{way}": own[name].value * times
        for part in PARTS
        for way in PASSES
        if (name := key(recipe, part, way)) in own
    }
    alone = scenario.recompute.granularity == "selective"
    return TorchLayers(seconds, scenario.model, alone, 1.0 / max(1, num_micro_batches(scenario)))


def _attention(model: ModelSpec) -> str:
    """The part whose attention it is."""
    attention = model.attention
    if attention.kind == "mla":
        return "latent_q" if attention.q_lora_rank else "latent"
    return "qk_norm" if attention.qk_norm else "dense"


def _name(work: Work | AllToAll) -> str:
    return work.name if isinstance(work, Op) else ""


def _once(work: Work) -> bool:
    """Whether no function of the layer issues it in every micro-batch."""
    return _name(work).endswith((*OF_WEIGHTS, SUM))


def _pass(block: str) -> str:
    """f, b, or r: forward again."""
    return "r" if block in AGAIN else "b" if is_backward(block) else "f"
