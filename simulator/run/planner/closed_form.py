"""Seconds of a step in closed form, from seconds of its parts: what layouts are ranked by before any is simulated.

    step = pipeline + bubble + transfers + gathers and reductions of each micro-batch + tail

    pipeline    m micro-batches x the longest rank's seconds of one: F + R + I + W with dispatch and combine behind one another;
                of an overlapped pair, part by part, the longest of both halves' kernels, both halves' messages and the host
    bubble      `schedule.bubble` of the mean stage; of schedules whose pairs run by layer that of the same schedule without
                pairs, and P pairs' parts run apart; of ZB-V, for which nothing is published but where F = I = W,
                (P - 1) x (longest - shortest of F, I, W)
    transfers   2 (P - 1) hops fill and drain the pipeline; 2 v hops a micro-batch where ranks wait for what they sent
    ZeRO 2, 3   of each micro-batch what gathers take longer than a forward and a backward, and reductions than a backward
    tail        what the first rank's reduction takes longer than its backward, gather of parameters, norm, optimizer

Expert rows count as often as the fullest rank of a group has them (a gamma law of the router's variance), and a part that takes
the host longer than the GPU takes as long as the host. Left out: the power limit, unequal GPUs, links that messages share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.run.planner.legal import Rules
from simulator.run.planner.memory_screen import CODES, MemoryScreen
from simulator.run.planner.prices import PartPrices, PartSeconds
from simulator.run.planner.space import Candidate, Mesh, Space
from simulator.scenario import derived
from simulator.scenario.plan import LoadImbalance
from simulator.schedule import SCHEDULES
from simulator.schedule.bubble import PUBLISHED_BUBBLES, ChunkSeconds, bubble_seconds
from simulator.step.hardware import look_up
from simulator.step.prepared import expert_group
from simulator.step.routing import ask_router
from simulator.step.tail import MASTER_BYTES, MOMENT_BYTES, WEIGHT_BYTES
from simulator.workload.buckets import WIRE_BYTES
from simulator.workload.counting import moved
from simulator.workload.group_law import expected_maximum
from simulator.workload.routing_model import RoutingStatistics

Floats = NDArray[np.float64]
NOTHING: Final = PartSeconds()
APART: Final[Mapping[str, str]] = {
    name: name.removesuffix("_ep_overlap") for name in SCHEDULES if SCHEDULES[name].pairs_by_layer
}
"""Schedules of pairs by layer → the same without pairs."""


@dataclass(frozen=True, slots=True)
class StepForm:
    """Seconds of a step by what they are of; exposed_s: of the pipeline's, what messages take that nothing runs beside."""

    pipeline_s: float
    bubble_s: float
    transfers_s: float
    each_s: float
    tail_s: float
    exposed_s: float = 0.0
    host_s: float = 0.0

    @property
    def step_s(self) -> float:
        """All of it."""
        return self.pipeline_s + self.bubble_s + self.transfers_s + self.each_s + self.tail_s


def form_bubble_s(schedule: str, num_ranks: int, chunk: ChunkSeconds) -> float:
    """The bubble of a pipeline of equal stages, as the module says."""
    name = APART.get(schedule, schedule)
    if name == "zb_v":
        parts = (chunk.forward_s, chunk.weight_s, chunk.backward_s - chunk.weight_s)
        return (num_ranks - 1) * (max(parts) - min(parts))
    assert name in PUBLISHED_BUBBLES
    return max(0.0, bubble_seconds(name, num_ranks, chunk))


