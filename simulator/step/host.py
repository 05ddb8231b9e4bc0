"""What it takes the host to issue a step, as the assembly asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hwprofiles.hosts import dispatch_range
from hwprofiles.hosts.own import in_a_pass, own_range
from hwprofiles.stack_records import Assumption, Stack
from simulator.assembly.host import OTHER, HostPlan, host_segment
from simulator.assembly.issue import NOTHING_ISSUED, UnitIssue
from simulator.assembly.tail import HostTail
from simulator.costs.host_issue import HostCosts, issue_s, preprocess_s, routed_s, unit_s
from simulator.scenario.hardware import node_of
from simulator.scenario.host import GraphScope
from simulator.scenario.host_rules import FULL, graph_scopes, host_syncs, waits_at_exchanges
from simulator.scenario.host_speed import HOST_SPEED, counts_functions, cpu_seconds
from simulator.scenario.own_host import own_costs
from simulator.scenario.scenario import Scenario
from simulator.step.host_layers import TorchLayers, torch_layers
from simulator.workload.host_calls import calls_of, graph_scope
from simulator.workload.op import AllToAll, BlockName, Op, Unit, Work

_BESIDE: Final[tuple[tuple[BlockName, GraphScope, bool], ...]] = (
    ("attn_f", "attn", False), ("attn_f", "moe_router", True), ("mlp_f_local", "mlp", False), ("mlp_f_routed", "moe", False),
    ("mlp_f_routed", "moe", True), ("attn_r", "attn", False), ("attn_r", "moe_router", True), ("mlp_r_local", "mlp", False),
    ("mlp_r_routed", "moe", False), ("mlp_r_routed", "moe", True), ("mlp_b_local", "mlp", False),
    ("mlp_b_routed", "moe", False), ("mlp_b_routed", "moe", True), ("attn_b", "moe_router", True), ("attn_b", "attn", False),
)  # fmt: skip
"""Where a layer does what no counted operator stands for: half of it in attention and half in the FFN or around the experts
(False); of what a layer with experts does more, half in the router's part and half around the experts (True).
"""
HOST_OTHER: Final = "host_other_s"
"""Assumption of what the host does between two steps."""
_PASSES: Final[tuple[tuple[str, ...], ...]] = (
    ("attn_f", "dispatch_f", "shared_f_up", "mlp_f_local", "mlp_f_routed", "combine_f", "shared_f_down"),
    (
        "combine_b_cast",
        "combine_b",
        "shared_b_down",
        "mlp_b_local",
        "mlp_b_routed",
        "dispatch_b",
        "shared_b_up",
        "attn_b",
    ),
)
"""Blocks and messages of a forward and of a backward, in the order of their issue."""


@dataclass(frozen=True)
class HostPrices:
    """Seconds of the host. plan: of what stands outside a unit's blocks. costs: of each kind of call; None: every kernel and
    collective takes plan.call_s. captured: scopes of a layer that one replay issues, together in each pass; is_whole: one
    issues all forwards and backwards. other_s: between two steps. in_model: what counted calls take over their costs, where
    they are all that a layer does; None: 1, and a layer does more. in_model_b: of backwards. layers: what layers take, where
    that was measured.
    """

    plan: HostPlan
    costs: HostCosts | None
    captured: frozenset[str] = frozenset()
    is_whole: bool = False
    other_s: float = 0.0
    in_model: float | None = None
    in_model_b: float | None = None
    layers: TorchLayers | None = None

    def unit(self, unit: Unit) -> UnitIssue:
        """What issuing a unit takes: its operators, its messages with what stands before them, and what a layer does beside
        its operators, which counts to the first one of a forward or backward.
        """
        if self.is_whole:
            return NOTHING_ISSUED
        replayed = self._replayed(unit) if self.captured else frozenset()
        blocks = self._blocks(unit)
        for issued in blocks.values():
            issued.update((each, 0.0) for each in issued if each in replayed)
        messages = {
            key: 0.0 if key in replayed else self._of_message(each, key) for key, each in unit.all_to_all.items()
        }
        self._add_replays(unit, replayed, blocks, messages)
        if self.costs is not None and self.in_model is None:
            for block, behind, seconds in _beside(unit, self.costs, self.captured):
                blocks[block][id(behind)] += seconds
        return UnitIssue(blocks, messages, self._ahead(unit, replayed))

    def _blocks(self, unit: Unit) -> dict[str, dict[int, float]]:
        """Block → operator, by the object → seconds of issuing it by itself."""
        if self.layers is not None and self.costs is not None:
            return self.layers.blocks(unit, self.costs)
        return {name: {id(each): self._of_work(each, name) for each in work} for name, work in unit.blocks.items()}

    def issues_as(self, other: HostPrices | None) -> bool:
        """Whether units and actions are issued in the same time in both."""
        return other is not None and replace(other, other_s=self.other_s) == self

    def of_actions(self) -> HostPlan | None:
        """What issues actions; None where one replay issues them all."""
        return None if self.is_whole else self.plan

    def tail(self, calls: int) -> HostTail:
        """What the host does at a step's end with so many collectives up to the norm: it issues them, reads the norm, issues
        the optimizer, and goes on when that is done.
        """
        call_s, sync_s = self.plan.call_s, self.plan.sync_s
        return HostTail(
            issue=None if self.is_whole or not calls else host_segment(calls * call_s),
            reads_norm=host_segment(sync_s + call_s),
            other=replace(host_segment(self.other_s), by_category={OTHER: self.other_s}) if self.other_s else None,
        )

    def _of_work(self, work: Work, block: str) -> float:
        if self.costs is not None:
            # What Python calls inside a function's gradient takes as long as in a forward.
            between = self.in_model_b if calls_of(work, block).is_backward else self.in_model
            return issue_s(work, block, self.costs) * (between or 1.0)
        return self.plan.call_s * _kernels(work)

    def _of_message(self, message: AllToAll, key: str) -> float:
        if self.costs is None:
            return self.plan.call_s
        return issue_s(message, key, self.costs)

    def _ahead(self, unit: Unit, replayed: frozenset[int | str]) -> dict[str, float]:
        """What stands between a router and its dispatch, unless a graph holds it."""
        if self.costs is None or "moe_preprocess" in self.captured:
            return {}
        return {
            key: preprocess_s(each, key, self.costs) for key, each in unit.all_to_all.items() if key not in replayed
        }  # fmt: skip

    def _replayed(self, unit: Unit) -> frozenset[int | str]:
        """The operators, by the object, and messages, by the key, that stand in a captured graph."""
        works = {
            id(each)
            for name, work in unit.blocks.items()
            for each in work
            if graph_scope(each, name, unit.kind) in self.captured
        }
        messages = {
            key for key, each in unit.all_to_all.items() if graph_scope(each, key, unit.kind) in self.captured
        }  # fmt: skip
        return frozenset((*works, *messages))

    def _add_replays(
        self, unit: Unit, replayed: frozenset[int | str], blocks: dict[str, dict[int, float]],
        messages: dict[str, float],
    ) -> None:  # fmt: skip
        """What a layer captures of a pass is contiguous and one graph (one a layer, pass and micro-batch: Megatron-LM,
        docs/discussions/deepseek-v3-gb200-optimization, 2.3): its first operator stands for it. Weight gradients, and what is
        computed again, are in the backward's.
        """
        forward = _PASSES[0]
        for of_pass in _PASSES:
            held = [key for key in replayed if isinstance(key, str) and (key in forward) == (of_pass is forward)]
            works = {
                id(each): _kernels(each)
                for name, work in unit.blocks.items()
                for each in work
                if id(each) in replayed and (name in forward) == (of_pass is forward)
            }
            seconds = self._replay_s(len(held) + sum(works.values()))
            for name in of_pass:
                if name in held:
                    messages[name] = seconds
                    break
                first = next((id(each) for each in unit.blocks.get(name, ()) if id(each) in works), None)  # type: ignore[call-overload]
                if first is not None:
                    blocks[name][first] = seconds
                    break

    def _replay_s(self, kernels: float) -> float:
        """Of a graph with so many kernels; a flat figure is of a call, whatever it launches."""
        if self.costs is None:
            return self.plan.call_s
        return self.costs.graph_s + kernels * self.costs.graph_node_s


def _kernels(work: Work) -> float:
    return work.shape.num_kernels if isinstance(work, Op) else 1


def _beside(unit: Unit, costs: HostCosts, captured: frozenset[str]) -> Iterator[tuple[BlockName, Work, float]]:
    """What a layer does beside its counted operators, outside captured graphs: (block, operator behind it, seconds)."""
    for block, scope, is_routed in _BESIDE:
        if scope in captured:
            continue
        work = unit.blocks.get(block, ())
        behind = next((each for each in work if graph_scope(each, block, unit.kind) == scope), None)
        if behind is not None:
            yield block, behind, (routed_s if is_routed else unit_s)(block, costs) / 2


def host_costs(scenario: Scenario, assumptions: Mapping[str, Assumption], stack: Stack) -> HostCosts:
    """Seconds of each kind of call by the way in which the scenario issues work: as measured on the stack's machine, where that
    is the node's, else on the node's processor.
    """
    own = own_costs(scenario, node_of(scenario), stack)
    if own is not None:
        return own_range(scenario.host.dispatch, own).value.times(assumptions[HOST_SPEED].value)
    costs = dispatch_range(scenario.host.dispatch).value
    return costs.times(cpu_seconds(scenario).value * assumptions[HOST_SPEED].value)


def host_prices(scenario: Scenario, assumptions: Mapping[str, Assumption], stack: Stack) -> HostPrices | None:
    """Of a scenario with its stack; None where nothing that a host does takes time."""
    call_s = scenario.host.launch_s
    if not scenario.mechanisms.host_stream or call_s == 0:
        return None
    costs = host_costs(scenario, assumptions, stack) if call_s is None else None
    flat_s = call_s or 0.0
    call, sync = (flat_s, flat_s) if costs is None else (costs.collective_s, costs.sync_s)
    plan = HostPlan(call, sync, host_syncs(scenario) > 0, waits_at_exchanges(scenario))
    is_whole = scenario.host.cuda_graph == FULL
    own, counts = own_costs(scenario, node_of(scenario), stack), counts_functions(scenario)
    forward, backward = (in_a_pass(own, backward=each).value if counts else None for each in (False, True))
    layers = torch_layers(scenario, own, assumptions[HOST_SPEED].value) if costs is not None else None
    return HostPrices(
        plan, costs, graph_scopes(scenario), is_whole, assumptions[HOST_OTHER].value, forward, backward, layers
    )  # fmt: skip
