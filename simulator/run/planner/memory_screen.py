"""Whether a layout fits, in closed form from the simulator's own counts: no kernel is counted, no schedule walked.

peak of a rank = state + sum over its stages of (micro-batches in flight x what a micro-batch keeps) + what the largest block
works on (of both halves of a pair) + buffers

    state       parameters by kind of part x the bytes that `model_state.rank_states` has for one of them, shared as it does;
                under ZeRO 3 two units gathered, under 2 and 3 one unit's unreduced gradients
    keeps       blocks of `stages.stage_parts` of each kind of part, for one sequence, times the sequences; of micro-batches
                that wait for their weight gradients alone, the operands of these
    in flight   `in_flight`
    buffers     `memory.buffer_tensors`

What it leaves out: what of a put-off weight gradient is freed before, gradients that come late, captured graphs, loads of
experts that a router leaves uneven, layers that stay in BF16. docs/method.md says how far off that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.run.planner.in_flight import fewest, in_flight, stages_held
from simulator.run.planner.legal import Rules
from simulator.run.planner.space import ZERO_STAGES, Mesh, Space
from simulator.scenario import derived
from simulator.scenario.hardware import gpu_of
from simulator.scenario.layout import default_layer_counts, stage_layout
from simulator.schedule import SCHEDULES
from simulator.workload.buckets import WIRE_BYTES
from simulator.workload.counted import count_workload
from simulator.workload.layers.part import PARTS
from simulator.workload.memory import (
    MemoryAssumptions,
    activation_recipe,
    buffer_tensors,
    state_recipe,
    usable_bytes,
)
from simulator.workload.model_state import StageParams, StateRecipe, rank_states, stage_params
from simulator.workload.stages import forward_order, stage_parts
from simulator.workload.tensors import total_bytes

CODES: Final = ("E", "d", "m", "mtp", "L")
PROBE: Final = 1_048_576
"""Parameters whose state is asked for, to know that of one."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Where the parts of a model stand. numbers: (stages, CODES) parts of each stage; held: (ranks, CODES) parts on a rank;
    flying, waiting: (instants, CODES) times micro-batches in flight, and that wait for their weight gradients alone; rank:
    (instants,) whose it is; copies: (ranks,) vocabulary matrices that a rank computes with and no part of it holds; stages:
    of every rank.
    """

    numbers: Floats
    held: Floats
    flying: Floats
    waiting: Floats
    rank: NDArray[np.int64]
    copies: Floats
    stages: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Kept:
    """Of a micro-batch of one sequence, (recomputes, CODES): bytes kept; bytes that wait for W; bytes that work on top,
    forward and backward.
    """

    saved: Floats
    waiting: Floats
    forward: Floats
    backward: Floats


@dataclass(frozen=True)
class Parameters:
    """Of one part of each of CODES, all experts: dense, dense quantised, expert, expert quantised (4, CODES); units: the
    largest unit's dense and expert parameters."""

    counts: Floats
    largest: tuple[int, int]
    vocabulary: int