@dataclass
class ClosedForm:
    """Of a space's layouts."""

    space: Space
    rules: Rules
    prices: PartPrices
    screen: MemoryScreen
    _tails: dict[tuple[object, ...], tuple[float, float, float]] = field(default_factory=dict)
    _hot: dict[tuple[int, int], float] = field(default_factory=dict)

    def exact(self, layout: Candidate) -> StepForm:
        """Of its own parts."""
        alone = self.prices.parts(layout, paired=False)
        pairs = SCHEDULES[layout.schedule].overlaps_pairs and layout.ep > 1
        return self.compose(layout, alone, self.prices.parts(layout, paired=True) if pairs else alone)

    def compose(
        self, layout: Candidate, alone: Mapping[str, PartSeconds], paired: Mapping[str, PartSeconds]
    ) -> StepForm:
        """The step of parts: alone, and beside another micro-batch's messages."""
        rule, mesh = SCHEDULES[layout.schedule], layout.mesh
        m = self.num_micro_batches(layout)
        numbers, held = self._stages(layout, m)
        hot = self.hot(layout)
        forward, backward, weight = (numbers @ each for each in passes(alone, hot))
        chunk_f, chunk_b, chunk_w = (float(each.mean()) for each in (forward, backward, weight))
        pairs = rule.overlaps_pairs and layout.ep > 1
        apart = forward + backward
        pair = numbers @ paired_seconds(paired, hot) if pairs else apart
        halves = 2.0 if rule.placement == "mirrored" and mesh.pp > 1 else 1.0
        by_rank = np.array([pair[list(stages)].sum() for stages in held]) / halves
        pipeline = m * float(by_rank.max())
        tail = self._tail(layout, numbers, held)
        each = self._each(layout, m, forward, backward, held, tail)
        more = [seconds / max(1, len(held[0])) for seconds in each]
        chunk = ChunkSeconds(chunk_f + more[0], chunk_b + more[1], chunk_w, float(pair.mean()) + sum(more))
        bubble = form_bubble_s(layout.schedule, mesh.pp, chunk) if mesh.pp > 1 else 0.0
        if rule.pairs_by_layer:
            bubble += min(m, mesh.pp) * layout.vpp * max(0.0, float(apart.mean() - pair.mean()))
        worst = held[int(by_rank.argmax())]
        sent, host = (float((numbers @ each)[list(worst)].sum()) / halves * m for each in _waits(alone, hot))
        hop = self._hop_s(layout) if mesh.pp > 1 else 0.0
        waits = 2.0 * layout.vpp * m if self._waits(layout) else 0.0
        reduce_s, gather_s, end_s = tail
        end = end_s
        if layout.zero_stage <= 1:
            hidden = (
                float(backward[list(held[0])].sum()) if derived.is_grad_reduce_overlapped(self.space.scenario) else 0.0
            )
            end += max(0.0, reduce_s - hidden)
        if 1 <= layout.zero_stage <= 2:
            end += gather_s
        exposed = 0.0 if pairs else sent
        return StepForm(pipeline, bubble, hop * (2.0 * (mesh.pp - 1) + waits), m * sum(each), end, exposed, host)

    def num_micro_batches(self, layout: Candidate) -> int:
        """Of a pipeline and step."""
        dp = self.space.num_gpus // (layout.tp * layout.cp * layout.pp)
        return self.space.scenario.training.global_batch_size // (dp * layout.micro_batch_size)

    def _stages(self, layout: Candidate, m: int) -> tuple[Floats, tuple[tuple[int, ...], ...]]:
        """(stages, CODES) parts of each stage, and the stages of each rank."""
        spread = self.screen.spread(layout.schedule, layout.pp, layout.vpp, m)
        return spread.numbers, spread.stages

    def hot(self, layout: Candidate) -> float:
        """Expert rows of the fullest rank of a group over the mean."""
        scenario, moe = self.space.scenario, self.space.scenario.model.moe
        balance = scenario.moe.balance
        if moe is None or layout.ep == 1 or balance == "forced" or not scenario.mechanisms.imbalance:
            return 1.0
        if isinstance(balance, LoadImbalance):
            return balance.load_imbalance
        sequences = max(1, layout.ep * layout.etp * layout.micro_batch_size // (layout.tp * layout.cp))
        key = (layout.ep, sequences)
        if key not in self._hot:
            held, routing = moe.num_routed_experts // layout.ep, self._routing
            apart = (moe.num_routed_experts - held) / max(1, moe.num_routed_experts - 1)
            seq_len = max(1, layout.ep * layout.etp * layout.micro_batch_size * scenario.training.seq_len
                          // (layout.tp * layout.cp) // sequences)  # fmt: skip
            variance = 0.0 if routing is None else routing.expert_variance(sequences, seq_len)
            self._hot[key] = expected_maximum(sqrt(variance * apart / held), layout.ep)
        return self._hot[key]

    @cached_property
    def _routing(self) -> RoutingStatistics | None:
        """What the router does to a group of as many ranks as any has; of single experts it is what it does to others."""
        most = max(self.space.meshes, key=lambda mesh: (mesh.ep, -mesh.tp, -mesh.cp))
        small = self.rules.small(Mesh(1, 1, 1, most.ep, 1), 1)
        hardware = look_up(small)
        return ask_router(small, expert_group(small, hardware), self.prices.assumptions)

    def _waits(self, layout: Candidate) -> bool:
        """Whether a rank's next chunk waits for a transfer: for what it sent (`step.graph.waits_for_its_transfers`), or,
        without overlap, together with its neighbour.
        """
        rule, overlap = SCHEDULES[layout.schedule], self.space.scenario.parallel.overlap
        if layout.vpp > 1 and not (rule.placement == "folded" and rule.overlaps_pairs):
            return not overlap.pp
        return not overlap.pp or bool(self.prices.assumptions["pp_boundary_wait"].value)

    def _hop_s(self, layout: Candidate) -> float:
        scenario = self.space.scenario
        tokens = layout.micro_batch_size * scenario.training.seq_len // (layout.cp * layout.tp)
        messages = self.prices.messages_of(layout.mesh)
        return messages.send(2 * tokens * scenario.model.hidden_size, self.prices.hop(layout.mesh)).seconds

    def _tail(
        self, layout: Candidate, numbers: Floats, held: tuple[tuple[int, ...], ...]
    ) -> tuple[float, float, float]:
        """(reduction of a rank's gradients, gather of its parameters, norm and optimizer) of the rank with the most."""
        mirrored = SCHEDULES[layout.schedule].placement == "mirrored" and layout.pp > 1
        key = (layout.mesh, layout.vpp, layout.zero_stage, mirrored, id(held))
        if key not in self._tails:
            self._tails[key] = self._tail_of(layout, numbers, held, mirrored=mirrored)
        return self._tails[key]

    def _tail_of(
        self, layout: Candidate, numbers: Floats, held: tuple[tuple[int, ...], ...], *, mirrored: bool
    ) -> tuple[float, float, float]:
        scenario, mesh = self.space.scenario, layout.mesh
        params = self.screen.parameters(mesh.tp, mesh.etp)
        counts = np.stack([numbers[list(stages)].sum(axis=0) for stages in held])
        dense = float((counts @ params.counts[0]).max())
        expert = float((counts @ params.counts[2]).max()) / mesh.ep
        messages = self.prices.messages_of(mesh)
        groups = self.prices.holders(mesh, mirrored=mirrored)
        reduce_s = gather_s = 0.0
        plan = scenario.data_parallel
        for count, group in ((dense, groups[0]), (expert, groups[1])):
            if group.ranks > 1 and count and scenario.mechanisms.zero_collectives:
                op = "reduce_scatter" if layout.zero_stage else "all_reduce"
                reduce_s += messages.ring(op, round(count * WIRE_BYTES[plan.grad_reduce.dtype]), group).seconds  # type: ignore[arg-type]
                gathered = round(count * WIRE_BYTES[plan.param_gather.dtype])
                gather_s += messages.ring("all_gather", gathered, group).seconds if layout.zero_stage else 0.0
        shard = dense + expert
        if layout.zero_stage:
            shard = dense / groups[0].ranks + expert / groups[1].ranks
        name = scenario.training.optimizer
        master = MASTER_BYTES.get(name, 0)
        state = (master or WEIGHT_BYTES) + 2 * MOMENT_BYTES[name]
        op_bytes = WIRE_BYTES[plan.grad_reduce.dtype] + state, state + (WEIGHT_BYTES if master else 0)
        adam = moved("adamw", "adamw", "W", *(round(shard * each) for each in op_bytes))
        small = self.rules.small(mesh, 1)
        update_s = self.prices.kernels(small, paired=False).unshared_seconds(adam).seconds if shard >= 1 else 0.0
        norm_s = messages.norm().seconds if scenario.training.grad_norm_sync != "none" else 0.0
        return reduce_s, gather_s, update_s + norm_s

    def _each(
        self, layout: Candidate, m: int, forward: Floats, backward: Floats, held: tuple[tuple[int, ...], ...],
        tail: tuple[float, float, float],
    ) -> tuple[float, float]:  # fmt: skip
        """What ZeRO 2 and 3 add to a forward and to a backward of a micro-batch on the longest rank: what of gathers and
        reductions nothing runs beside, and what kernels lose that these run beside.
        """
        if layout.zero_stage < 2:
            return 0.0, 0.0
        scenario, (reduce_s, gather_s, _) = self.space.scenario, tail
        plan, overlap = scenario.data_parallel, scenario.parallel.overlap.dp
        f, b = (max(float(each[list(stages)].sum()) for stages in held) for each in (forward, backward))
        gathers = gather_s if layout.zero_stage == 3 else 0.0
        again = gathers if plan.reshard_after_forward else 0.0
        reduces = reduce_s if plan.grad_reduce.every in (None, "micro_batch") else reduce_s / m
        if not (overlap and plan.param_gather.overlap is not False and derived.is_grad_reduce_overlapped(scenario)):
            return gathers, again + reduces
        lost = self._lost
        return (
            max(0.0, gathers - f) + lost * min(gathers, f),
            max(0.0, again + reduces - b) + lost * min(again + reduces, b),
        )

    @cached_property
    def _lost(self) -> float:
        """Share of their rate that kernels lose beside a ring collective: its SMs."""
        small = self.rules.small(Mesh(1, 1, 1, 1, 1), 1)
        return self.prices.kernels(small, paired=False).collective_sms / self.prices.hardware.gpu.num_sms


def passes(parts: Mapping[str, PartSeconds], hot: float) -> tuple[Floats, Floats, Floats]:
    """(CODES,) seconds of a lone forward, full backward and its weight part."""
    forward, backward, weight = [], [], []
    for code in CODES:
        part = parts.get(code, NOTHING)
        of_f = part.forward_s + part.sent_f_s + (hot - 1.0) * part.routed_f_s
        of_b = (
            part.again_s + part.input_s + part.weight_s + part.sent_b_s + part.sent_r_s + (hot - 1.0) * part.routed_b_s
        )
        forward.append(max(of_f, part.host_f_s))
        backward.append(max(of_b, part.host_b_s))
        weight.append(part.weight_s)
    return np.array(forward), np.array(backward), np.array(weight)


def paired_seconds(parts: Mapping[str, PartSeconds], hot: float) -> Floats:
    """(CODES,) seconds of an overlapped pair; what is computed again runs in front of it, its dispatch exposed."""
    found = []
    for code in CODES:
        part = parts.get(code, NOTHING)
        kernels = part.forward_s + part.again_s + part.input_s + part.weight_s
        kernels += (hot - 1.0) * (part.routed_f_s + part.routed_b_s)
        messages = part.sent_f_s + part.sent_b_s
        found.append(max(kernels, messages, part.host_f_s + part.host_b_s) + part.sent_r_s / 2.0)
    return np.array(found)


def _waits(parts: Mapping[str, PartSeconds], hot: float) -> tuple[Floats, Floats]:
    """(CODES,) seconds of messages that nothing runs beside in lone passes, and of the host beyond kernels and messages."""
    sent, host = [], []
    for code in CODES:
        part = parts.get(code, NOTHING)
        sent.append(part.sent_f_s + part.sent_b_s + part.sent_r_s)
        f = part.forward_s + part.sent_f_s + (hot - 1.0) * part.routed_f_s
        b = part.again_s + part.input_s + part.weight_s + part.sent_b_s + part.sent_r_s + (hot - 1.0) * part.routed_b_s
        host.append(max(0.0, part.host_f_s - f) + max(0.0, part.host_b_s - b))
    return np.array(sent), np.array(host)
