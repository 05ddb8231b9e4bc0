"""Seconds of a step for layouts by the ten thousand: the closed form of parts that are scaled from those of few meshes.

Dense work, recompute included, is a share 1 / (tp cp) of one GPU's; expert work and messages are those of a group of as many
ranks, shared alike; a part has the gathers and scatters of its tensor-parallel group and the exchanges of its context-parallel
one. Only the best by it are priced by their own parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.network.placement import GroupShape
from simulator.run.planner.closed_form import ClosedForm, form_bubble_s, paired_seconds, passes
from simulator.run.planner.memory_screen import CODES
from simulator.run.planner.prices import PartSeconds
from simulator.run.planner.space import LONE_SCHEDULE, Candidate, Mesh
from simulator.schedule import SCHEDULES
from simulator.schedule.bubble import ChunkSeconds
from simulator.workload.buckets import WIRE_BYTES

Floats = NDArray[np.float64]
MANY_BYTES: Final = 1_073_741_824
"""Of a reduction that says what a byte takes."""


@dataclass
class RoughForm:
    """Of a space's layouts; form: what its parts and pipelines come from."""

    form: ClosedForm
    _rough: dict[tuple[int, ...], tuple[float, float, float, float]] = field(default_factory=dict)
    _lengths: dict[int, tuple[float, int]] = field(default_factory=dict)
    _sharing: dict[int, dict[str, PartSeconds]] = field(default_factory=dict)
    _byte: dict[tuple[int, int], float] = field(default_factory=dict)

    def step_s(self, layout: Candidate) -> float:
        """Seconds of a step whose parts are scaled from those of other meshes, on a pipeline of mean stages, as much longer as
        the longest is than the mean: for layouts by the ten thousand. Without transfers, reductions once a step and optimizer.
        """
        rule, m, pp = SCHEDULES[layout.schedule], self.form.num_micro_batches(layout), layout.pp
        forward, backward, weight, pair = self._rough_sums(layout)
        longest, stages = self._longest(layout.schedule, pp, layout.vpp, m)
        apart = forward + backward
        pairs = rule.overlaps_pairs and layout.ep > 1
        both = pair if pairs else apart
        found = m * both / pp * longest
        if pp > 1:
            chunk = ChunkSeconds(forward / stages, backward / stages, weight / stages, both / stages)
            found += form_bubble_s(layout.schedule, pp, chunk)
        if rule.pairs_by_layer:
            found += min(m, pp) * max(0.0, apart - pair) / pp
        if layout.zero_stage < 2:
            return found
        reduce_s = self._shared_s(layout)
        return found + m * max(0.0, reduce_s * (1 if layout.zero_stage == 2 else 2) - apart / pp)

    def _longest(self, schedule: str, pp: int, vpp: int, m: int) -> tuple[float, int]:
        """(the longest rank over the mean one, stages), by the parts of a lone layout that computes nothing again."""
        spread = self.form.screen.spread(schedule, pp, vpp, m)
        key = id(spread)
        if key not in self._lengths:
            lone = Candidate(1, 1, 1, self._few_ranks, 1, 1, LONE_SCHEDULE, 1, 1, 0)
            forward, backward, _ = passes(self.form.prices.parts(lone, paired=False), 1.0)
            by_rank = spread.held @ (forward + backward)
            self._lengths[key] = float(by_rank.max() / by_rank.mean()), len(spread.numbers)
        return self._lengths[key]

    @cached_property
    def _few_ranks(self) -> int:
        """A size of expert group that is legal beside nothing else."""
        return min((mesh.ep for mesh in self.form.space.meshes if mesh.ep > 1), default=1)

    def _rough_sums(self, layout: Candidate) -> tuple[float, float, float, float]:
        """(forward, full backward, its weight part, overlapped pair) of all parts of the model."""
        key = (layout.tp, layout.cp, layout.ep, layout.etp, layout.micro_batch_size, layout.recompute)
        if key not in self._rough:
            lone = layout._replace(
                tp=1, cp=1, pp=1, etp=1, micro_batch_size=1, zero_stage=1, schedule=LONE_SCHEDULE, vpp=1
            )
            base = self.form.prices.parts(lone, paired=False)
            share = layout.micro_batch_size / (layout.tp * layout.cp)
            gather_s, hot = self._gather_s(layout), self.form.hot(layout)
            parts = {code: _scaled(each, share, gather_s if code != "E" else 0.0) for code, each in base.items()}
            if layout.cp > 1:
                more = self._of_sharing(layout.cp)
                parts = {
                    code: _plus(each, more[code], layout.micro_batch_size / layout.tp) for code, each in parts.items()
                }
            vectors = (*passes(parts, hot), paired_seconds(parts, hot))
            forward, backward, weight, pair = (float(self._numbers @ each) for each in vectors)
            self._rough[key] = forward, backward, weight, pair
        return self._rough[key]

    def _of_sharing(self, cp: int) -> dict[str, PartSeconds]:
        """What a sequence takes longer on each of cp GPUs that share it than a share of its time on one: their exchanges."""
        if cp not in self._sharing:
            alone = Candidate(1, 1, 1, self._few_ranks, 1, 1, LONE_SCHEDULE, 1, 1, 0)
            shared = self.form.prices.parts(alone._replace(cp=cp), paired=False)
            whole = self.form.prices.parts(alone, paired=False)
            self._sharing[cp] = {code: each - _scaled(whole[code], 1.0 / cp, 0.0) for code, each in shared.items()}
        return self._sharing[cp]

    @cached_property
    def _numbers(self) -> Floats:
        """(CODES,) parts of the whole model."""
        return np.array([float(self.form.screen.codes[code]) for code in CODES])

    def _shared_s(self, layout: Candidate) -> float:
        """Seconds of a reduction of all gradients of a rank, from what a byte takes."""
        params = self.form.screen.parameters(layout.tp, layout.etp).counts
        dense = float(params[0] @ self._numbers) / layout.pp
        expert = float(params[2] @ self._numbers) / (layout.pp * layout.ep)
        width = WIRE_BYTES[self.form.space.scenario.data_parallel.grad_reduce.dtype]
        groups = self.form.prices.holders(layout.mesh, mirrored=False)
        return width * (dense * self._byte_s(groups[0]) + expert * self._byte_s(groups[1]))

    def _byte_s(self, group: GroupShape) -> float:
        if group.ranks == 1:
            return 0.0
        key = (group.ranks_per_node, min(group.nodes, 2))
        if key not in self._byte:
            messages = self.form.prices.messages_of(Mesh(1, 1, 1, 1, 1))
            self._byte[key] = messages.ring("reduce_scatter", MANY_BYTES, group).seconds / MANY_BYTES
        return self._byte[key]

    def _gather_s(self, layout: Candidate) -> float:
        """An all-gather of a micro-batch's hidden states over the tensor-parallel group."""
        if layout.tp == 1:
            return 0.0
        training = self.form.space.scenario.training
        tokens = layout.micro_batch_size * training.seq_len // layout.cp
        messages = self.form.prices.messages_of(layout.mesh._replace(ep=1, etp=1))
        return messages.ring(
            "all_gather", 2 * tokens * self.form.space.scenario.model.hidden_size, messages.placement.tp
        ).seconds