@dataclass
class MemoryScreen:
    """Of a space's layouts."""

    space: Space
    rules: Rules
    assumed: MemoryAssumptions
    _kept: dict[tuple[int, ...], tuple[Kept, Kept]] = field(default_factory=dict)
    _params: dict[tuple[int, int], Parameters] = field(default_factory=dict)
    _spread: dict[tuple[str, int, int, int], Spread] = field(default_factory=dict)
    _bytes: dict[tuple[int, bool], Floats] = field(default_factory=dict)
    _states: dict[tuple[int, ...], Floats] = field(default_factory=dict)
    _acts: dict[tuple[int, ...], list[Floats]] = field(default_factory=dict)
    _buffer_bytes: dict[tuple[int, ...], float] = field(default_factory=dict)

    @cached_property
    def usable(self) -> int:
        """The largest peak that fits."""
        return usable_bytes(gpu_of(self.space.scenario).memory_bytes, self.assumed.needed_frac)

    @cached_property
    def _host_share(self) -> float:
        return self.space.scenario.offload.activations

    def margins(self, mesh: Mesh, micro_batch_size: int, schedule: str, vpp: int) -> Floats:
        """(ZeRO stages, recomputes) bytes that the fullest rank has left, negative where it does not fit."""
        dp = self.space.num_gpus // (mesh.tp * mesh.cp * mesh.pp)
        m = self.space.scenario.training.global_batch_size // (dp * micro_batch_size)
        spread = self.spread(schedule, mesh.pp, vpp, m)
        pairs = SCHEDULES[schedule].overlaps_pairs
        state_key, kept_key = (*mesh, id(spread), pairs), (*self._kind(mesh), id(spread), pairs)
        if state_key not in self._states:
            is_mirrored = SCHEDULES[schedule].placement == "mirrored" and mesh.pp > 1
            self._states[state_key] = self._state(mesh, spread, mirrored=is_mirrored)[:, spread.rank]
        if kept_key not in self._acts:
            self._acts[kept_key] = [self._activations(each, spread, pairs=pairs) for each in self.kept(mesh)]
        of_rows, of_padding = self._acts[kept_key]
        acts = of_rows * micro_batch_size + of_padding * (self._experts / mesh.ep)
        peaks = self._states[state_key][:, None] + acts[None]
        found: Floats = self.usable - self._buffers(mesh, micro_batch_size, spread, m) - peaks.max(axis=-1)
        return found

    @cached_property
    def _experts(self) -> int:
        moe = self.space.scenario.model.moe
        return moe.num_routed_experts if moe is not None else 1

    def _kind(self, mesh: Mesh) -> tuple[int, ...]:
        """What of a mesh decides what a sequence leaves, but for the rows by which each expert's are padded."""
        return mesh.tp, mesh.cp, mesh.etp, mesh.ep > 1

    def _activations(self, kept: Kept, spread: Spread, *, pairs: bool) -> Floats:
        """(recomputes, instants) bytes."""
        busy = (spread.held > 0)[None]
        forward, backward = (
            np.where(busy, each[:, None], 0.0).max(axis=2)[:, spread.rank] for each in (kept.forward, kept.backward)
        )
        work = forward + backward if pairs else np.maximum(forward, backward)
        found: Floats = kept.saved @ spread.flying.T * (1.0 - self._host_share) + kept.waiting @ spread.waiting.T + work
        return found

    def _state(self, mesh: Mesh, spread: Spread, *, mirrored: bool) -> Floats:
        """(ZeRO stages, ranks) bytes of weights, gradients and optimizer state."""
        params, ranks = self.parameters(mesh.tp, mesh.etp), self.space.num_gpus // mesh.pp * (2 if mirrored else 1)
        dense, expert = ranks // mesh.tp, ranks // (mesh.ep * mesh.etp)
        counts = params.counts @ spread.held.T
        counts[2:] /= mesh.ep
        counts[0] += spread.copies * params.vocabulary
        shares = np.array([1.0 / dense, 1.0 / dense, 1.0 / expert, 1.0 / expert])
        several = max(dense, expert) > 1
        coefficients = np.stack([self._coefficients(zero, shares, several) for zero in ZERO_STAGES])
        largest = params.largest[0] + params.largest[1] / mesh.ep
        extra = np.array([self._at_work(zero) * largest for zero in ZERO_STAGES])
        found: Floats = coefficients @ counts + extra[:, None]
        return found

    def _coefficients(self, zero: int, shares: Floats, several: bool) -> Floats:
        weights, gradients, optimizer = self._bytes_of(zero, several=several)
        found: Floats = (
            weights * (shares if zero >= 3 else 1.0)
            + gradients * (shares if zero >= 2 else 1.0)
            + optimizer * (shares if zero >= 1 else 1.0)
        )
        return found

    def _at_work(self, zero: int) -> float:
        """Bytes for a parameter of the largest unit: two gathered, one that is not reduced yet."""
        recipe = self._recipe(zero)
        gathered = 2.0 * WIRE_BYTES[recipe.gathered_dtype] if zero >= 3 else 0.0
        return gathered + (WIRE_BYTES[recipe.gradient_dtype] if recipe.shards_gradients else 0)

    def _recipe(self, zero: int) -> StateRecipe:
        return self._recipes[zero]

    @cached_property
    def _recipes(self) -> tuple[StateRecipe, ...]:
        plan = self.space.scenario.parallel
        of = [plan.model_copy(update={"zero_stage": zero}) for zero in ZERO_STAGES]
        return tuple(
            state_recipe(self.space.scenario.model_copy(update={"parallel": each}), self.assumed) for each in of
        )

    def _bytes_of(self, zero: int, *, several: bool) -> Floats:
        """(weights, gradients, optimizer; dense, dense quantised, expert, expert quantised) bytes of one parameter."""
        key = (zero, several)
        if key not in self._bytes:
            recipe = self._recipe(zero)
            found = np.zeros((3, 4))
            for kind, params in enumerate(
                (StageParams(PROBE, 0, 0, 0), StageParams(PROBE, PROBE, 0, 0), StageParams(0, 0, PROBE, 0),
                 StageParams(0, 0, PROBE, PROBE))
            ):  # fmt: skip
                found[:, kind] = bytes_of_one(params, recipe)
            # `counts` has the quantised ones among all: what they take more than the others.
            found[:, 1] -= found[:, 0]
            found[:, 3] -= found[:, 2]
            self._bytes[key] = found
        return self._bytes[key]

    def _buffers(self, mesh: Mesh, micro_batch_size: int, spread: Spread, num_micro_batches: int) -> float:
        """Of a rank in the middle of the pipeline, which has the most."""
        key = (*mesh, micro_batch_size, len(spread.stages[0]))
        if key not in self._buffer_bytes:
            plan = self.space.scenario.parallel
            degrees = {**mesh._asdict(), "vpp": len(spread.stages[0]), "sequence_parallel": mesh.tp > 1}
            training = self.space.scenario.training.model_copy(update={"micro_batch_size": micro_batch_size})
            scenario = self.space.scenario.model_copy(
                update={"parallel": plan.model_copy(update=degrees), "training": training}
            )
            boundary = 2 * derived.micro_batch_tokens(scenario) // mesh.tp * scenario.model.hidden_size
            middle = spread.stages[len(spread.stages) // 2]
            tensors = buffer_tensors(scenario, self.assumed, boundary, middle, self.space.domain, num_micro_batches)
            self._buffer_bytes[key] = float(total_bytes(tensors))
        return self._buffer_bytes[key]

    def kept(self, mesh: Mesh) -> tuple[Kept, Kept]:
        """What a sequence leaves, by kind of part, and what the padding of each expert on the rank adds to a micro-batch: both
        from two numbers of experts, between which bytes are linear.
        """
        key = self._kind(mesh)
        if key not in self._kept:
            most, one = self._experts, self._stacked(mesh)
            padding = np.zeros_like(one)
            if mesh.ep > 1 and derived.row_padding(self.space.scenario) > 1:
                other = next((each for each in self._expert_groups if each != mesh.ep and each > 1), mesh.ep)
                if other != mesh.ep:
                    apart = most / other - most / mesh.ep
                    padding = (self._stacked(mesh._replace(ep=other)) - one) / apart
            rows = one - padding * (most / mesh.ep)
            self._kept[key] = tuple(Kept(*(each[:, row] for row in range(4))) for each in (rows, padding))  # type: ignore[assignment]
        return self._kept[key]

    @cached_property
    def _expert_groups(self) -> tuple[int, ...]:
        return tuple(sorted({mesh.ep for mesh in self.space.meshes}, reverse=True))

    def _stacked(self, mesh: Mesh) -> Floats:
        """(recomputes, 4, CODES) bytes of a micro-batch of one sequence."""
        return np.stack([self._kept_of(mesh, number) for number in range(len(self.space.recomputes))])

    def _kept_of(self, mesh: Mesh, recompute: int) -> Floats:
        """(4, CODES) bytes under one recompute, as in `Kept`."""
        scenario = self.rules.small(mesh, 1, recompute)
        recipe = activation_recipe(scenario, self.assumed)
        found = np.zeros((4, len(CODES)))
        used = [code for code in CODES if code in self.codes]
        parts = forward_order(used)
        for part in stage_parts(derived.padded_model(scenario), used, recipe):
            column = next(i for i, code in enumerate(CODES) if PARTS[code] is parts[part.last])
            for block in part.blocks:
                waits = total_bytes(tensor for tensor in block.deferred if not tensor.is_working)
                found[0, column] += total_bytes(block.saved)
                found[1, column] += total_bytes(each for each in (*block.saved, *block.deferred) if each.until == "W")
                found[2, column] = max(found[2, column], total_bytes(block.working_forward))
                found[3, column] = max(found[3, column], waits + total_bytes(block.working_backward))
        return found

    @cached_property
    def codes(self) -> Counter[str]:
        """How many parts of each kind the model has."""
        model = self.space.scenario.model
        return Counter(code for stage in stage_layout(model, 1, None) for code in stage)

    def parameters(self, tp: int, etp: int) -> Parameters:
        """Parameters of one part of each kind, on a rank that has all experts."""
        key = (tp, etp)
        if key not in self._params:
            scenario = self.rules.small(Mesh(tp, 1, 1, 1, etp), 1)
            model = derived.padded_model(scenario)
            stage = count_workload(scenario, 1, None).stages[0]
            whole = stage_params(stage)
            codes = [code for layout in stage_layout(model, 1, None) for code in layout]
            found = np.zeros((4, len(CODES)))
            for code, group in zip(_in_order(codes), stage.groups, strict=True):
                column = CODES.index(code)
                found[0, column], found[2, column] = group.dense, group.expert
            layers = sum(self.codes[code] for code in ("d", "m"))
            layers_dense = max(1, sum(found[0, CODES.index(code)] * self.codes[code] for code in ("d", "m", "mtp")))
            share = whole.dense_quantised / layers_dense if layers else 0.0
            for code in ("d", "m", "mtp"):
                column = CODES.index(code)
                found[1, column] = found[0, column] * min(1.0, share)
                found[3, column] = found[2, column] * (whole.expert_quantised / max(1, whole.expert))
            column = int(np.argmax(found[0] + found[2]))
            vocabulary = model.vocab_size // tp * model.hidden_size
            self._params[key] = Parameters(found, (int(found[0, column]), int(found[2, column])), vocabulary)
        return self._params[key]

    def spread(self, schedule: str, pp: int, vpp: int, num_micro_batches: int) -> Spread:
        """Where the parts stand under a schedule."""
        key = (schedule, pp, vpp, fewest(schedule, pp, vpp, num_micro_batches))
        if key not in self._spread:
            model, held = self.space.scenario.model, stages_held(schedule, pp, vpp)
            # Two of as many stages as ranks, where the pipeline runs both ways.
            stages = max(map(max, held)) + 1
            cut = None
            if SCHEDULES[schedule].placement == "folded" and model.num_layers % stages:
                cut = default_layer_counts(model.num_layers, stages, model.mtp.num_modules, least_last=0)
            layout = stage_layout(model, stages, cut)
            numbers = np.array(
                [[sum(each == code for each in stage) for code in CODES] for stage in layout], dtype=float
            )
            parts = np.stack([numbers[list(each)].sum(axis=0) for each in held])
            instants = [(rank, each) for rank, of in enumerate(in_flight(*key)) for each in of]
            flying, waiting = (
                np.stack([np.array(each[kind]) @ numbers[list(held[rank])] for rank, each in instants])
                for kind in (0, 1)
            )
            copies = np.array([self._copies(row) for row in parts])
            ranks = np.array([rank for rank, _ in instants])
            self._spread[key] = Spread(numbers, parts, flying, waiting, ranks, copies, held)
        return self._spread[key]

    def _copies(self, parts: Floats) -> float:
        """Vocabulary matrices that a rank's parts compute with and none of them holds."""
        model = self.space.scenario.model
        used = [PARTS[code] for code, number in zip(CODES, parts, strict=True) if number]
        needed = frozenset().union(*(part.vocabulary(model) for part in used))
        return float(len(needed - frozenset().union(*(part.holds for part in used))))


def bytes_of_one(params: StageParams, recipe: StateRecipe) -> tuple[float, float, float]:
    """Bytes of one parameter's weight, gradient and optimizer state, which one GPU has alone. params: PROBE of one kind."""
    alone = replace(recipe, dense_replicas=1, expert_replicas=1, keeps_placeholders=False)
    state = rank_states([params], alone, ((0,),))[0]
    weights, gradients, optimizer = (
        total_bytes(part) / PROBE for part in (state.weights, state.gradients, state.optimizer)
    )
    return weights, gradients, optimizer


def _in_order(codes: Sequence[str]) -> list[str]:
    """Codes of a stage in forward order: MTP modules behind the head."""
    return [code for code in codes if code != "mtp"] + [code for code in codes if code == "mtp"]
