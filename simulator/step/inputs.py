"""A scenario turned into what the assembly takes: hardware, counted work, and functions that give seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from hwprofiles import catalog
from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.parameters import need
from hwprofiles.kernels.shape import KERNELS, KernelShape, Regime
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.schema import Assumption, Gpu, Stack
from simulator.assembly.chunks import Segment, StageCost
from simulator.assembly.tail import TailCosts
from simulator.assembly.unit_costs import CostFunctions, add_segments, stage_costs
from simulator.costs.collectives.all_to_all import all_to_all_cost, notify_floor
from simulator.costs.collectives.p2p import p2p_cost
from simulator.costs.collectives.ring import RingOp, ring_cost
from simulator.costs.collectives.tree import scalar_all_reduce_cost
from simulator.costs.cost import CollectiveCost, weakest
from simulator.network.placement import GroupShape, Mesh, Placement, place
from simulator.network.topology import Network, build_network
from simulator.scenario import derived
from simulator.scenario.assumptions import resolve_assumptions
from simulator.scenario.hardware import fabric_of, gpu_of, node_of
from simulator.scenario.model import ModelSpec
from simulator.scenario.plan import LoadImbalance
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.workload.counting import moved
from simulator.workload.expert_load import LoadModel
from simulator.workload.group_law import cv_of_maximum
from simulator.workload.op import AllToAll, Op, StageWorkload, Workload
from simulator.workload.recipe import Recipe
from simulator.workload.routing_model import RoutingStatistics, routing_statistics
from simulator.workload.routing_rule import Balance, RoutingRule, grouping
from simulator.workload.stages import build_workload

MAX_REPLICAS = 64
"""Data-parallel replicas simulated where no expert group ties them together: the maximum over more grows slowly."""
DATA_PARALLEL, OPTIMIZER = "data_parallel", "optimizer"
GRADIENT_BYTES = {"fp32": 4, "bf16": 2}
MOMENT_BYTES = {"adamw-bf16-moments": 2, "adamw-fp32-moments": 4}


@dataclass(frozen=True)
class StepInputs:
    """A scenario with its hardware looked up and its assumptions resolved. Derived values are computed on first use."""

    scenario: Scenario
    gpu: Gpu
    stack: Stack
    network: Network
    placement: Placement
    assumptions: Mapping[str, Assumption]

    @property
    def model(self) -> ModelSpec:
        """The model, its vocabulary padded as the head pads it."""
        model, pad = self.scenario.model, self.scenario.head.vocab_padding
        return model.model_copy(update={"vocab_size": -(-model.vocab_size // pad) * pad})

    @cached_property
    def is_on(self) -> Mapping[str, bool]:
        """Mechanism → whether it is on."""
        return self.scenario.mechanisms.model_dump()

    @cached_property
    def recipe(self) -> Recipe:
        """One rank's micro-batch, its formats and its expert group."""
        s, group = self.scenario, self.placement.ep
        routing = self.routing
        spread = (routing.nodes_per_token, routing.ranks_per_token) if routing else (1.0, 1.0)
        modules = s.recompute.modules if s.recompute.granularity == "selective" else ()
        is_fp8 = s.precision.recipe == "fp8-blockwise"
        return Recipe(
            batch=s.training.micro_batch_size, seq=s.training.seq_len, gemm_dtype="fp8-block" if is_fp8 else "bf16",
            dispatch_fp8=s.moe.dispatch_dtype == "fp8", recompute=frozenset(modules),
            save_attn_out_e5m6=s.recompute.saved.attn_out == "e5m6",
            save_swiglu_fp8=s.recompute.saved.swiglu_in == "fp8", ep=s.parallel.ep, nodes=group.nodes,
            nodes_per_token=spread[0], ranks_per_token=spread[1], row_padding=s.moe.row_padding if is_fp8 else 1,
        )  # fmt: skip

    @cached_property
    def workload(self) -> Workload:
        """Counted operators of every stage."""
        workload = build_workload(self.model, derived.layout(self.scenario), self.recipe)
        return workload if self.is_on["stage_imbalance"] else _even(workload)

    @cached_property
    def has_all_to_all(self) -> bool:
        """Whether anything is dispatched: else no communication kernel holds SMs anywhere."""
        return any(unit.all_to_all for stage in self.workload.stages for unit in stage.units)

    def costs(self) -> CostFunctions:
        """Seconds by operator and message, with the mechanisms that are on."""
        gap = need(self.stack, "kernel_gap_s").value if self.is_on["kernel_gaps"] else 0.0
        return CostFunctions(self._kernel, self._all_to_all, self._send, gap)

    @cached_property
    def stages(self) -> tuple[StageCost, ...]:
        """Seconds of every stage's units by segment."""
        return stage_costs(self.workload, self.costs())

    def _kernel(self, op: Op, regime: Regime) -> KernelCost:
        """The kernel at the clock that training sustains."""
        return self._at_clock(self._at_regime(op, regime), op.kind)

    def _at_clock(self, cost: KernelCost, kind: str) -> KernelCost:
        """From the clock of the stack's measurements to that of the scenario: a power-limited chip slows down."""
        if self.stack.provenance.clock == "sustained" or self.scenario.device.clock == "burst":
            return cost
        return cost.scaled(need(self.stack, f"sustained.{KERNELS[kind].bound}.slowdown"))

    def _at_regime(self, op: Op, regime: Regime) -> KernelCost:
        """Lone chunks: all SMs, or in the assumed share of kernels the grid of the overlapped ones."""
        shape, sms = _shape_of(op), self.scenario.parallel.comm_sms
        alone = kernel_seconds(shape, self.stack, self.gpu, "alone")
        if not self.is_on["sm_partition"] or not self.has_all_to_all:
            return alone
        full = self.assumptions["lone_chunk_full_sms"].value
        if regime == "alone" and full == 1.0:
            return alone
        shared = kernel_seconds(shape, self.stack, self.gpu, "overlapped", sms)
        if regime == "overlapped":
            return shared
        mix = {
            key: full * getattr(alone, key) + (1 - full) * getattr(shared, key) for key in ("seconds", "low", "high")
        }
        return replace(alone, **mix, basis=weakest(alone.basis, shared.basis))

    def _all_to_all(self, message: AllToAll, regime: Regime) -> CollectiveCost:
        cost = all_to_all_cost(message, self.network, self.stack, regime, self.scenario.parallel.comm_sms)
        if not self.is_on["notify_floor"]:
            return cost
        floor = notify_floor(message, self.stack, regime)
        return replace(
            cost, seconds=cost.seconds + floor.seconds, low=cost.low + floor.low, high=cost.high + floor.high,
            basis=cost.basis if floor.seconds < cost.seconds else floor.basis,
        )  # fmt: skip

    def _send(self, num_bytes: int) -> CollectiveCost:
        sent = num_bytes if self.is_on["pp_transfer"] and self.scenario.parallel.pp > 1 else 0
        place_, stride = self.placement, self.placement.pp_node_stride
        return p2p_cost(sent, self.network, self.stack, place_.pp_same_node, node_stride=max(1, stride))

    def tail(self, schedule: Schedule) -> TailCosts:
        """Gradient reduction, norm, optimizer and parameter gather of every stage."""
        mirrored = len(schedule.placement[0]) > 1 and schedule.num_stages == schedule.num_ranks
        groups = (
            (self.placement.dense_dp_mirror, self.placement.expert_dp_mirror)
            if mirrored
            else (self.placement.dense_dp, self.placement.expert_dp)
        )
        dp = self.scenario.data_parallel
        gradient, parameter = GRADIENT_BYTES[dp.grad_reduce.dtype], GRADIENT_BYTES[dp.param_gather.dtype]
        stages = self.workload.stages
        return TailCosts(
            reduce=[self._collectives("reduce_scatter", stage, gradient, groups) for stage in stages],
            gather=[self._collectives("all_gather", stage, parameter, groups) for stage in stages],
            norm=_segment(scalar_all_reduce_cost(self.scenario.cluster.num_gpus, self.network, self.stack), OPTIMIZER),
            optimizer=[add_segments(self._optimizer(stages[s], groups) for s in held) for held in schedule.placement],
            overlap_reduce=derived.is_grad_reduce_overlapped(self.scenario),
        )

    def _collectives(
        self, op: RingOp, stage: StageWorkload, bytes_per_param: int, groups: tuple[GroupShape, GroupShape]
    ) -> list[tuple[str, Segment]]:
        if not self.is_on["zero_collectives"]:
            return []
        parts = (("dense", stage.dense_params, groups[0]), ("expert", stage.expert_params, groups[1]))
        return [
            (
                f"{op}_{name}",
                _segment(ring_cost(op, params * bytes_per_param, group, self.network, self.stack), DATA_PARALLEL),
            )
            for name, params, group in parts
            if params
        ]

    def _optimizer(self, stage: StageWorkload, groups: tuple[GroupShape, GroupShape]) -> Segment:
        """AdamW on the shard (gradient read; master and two moments read and written; weight written), then the held
        weights quantised once a step where the GEMMs take FP8.
        """
        shard = -(-stage.dense_params // groups[0].ranks) + -(-stage.expert_params // groups[1].ranks)
        state = 4 + 2 * MOMENT_BYTES[self.scenario.training.optimizer]
        ops = [moved("adamw", "adamw", "W", shard * (4 + state), shard * (state + 2))]
        if self.recipe.is_fp8:
            held = stage.dense_params + stage.expert_params
            ops.append(moved("weight_quantise", "quantise", "W", 2 * held, held))
        costs = [
            self._at_clock(kernel_seconds(_shape_of(op), self.stack, self.gpu, "alone"), op.kind)
            for op in ops
            if op.bytes_moved
        ]
        return add_segments(
            Segment(c.seconds, c.low, c.high, {OPTIMIZER: c.seconds}, {c.basis: c.seconds}) for c in costs
        )

    @cached_property
    def routing(self) -> RoutingStatistics | None:
        """What the simulated router does to the expert group; None where there are no experts to spread."""
        s, moe, group = self.scenario, self.scenario.model.moe, self.placement.ep
        if moe is None or s.parallel.ep == 1:
            return None
        groups = (1, 1)
        if self.is_on["node_limited_dispatch"]:
            groups = grouping(moe.num_expert_groups, moe.max_groups_per_token, group.nodes, s.moe.max_nodes_per_token)
        given = isinstance(s.moe.balance, LoadImbalance)
        balance: Balance = "forced" if given or s.moe.balance == "forced" else "natural"
        if s.moe.balance == "learned":
            balance = "learned" if moe.router_bias else "aux_loss"
        value = {key: entry.value for key, entry in self.assumptions.items()}
        rule = RoutingRule(
            num_experts=moe.num_routed_experts, top_k=moe.top_k, ep=s.parallel.ep, nodes=group.nodes,
            sequences=s.parallel.ep * s.training.micro_batch_size, seq_len=s.training.seq_len,
            groups=groups[0], max_groups=groups[1], group_top=2 if moe.router_bias else 1,
            batch_sequences=s.training.global_batch_size, score=moe.score, balance=balance,
            concentration=value["routing_concentration"], popularity_cv=value["expert_popularity_cv"],
            popularity_drift_cv=value["expert_popularity_drift_cv"], bias_update_rate=value["bias_update_rate"],
            aux_loss_pressure=value["aux_loss_pressure"],
        )  # fmt: skip
        return routing_statistics(rule, s.seed)

    @property
    def speed_cv(self) -> float:
        """Coefficient of variation of the GPUs' speed; 0 where the mechanism is off."""
        given = self.scenario.device.speed_cv
        value = self.assumptions["gpu_speed_cv"].value if given is None else given
        return value if self.is_on["speed_spread"] else 0.0

    @property
    def is_random(self) -> bool:
        """Whether anything is drawn: expert loads, or the speed of GPUs."""
        return self.load_model is not None or self.speed_cv > 0

    @property
    def num_lanes(self) -> int:
        """Pipelines that are simulated side by side: those of an expert group, else (at most 64) data-parallel replicas."""
        ep = self.scenario.parallel.ep
        return ep if ep > 1 else min(derived.dp(self.scenario), MAX_REPLICAS)

    @cached_property
    def load_model(self) -> LoadModel | None:
        """How unevenly experts are loaded; None where they are even or there are none to spread."""
        routing, ranks, nodes = self.routing, self.scenario.parallel.ep, self.placement.ep.nodes
        given = self.scenario.moe.balance
        if routing is None or given == "forced" or not self.is_on["imbalance"]:
            return None
        if isinstance(given, LoadImbalance):
            cv = cv_of_maximum(given.load_imbalance, ranks)
            return LoadModel(cv, 0.0, ranks, nodes) if cv else None
        return LoadModel(
            routing.noise_cv, routing.persistent_cv, ranks, nodes, routing.node_noise_cv, routing.node_persistent_cv
        )


def _segment(cost: CollectiveCost, category: str) -> Segment:
    return Segment(cost.seconds, cost.low, cost.high, {category: cost.seconds}, {cost.basis: cost.seconds})


def _shape_of(op: Op) -> KernelShape:
    return KernelShape(
        op=op.kind, variant=op.variant, dtype=op.dtype, m=op.m, n=op.n, k=op.k, groups=op.groups, batch=op.batch,
        seq=op.seq, heads=op.heads, kv_heads=op.kv_heads, head_dim_qk=op.head_dim_qk, head_dim_v=op.head_dim_v,
        causal=op.causal, bytes=op.bytes_moved, num_kernels=op.num_kernels,
    )  # fmt: skip


def _even(workload: Workload) -> Workload:
    """Every stage the one with the median FLOP: what the step would take if the layers divided evenly."""
    flop = [sum(op.flop for unit in stage.units for op in unit.ops()) for stage in workload.stages]
    median = workload.stages[sorted(range(len(flop)), key=flop.__getitem__)[len(flop) // 2]]
    return replace(workload, stages=tuple(replace(median, stage=stage.stage) for stage in workload.stages))


def step_inputs(scenario: Scenario) -> StepInputs:
    """Looks up the hardware and resolves the assumptions. Raises InputError for a cluster that the fabric cannot hold."""
    node, fabric, gpu = node_of(scenario), fabric_of(scenario), gpu_of(scenario)
    parallel, num_gpus = scenario.parallel, scenario.cluster.num_gpus
    network = build_network(node, fabric, num_gpus)
    mesh = Mesh(num_gpus, parallel.tp, parallel.cp, parallel.pp, parallel.ep, parallel.etp)
    stack = catalog.load_stack(scenario.stack)
    assumptions = resolve_assumptions(scenario, stack)
    own = {key: assumptions[key] for key in stack.assumptions}
    stack = replace(stack, assumptions=own) if own != stack.assumptions else stack
    return StepInputs(scenario, gpu, stack, network, place(mesh, network.gpus_per_node), assumptions)
