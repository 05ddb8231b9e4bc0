"""The fullest instant of each pipeline rank: walks its actions with the bytes that each allocates and frees.

F allocates what its blocks save. B frees it, block by block from the stage's end. I frees what only the input
gradient needs and allocates the operands that wait for W; W frees the rest. An FB goes through both halves a block
pair at a time. Beside these stands the working set of the block that is at work (of both, in an FB: their
communication overlaps the other's compute). The peak is that of one instant, not a sum of maxima; a stage's state and
buffers stay over the whole step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from simulator.errors import InconsistentSimulation
from simulator.schedule.action import Action, Kind, Schedule
from simulator.workload.model_state import RankState
from simulator.workload.tensors import BlockMemory, Tensor, total_bytes

Blocks = tuple[BlockMemory, ...]
Change = tuple[int, Sequence[Tensor]]
"""(+1 or -1, tensors): what there is more or less than before the action."""


@dataclass(frozen=True, slots=True)
class RankMemory:
    """The memory of one pipeline rank at its fullest instant, in bytes; peak_bytes is the sum of the five before it.

    activations_bytes: saved, waiting for W, and at work. tensors: bytes by name at that instant, largest first; they
    sum to peak_bytes. at_action: the action during which it is, "" without actions; action_idx: its place in the
    rank's order.
    """

    pp_rank: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    buffers_bytes: int
    peak_bytes: int
    tensors: Mapping[str, int]
    at_action: str
    action_idx: int


def rank_memory(
    schedule: Schedule,
    stages: Sequence[Blocks],
    states: Sequence[RankState],
    buffers: Sequence[Sequence[Tensor]],
) -> tuple[RankMemory, ...]:
    """The memory of every rank.

    stages: the blocks of every stage in forward order; states, buffers: what every rank holds all along.
    Raises InconsistentSimulation where an action frees what is not there, or something is left at the end.
    """
    result = []
    for rank, actions in enumerate(schedule.ranks):
        peak = peak_of(actions, stages)
        state = states[rank]
        contents = Counter(peak.contents)
        for tensor in chain(state.weights, state.gradients, state.optimizer, buffers[rank]):
            contents[tensor.name] += tensor.num_bytes
        result.append(
            RankMemory(
                pp_rank=rank,
                weights_bytes=total_bytes(state.weights),
                gradients_bytes=total_bytes(state.gradients),
                optimizer_bytes=total_bytes(state.optimizer),
                activations_bytes=peak.num_bytes,
                buffers_bytes=total_bytes(buffers[rank]),
                peak_bytes=state.total_bytes + total_bytes(buffers[rank]) + peak.num_bytes,
                tensors={name: num_bytes for name, num_bytes in contents.most_common() if num_bytes},
                at_action=str(actions[peak.action_idx]) if actions else "",
                action_idx=peak.action_idx,
            )
        )
    return tuple(result)


@dataclass(frozen=True, slots=True)
class ActivationPeak:
    """The fullest instant of a rank's activations: their bytes, by name, and the index of the action."""

    num_bytes: int
    contents: Mapping[str, int]
    action_idx: int


def peak_of(actions: Sequence[Action], stages: Sequence[Blocks]) -> ActivationPeak:
    """The first fullest instant of one rank's order. Raises InconsistentSimulation as `rank_memory` does."""
    passes = _Passes(stages)
    waiting: Waiting = {}
    live = peak_bytes = peak_idx = 0
    for idx, action in enumerate(actions):
        fullest = live + passes.fullest(action)[0]
        if fullest > peak_bytes:
            peak_bytes, peak_idx = fullest, idx
        live += sum(passes.net(kind, stage) for kind, stage, _ in action.halves())
        _advance(waiting, action)
    if waiting or live:
        left = ", ".join(f"{stage}F{micro_batch}" for stage, micro_batch in waiting) or "nothing"
        raise InconsistentSimulation(f"{live} bytes of activations are left after the last action; unfinished: {left}")
    return ActivationPeak(peak_bytes, _contents(actions, peak_idx, passes), peak_idx)


Waiting = dict[tuple[int, int], str]
"""(stage, micro-batch) → the pass that it has behind it, F or I; finished ones are gone."""


