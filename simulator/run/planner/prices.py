"""Seconds of the parts of a model in a layout: FLOP, bytes and messages counted and priced as a step's are.

One of each kind of part is counted on one pipeline rank (`count_workload` of a model of few layers) and priced by the stack's
own kernels and messages, once for (tp, cp, ep, etp, micro-batch, recompute, whether parameters are gathered). How pipelines
compose these is `closed_form`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import comb, fsum
from typing import Final

from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.stack_records import Assumption
from simulator.assembly.exposed import UNCHUNKED, Beside, exposed, partner
from simulator.network.placement import GroupShape, Hop, place
from simulator.network.placement import Mesh as NetworkMesh
from simulator.run.planner.legal import Rules
from simulator.run.planner.space import LONE_SCHEDULE, Candidate, Mesh, Space
from simulator.scenario import derived
from simulator.scenario.model import ModelSpec
from simulator.scenario.scenario import Scenario
from simulator.step.hardware import Hardware, look_up, with_assumptions
from simulator.step.host import HostPrices, host_prices
from simulator.step.messages import MessagePrices, message_prices
from simulator.step.prepared import has_full_grid
from simulator.step.pricing import KernelPrices, kernel_prices
from simulator.workload.counted import recipe_of
from simulator.workload.op import Collective, Op, Unit, Work
from simulator.workload.stages import build_workload

FORWARD: Final = frozenset({"attn_f", "mlp_f_local", "mlp_f_routed", "shared_f_up", "shared_f_down"})
AGAIN: Final = frozenset({"attn_r", "mlp_r_local", "mlp_r_routed"})
WEIGHTS: Final = frozenset({"mlp_w", "attn_w", "shared_w_down", "shared_w_up"})


@dataclass(frozen=True, slots=True)
class PartSeconds:
    """Of one part and micro-batch. forward_s, again_s, input_s, weight_s: kernels and the collectives between them, of the
    forward, what is computed again, input and weight gradients; routed_s: of all these what grows with expert rows;
    sent_f_s, sent_b_s, sent_r_s: dispatch and combine; host_f_s, host_b_s: of the host.
    """

    forward_s: float = 0.0
    again_s: float = 0.0
    input_s: float = 0.0
    weight_s: float = 0.0
    routed_f_s: float = 0.0
    routed_b_s: float = 0.0
    sent_f_s: float = 0.0
    sent_b_s: float = 0.0
    sent_r_s: float = 0.0
    host_f_s: float = 0.0
    host_b_s: float = 0.0

    def __sub__(self, other: PartSeconds) -> PartSeconds:
        pairs = ((name, getattr(self, name) - getattr(other, name)) for name in self.__dataclass_fields__)
        return PartSeconds(**{name: max(0.0, value) for name, value in pairs})


def total_of(parts: Sequence[PartSeconds], share: int = 1) -> PartSeconds:
    """The sum of parts over `share`; of as many as there are, the mean part."""
    names = PartSeconds.__dataclass_fields__
    return PartSeconds(**{name: fsum(getattr(part, name) for part in parts) / share for name in names})


def few_layers(model: ModelSpec) -> tuple[ModelSpec, str]:
    """The model with one layer of each kind behind a first one, and the kinds (d or m) of these layers."""
    period = len(getattr(model.attention, "window_pattern", None) or "w")
    of_dense = (1 + period) if model.has_dense_layers else 0
    of_moe = (period + (of_dense == 0)) if model.moe is not None else 0
    found = model.model_copy(
        update={"num_layers": of_dense + of_moe, "num_dense_layers": of_dense, "layer_pattern": None}
    )
    return found, "d" * of_dense + "m" * of_moe


@dataclass
class PartPrices:
    """Seconds of parts for the meshes of a space."""

    space: Space
    rules: Rules
    assumptions: Mapping[str, Assumption]
    _known: dict[tuple[int, ...], dict[str, PartSeconds]] = field(default_factory=dict)
    _kernel_s: dict[tuple[KernelShape, float, Regime], float] = field(default_factory=dict)
    _host: dict[tuple[object, ...], tuple[float, float]] = field(default_factory=dict)

    @cached_property
    def hardware(self) -> Hardware:
        """Of the whole cluster; its placement is of one mesh and means nothing here."""
        lone = Candidate(1, 1, 1, 1, 1, 1, LONE_SCHEDULE, 1, 1, 0)
        return with_assumptions(look_up(self.space.scenario_of(lone)), self.assumptions)

    def messages(self, mesh: Mesh, scenario: Scenario) -> MessagePrices:
        """Message prices on the cluster's network, of groups that lie as a stage's do."""
        small = scenario.cluster.num_gpus
        degrees = {**mesh._asdict(), "pp": 1}
        placement = place(NetworkMesh(small, **degrees), self.space.domain, self.hardware.network.host_gpus)
        hardware = replace(self.hardware, placement=placement)
        before = next(iter(self._messages.values()), None)
        return message_prices(scenario, hardware, self.assumptions, before)

    @cached_property
    def _messages(self) -> dict[tuple[int, ...], MessagePrices]:
        return {}

    def messages_of(self, mesh: Mesh) -> MessagePrices:
        """The same, for collectives of data parallelism and transfers."""
        key = (mesh.tp, mesh.cp, mesh.ep, mesh.etp)
        if key not in self._messages:
            self._messages[key] = replace(
                self.messages(mesh, self.rules.small(mesh, 1)), has_transfers=self.space.scenario.mechanisms.pp_transfer
            )
        return self._messages[key]

    def parts(self, layout: Candidate, *, paired: bool) -> dict[str, PartSeconds]:
        """Code (E, d, m, mtp, L) → seconds of one. paired: beside another micro-batch's messages."""
        gathers = layout.zero_stage >= 3
        key = (*layout.mesh._replace(pp=1), layout.micro_batch_size, layout.recompute, gathers, paired)
        if key not in self._known:
            scenario = self.rules.small(
                layout.mesh, layout.micro_batch_size, layout.recompute, 3 if gathers else layout.zero_stage
            )
            self._known[key] = self._parts(layout.mesh, scenario, paired=paired)
        return self._known[key]

    def _parts(self, mesh: Mesh, scenario: Scenario, *, paired: bool) -> dict[str, PartSeconds]:
        model, kinds = few_layers(derived.padded_model(scenario))
        recipe = recipe_of(scenario, 1, None)
        ranks = mesh.ep * mesh.etp
        nodes = max(1, ranks // self.space.domain)
        if model.moe is not None and mesh.ep > 1:
            reach = reached(model, mesh.ep, nodes, scenario.moe.max_nodes_per_token)
            recipe = replace(recipe, nodes=nodes, nodes_per_token=reach[0], ranks_per_token=reach[1])
        codes = ["E", *kinds, "L", *["mtp"] * min(1, model.mtp.num_modules)]
        model = model.model_copy(update={"mtp": model.mtp.model_copy(update={"num_modules": codes.count("mtp")})})
        units = build_workload(model, [codes], recipe).stages[0].units
        pricing = _UnitPricing(self, scenario, self.messages(mesh, scenario), paired)
        found = [pricing.unit(unit) for unit in units]
        layers = len(kinds)
        parts = {"E": found[0] - found[1], "L": found[layers]}
        for kind in dict.fromkeys(kinds):
            alike = [each for each, of in list(zip(found, kinds, strict=False))[1:] if of == kind]
            parts[kind] = total_of(alike, len(alike))
        behind = found[layers + 1 :]
        if behind:
            parts["mtp"] = total_of(behind)
        return parts

    def kernels(self, scenario: Scenario, *, paired: bool) -> KernelPrices:
        """Kernel prices; paired: with communication kernels beside them."""
        key = (scenario.parallel.ep > 1, paired)
        if key not in self._kernels:
            before = next(iter(self._kernels.values()), None)
            self._kernels[key] = kernel_prices(
                scenario, self.hardware, self.assumptions, is_dispatching=key[0], full_grid=has_full_grid(scenario),
                before=before,
            )  # fmt: skip
        return self._kernels[key]

    @cached_property
    def _kernels(self) -> dict[tuple[bool, bool], KernelPrices]:
        return {}

    def kernel_s(self, kernels: KernelPrices, op: Op, regime: Regime) -> float:
        """Seconds of a kernel at speed 1, with the gaps behind its launches."""
        key = (op.shape, op.flop, regime)
        found = self._kernel_s.get(key)
        if found is None:
            found = kernels.seconds(op, regime).seconds + op.shape.num_kernels * kernels.gap_s
            self._kernel_s[key] = found
        return found

    def host_s(self, host: HostPrices | None, unit: Unit, mesh: Mesh, tag: tuple[object, ...]) -> tuple[float, float]:
        """Seconds of the host for a forward and a backward: of its calls, which the sizes of tensors do not change."""
        if host is None:
            return 0.0, 0.0
        key = (unit.kind, unit.name, mesh.tp > 1, mesh.cp, mesh.ep, mesh.etp > 1, *tag)
        if key not in self._host:
            issued = host.unit(unit)
            seconds = {name: fsum(each.values()) for name, each in issued.blocks.items()}
            sums = [0.0, 0.0]
            for name, value in seconds.items():
                sums[name not in FORWARD] += value
            for name, value in (*issued.messages.items(), *issued.ahead.items()):
                sums[not name.endswith("_f")] += value
            self._host[key] = (sums[0], sums[1])
        return self._host[key]

    def hop(self, mesh: Mesh) -> Hop:
        """From a pipeline rank to the next."""
        ranks, domain = self.space.num_gpus // mesh.pp, self.space.domain
        if self.space.num_gpus <= domain:
            return Hop(same_node=True, node_stride=0, senders=0)
        return Hop(same_node=False, node_stride=max(1, ranks // domain), senders=min(ranks, domain))

    def holders(self, mesh: Mesh, *, mirrored: bool) -> tuple[GroupShape, GroupShape]:
        """Ranks with the same dense parameters, and with the same routed experts."""
        ranks, times = self.space.num_gpus // mesh.pp, 2 if mirrored else 1
        return (
            _strided(ranks // mesh.tp, mesh.tp, self.space.domain, times),
            _strided(ranks // (mesh.ep * mesh.etp), mesh.ep * mesh.etp, self.space.domain, times),
        )


def _strided(count: int, stride: int, domain: int, times: int) -> GroupShape:
    """`count` ranks `stride` apart, and as many again on other nodes."""
    per_node = max(1, min(count, domain // stride))
    nodes = -(-count // per_node) * times
    return GroupShape(count * times, nodes, per_node, max(1, stride // domain) if nodes > 1 else 1)


def reached(model: ModelSpec, ep: int, nodes: int, max_nodes: int | None) -> tuple[float, float]:
    """Distinct nodes and ranks that hold the experts of a token which picks them at random, of as many nodes as it may."""
    moe = model.moe
    assert moe is not None
    allowed = nodes
    if nodes > 1:
        allowed = min(nodes, max_nodes or nodes)
        if moe.num_expert_groups > 1:
            allowed = min(allowed, max(1, -(-moe.max_groups_per_token * nodes // moe.num_expert_groups)))

    def distinct(places: int) -> float:
        pool = moe.num_routed_experts * allowed // nodes
        here = max(1, pool // places)
        missed = comb(pool - here, moe.top_k) / comb(pool, moe.top_k) if pool - here >= moe.top_k else 0.0
        return places * (1.0 - missed)

    return distinct(allowed), distinct(max(1, ep * allowed // nodes))


@dataclass
class _UnitPricing:
    """Prices of a mesh's units."""

    prices: PartPrices
    scenario: Scenario
    messages: MessagePrices
    paired: bool

    @cached_property
    def kernels(self) -> KernelPrices:
        return self.prices.kernels(self.scenario, paired=self.paired)

    @cached_property
    def host(self) -> HostPrices | None:
        return host_prices(self.scenario, self.prices.assumptions, self.prices.hardware.stack)

    def unit(self, unit: Unit) -> PartSeconds:
        """A layer or head."""
        regime: Regime = "overlapped" if self.paired else "alone"
        ops = {op.name: op for op in unit.ops()}
        sums = dict.fromkeys(("forward_s", "again_s", "input_s", "weight_s", "routed_f_s", "routed_b_s"), 0.0)
        for name, work in unit.blocks.items():
            if name == "combine_b_cast":
                continue
            into = (
                "forward_s" if name in FORWARD else "again_s" if name in AGAIN else "weight_s" if name in WEIGHTS
                else "input_s"
            )  # fmt: skip
            for each in work:
                seconds = self._seconds(each, ops, regime)
                sums[into] += seconds
                if each.routed:
                    sums["routed_f_s" if into == "forward_s" else "routed_b_s"] += seconds
        sent = {"f": 0.0, "b": 0.0, "r": 0.0}
        for key, message in unit.all_to_all.items():
            sent[key[-1]] += self.messages.all_to_all(message, regime).seconds
        plan = self.scenario.parallel
        mesh = Mesh(plan.tp, plan.cp, 1, plan.ep, plan.etp)
        tag = (self.scenario.recompute, plan.zero_stage >= 3)
        host = self.prices.host_s(self.host, unit, mesh, tag)
        return PartSeconds(
            **sums, sent_f_s=sent["f"], sent_b_s=sent["b"], sent_r_s=sent["r"], host_f_s=host[0], host_b_s=host[1]
        )

    def _seconds(self, work: Work, ops: Mapping[str, Op], regime: Regime) -> float:
        if isinstance(work, Op):
            return self.prices.kernel_s(self.kernels, work, regime)
        return self._collective_s(work, ops, regime)

    def _collective_s(self, collective: Collective, ops: Mapping[str, Op], regime: Regime) -> float:
        """What a collective inside a block adds to it."""
        cost = self.messages.collective(collective)
        if not cost.seconds or not collective.beside:
            return cost.seconds
        found = partner(collective, ops, UNCHUNKED, with_weights=True)
        if found is None:
            return cost.seconds
        stretch = cost.beside_s(self.messages.collective_stretch) / cost.seconds
        kernels = self.kernels
        beside = Beside(kernels.seconds(found, regime), kernels.beside_collective(found), stretch)
        return exposed(collective, cost, beside, UNCHUNKED).seconds