FORWARD_GATHERS: Final = 4
"""Of a layer's tensor-parallel group: gathers in front of attention and network, and scatters behind them."""
BACKWARD_GATHERS: Final = 6
"""Their opposites, and what was gathered once more for the weight gradients."""
WHOLE: Final = 0.9
"""Share of a forward from which on it is computed again as a whole, gathers with it: no module alone is as much."""


def _scaled(part: PartSeconds, share: float, gather_s: float) -> PartSeconds:
    """A part of a share of its tokens; host and gathers are not."""
    found = {each.name: getattr(part, each.name) * share for each in fields(part)}
    found |= {"host_f_s": part.host_f_s, "host_b_s": part.host_b_s}
    found["forward_s"] += FORWARD_GATHERS * gather_s
    found["input_s"] += BACKWARD_GATHERS * gather_s
    found["again_s"] += FORWARD_GATHERS * gather_s if part.again_s >= WHOLE * part.forward_s else 0.0
    return PartSeconds(**found)


def _plus(part: PartSeconds, more: PartSeconds, times: float) -> PartSeconds:
    """A part and so many times what another takes; the host does no more for it."""
    found = {each.name: getattr(part, each.name) + times * getattr(more, each.name) for each in fields(part)}
    return PartSeconds(**{**found, "host_f_s": part.host_f_s, "host_b_s": part.host_b_s})