def _advance(waiting: Waiting, action: Action) -> None:
    """Marks the action as done. Raises InconsistentSimulation where it needs what is not there."""
    for kind, stage, micro_batch in action.halves():
        found = waiting.pop((stage, micro_batch), "")
        if found != {"F": "", "B": "F", "I": "F", "W": "I"}[kind]:
            raise InconsistentSimulation(f"{stage}{kind}{micro_batch} comes after {found or 'nothing'}")
        if kind in ("F", "I"):
            waiting[stage, micro_batch] = kind


def _contents(actions: Sequence[Action], peak_idx: int, passes: _Passes) -> Mapping[str, int]:
    """Bytes by name at the fullest instant of action peak_idx."""
    waiting: Waiting = {}
    for action in actions[:peak_idx]:
        _advance(waiting, action)
    contents: Counter[str] = Counter()
    for (stage, kind), times in Counter((stage, kind) for (stage, _), kind in waiting.items()).items():
        passed: tuple[Kind, ...] = ("F",) if kind == "F" else ("F", "I")
        for change in chain.from_iterable(_after(each, block) for each in passed for block in passes.stages[stage]):
            _apply(contents, change, times)
    for change in passes.fullest(actions[peak_idx])[1] if actions else ():
        _apply(contents, change, 1)
    return +contents


def _apply(contents: Counter[str], change: Change, times: int) -> None:
    sign, tensors = change
    for tensor in tensors:
        contents[tensor.name] += times * sign * tensor.num_bytes


class _Passes:
    """What the passes of the stages do to memory, computed once a kind and stage."""

    def __init__(self, stages: Sequence[Blocks]) -> None:
        self.stages = stages
        self._nets: dict[tuple[Kind, int], int] = {}
        self._fullest: dict[tuple[Kind, int, int | None], tuple[int, list[Change]]] = {}

    def net(self, kind: Kind, stage: int) -> int:
        """Bytes that the pass leaves more than it found."""
        if (kind, stage) not in self._nets:
            self._nets[kind, stage] = sum(_sum(_after(kind, block)) for block in self.stages[stage])
        return self._nets[kind, stage]

    def fullest(self, action: Action) -> tuple[int, list[Change]]:
        """Bytes and changes against the state before the action, at its fullest instant."""
        key = (action.kind, action.stage, action.b_stage)
        if key not in self._fullest:
            instants = ((_sum(changes), changes) for changes in _instants(action, self.stages))
            self._fullest[key] = max(instants, key=lambda instant: instant[0])
        return self._fullest[key]


def _after(kind: Kind, block: BlockMemory) -> list[Change]:
    """What one pass of a block leaves changed."""
    if kind == "F":
        return [(1, block.saved)]
    if kind == "B":
        return [(-1, block.saved)]
    if kind == "I":
        return [(-1, tuple(tensor for tensor in block.saved if tensor.until == "I")), (1, block.deferred)]
    return [(-1, tuple(tensor for tensor in block.saved if tensor.until == "W")), (-1, block.deferred)]


def _instants(action: Action, stages: Sequence[Blocks]) -> Iterator[list[Change]]:
    """Changes against the state before the action, at each of its instants that can be its fullest."""
    if action.kind == "FB":
        assert action.b_stage is not None
        forward = list(_pass_instants("F", stages[action.stage]))
        backward = list(_pass_instants("B", stages[action.b_stage]))
        after_forward = [change for block in stages[action.stage] for change in _after("F", block)]
        after_backward = [change for block in stages[action.b_stage] for change in _after("B", block)]
        for idx in range(max(len(forward), len(backward))):
            yield [
                *(forward[idx] if idx < len(forward) else after_forward),
                *(backward[idx] if idx < len(backward) else after_backward),
            ]
    else:
        yield from _pass_instants(action.kind, stages[action.stage])


def _pass_instants(kind: Kind, blocks: Blocks) -> Iterator[list[Change]]:
    """One instant a block, in the order of the pass: the others done or not begun, this one at work."""
    done: list[Change] = []
    for block in blocks if kind == "F" else reversed(blocks):
        if kind == "F":
            yield [*done, (1, block.saved), (1, block.working_forward)]
        elif kind == "W":
            yield list(done)
        elif kind == "B":
            waiting = tuple(tensor for tensor in block.deferred if not tensor.is_working)
            yield [*done, (1, waiting), (1, block.working_backward)]
        else:
            yield [*done, (1, block.deferred), (1, block.working_backward)]
        done += _after(kind, block)
    if not blocks:
        yield []


def _sum(changes: Iterable[Change]) -> int:
    return sum(sign * total_bytes(tensors) for sign, tensors in changes)
