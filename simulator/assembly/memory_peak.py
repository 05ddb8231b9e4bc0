"""The fullest instant of each pipeline rank: walks its actions with the bytes that each allocates and frees.

F allocates what its blocks save. B frees it, block by block from the stage's end. I frees what only the input
gradient needs and allocates the operands that wait for W; W frees the rest. An FB goes through both halves a block
pair at a time. Beside these stands the working set of the block that is at work (of both, in an FB: their
communication overlaps the other's compute). The peak is that of one instant, not a sum of maxima; a stage's state and
buffers stay over the whole step, gradients that come late and outputs that are kept from when they are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    *,
    late_gradients: bool = False,
) -> tuple[RankMemory, ...]:
    """The memory of every rank.

    stages: the blocks of every stage in forward order; states, buffers: what every rank holds all along. late_gradients: but
    for the gradients, which the first backward of a rank allocates, as much a block, and which are dropped after the step.
    Raises InconsistentSimulation where an action frees what is not there, or something is left at the end.
    """
    result = []
    stages, known = _shared(stages), Known({}, {})
    for rank, actions in enumerate(schedule.ranks):
        state = states[rank]
        blocks = {stage: stages[stage] for stage in schedule.placement[rank]}
        late = _late_blocks(state.gradients, blocks) if late_gradients else None
        peak = peak_of(actions, stages, late, None if late else known)
        contents = Counter(peak.contents)
        held = (state.weights, () if late_gradients else state.gradients, state.optimizer, buffers[rank])
        for tensor in chain(*held):
            contents[tensor.name] += tensor.num_bytes
        gradients = sum(contents[tensor.name] for tensor in state.gradients)
        total = peak.num_bytes + sum(total_bytes(tensors) for tensors in held)
        weights, optimizer, buffer = (total_bytes(each) for each in (state.weights, state.optimizer, buffers[rank]))
        result.append(
            RankMemory(
                pp_rank=rank,
                weights_bytes=weights,
                gradients_bytes=gradients,
                optimizer_bytes=optimizer,
                activations_bytes=total - gradients - weights - optimizer - buffer,
                buffers_bytes=buffer,
                peak_bytes=total,
                tensors={name: num_bytes for name, num_bytes in contents.most_common() if num_bytes},
                at_action=str(actions[peak.action_idx]) if actions else "",
                action_idx=peak.action_idx,
            )
        )
    return tuple(result)


def host_activations(schedule: Schedule, on_host: Sequence[Blocks]) -> tuple[int, ...]:
    """The most bytes of activations that the host holds for each rank. on_host: of every stage's blocks."""
    return tuple(peak_of(actions, on_host).num_bytes for actions in schedule.ranks)


def _shared(stages: Sequence[Blocks]) -> list[Blocks]:
    """The same blocks, equal ones as one object."""
    shared: list[Blocks] = []
    for blocks in stages:
        shared.append(next((each for each in shared if each is blocks or each == blocks), blocks))
    return shared


def _late_blocks(gradients: Sequence[Tensor], stages: Mapping[int, Blocks]) -> dict[int, Blocks]:
    """The blocks of a rank's stages, each with an equal part of the rank's gradients (the first with what is left over)."""
    left, count = {tensor.name: tensor.num_bytes for tensor in gradients}, sum(map(len, stages.values()))
    late: dict[int, Blocks] = {}
    for stage, blocks in stages.items():
        parts = []
        for block in blocks:
            share = {name: num_bytes - num_bytes // count * (count - 1) for name, num_bytes in left.items()}
            left = {name: num_bytes - share[name] for name, num_bytes in left.items()}
            count -= 1
            parts.append(replace(block, gradients=tuple(Tensor(name, size, "W") for name, size in share.items())))
        late[stage] = tuple(parts)
    return late


@dataclass(frozen=True, slots=True)
class ActivationPeak:
    """The fullest instant of what comes and goes on a rank: its bytes, by name, and the index of the action."""

    num_bytes: int
    contents: Mapping[str, int]
    action_idx: int


@dataclass(frozen=True, slots=True)
class Known:
    """What passes of the same blocks do to memory, by kind and the blocks' identity, for all ranks: bytes and changes that a
    pass leaves, and those of an action's fullest instant.
    """

    passes: dict[tuple[Kind, int], tuple[int, list[Change]]]
    fullest: dict[tuple[Kind, int, int], tuple[int, list[Change]]]


def peak_of(
    actions: Sequence[Action], stages: Sequence[Blocks], late: Mapping[int, Blocks] | None = None,
    known: Known | None = None,
) -> ActivationPeak:  # fmt: skip
    """The first fullest instant of one rank's order. Raises InconsistentSimulation as `rank_memory` does.

    late: stages whose gradients come with their first weight gradients: their blocks with these. Outputs that are kept to the
    end are joined there: for that instant there are twice as many.
    """
    passes = _Passes(stages, late or {}, known or Known({}, {}))
    waiting: Waiting = {}
    live = peak_bytes = peak_idx = 0
    outputs, gradients = Counter[str](), Counter[str]()
    for idx, action in enumerate(actions):
        fullest = live + passes.fullest(action)[0]
        if fullest > peak_bytes:
            peak_bytes, peak_idx = fullest, idx
        for kind, tensors in passes.kept(action):
            _apply(outputs if kind == "F" else gradients, (1, tensors))
        live += passes.net(action)
        _advance(waiting, action)
        passes.advance(action)
    kept = outputs + gradients
    if waiting or live != kept.total():
        left = ", ".join(f"{stage}F{micro_batch}" for stage, micro_batch in waiting) or "nothing"
        raise InconsistentSimulation(
            f"{live - kept.total()} bytes of activations are left after the last action; unfinished: {left}"
        )
    at_end = kept + outputs
    if at_end.total() > peak_bytes:
        return ActivationPeak(at_end.total(), at_end, len(actions) - 1)
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
    passes.restart()
    contents: Counter[str] = Counter()
    for action in actions[:peak_idx]:
        for change in passes.changes(action):
            _apply(contents, change)
        passes.advance(action)
    for change in passes.fullest(actions[peak_idx])[1] if actions else ():
        _apply(contents, change)
    return +contents


def _apply(contents: Counter[str], change: Change) -> None:
    sign, tensors = change
    for tensor in tensors:
        contents[tensor.name] += sign * tensor.num_bytes


class _Passes:
    """What the passes of the stages do to memory, computed once a kind and stage.

    late: as in peak_of; begun: the stages that have had weight gradients.
    """

    def __init__(self, stages: Sequence[Blocks], late: Mapping[int, Blocks], known: Known) -> None:
        self.stages = stages
        self.late = late
        self._known = known
        self._keeps = bool(late) or any(block.outputs for blocks in stages for block in blocks)
        self.begun: set[int] = set()

    def restart(self) -> None:
        """Before the first action again."""
        self.begun.clear()

    def advance(self, action: Action) -> None:
        """Marks the stage of a pass with weight gradients."""
        self.begun.update(stage for kind, stage, _ in action.halves() if kind in ("B", "W"))

    def _is_first(self, kind: Kind, stage: int) -> bool:
        return kind in ("B", "W") and stage in self.late and stage not in self.begun

    def _blocks(self, kind: Kind, stage: int) -> Blocks:
        return self.late[stage] if self._is_first(kind, stage) else self.stages[stage]

    def _pass(self, kind: Kind, stage: int) -> tuple[int, list[Change]]:
        """Bytes that the pass leaves more than it found, and what it leaves changed."""
        blocks, known = self._blocks(kind, stage), self._known.passes
        key = (kind, id(blocks))
        if key not in known:
            changes = [change for block in blocks for change in _after(kind, block)]
            known[key] = _sum(changes), changes
        return known[key]

    def changes(self, action: Action) -> Iterator[Change]:
        """What the action leaves changed."""
        return chain.from_iterable(self._pass(kind, stage)[1] for kind, stage, _ in action.halves())

    def net(self, action: Action) -> int:
        """Bytes that the action leaves more than it found."""
        return sum(self._pass(kind, stage)[0] for kind, stage, _ in action.halves())

    def kept(self, action: Action) -> Iterator[tuple[Kind, Sequence[Tensor]]]:
        """(pass, tensors) that it allocates to the end of the step: outputs (F), and gradients that come late."""
        for kind, stage, _ in action.halves() if self._keeps else ():
            for block in self._blocks(kind, stage):
                yield kind, block.outputs if kind == "F" else block.gradients if kind in ("B", "W") else ()

    def fullest(self, action: Action) -> tuple[int, list[Change]]:
        """Bytes and changes against the state before the action, at its fullest instant."""
        blocks, known = [self._blocks(kind, stage) for kind, stage, _ in action.halves()], self._known.fullest
        key = (action.kind, id(blocks[0]), id(blocks[-1]))
        if key not in known:
            instants = ((_sum(changes), changes) for changes in _instants(action.kind, blocks))
            known[key] = max(instants, key=lambda instant: instant[0])
        return known[key]


def _after(kind: Kind, block: BlockMemory) -> list[Change]:
    """What one pass of a block leaves changed."""
    if kind == "F":
        return [(1, block.saved), (1, block.outputs)]
    if kind == "B":
        return [(-1, block.saved), (1, block.gradients)]
    if kind == "I":
        return [(-1, tuple(tensor for tensor in block.saved if tensor.until == "I")), (1, block.deferred)]
    freed = tuple(tensor for tensor in block.saved if tensor.until == "W")
    return [(-1, freed), (-1, block.deferred), (1, block.gradients)]


def _instants(kind: Kind, blocks: Sequence[Blocks]) -> Iterator[list[Change]]:
    """Changes against the state before the action, at each of its instants that can be its fullest.

    blocks: of the action's stage; in an FB of the forward's, then of the backward's.
    """
    if kind == "FB":
        forward, backward = list(_pass_instants("F", blocks[0])), list(_pass_instants("B", blocks[1]))
        after_forward = [change for block in blocks[0] for change in _after("F", block)]
        after_backward = [change for block in blocks[1] for change in _after("B", block)]
        for idx in range(max(len(forward), len(backward))):
            yield [
                *(forward[idx] if idx < len(forward) else after_forward),
                *(backward[idx] if idx < len(backward) else after_backward),
            ]
    else:
        yield from _pass_instants(kind, blocks[0])


def _pass_instants(kind: Kind, blocks: Blocks) -> Iterator[list[Change]]:
    """One instant a block, in the order of the pass: the others done or not begun, this one at work."""
    done: list[Change] = []
    for block in blocks if kind == "F" else reversed(blocks):
        if kind == "F":
            yield [*done, (1, block.saved), (1, block.outputs), (1, block.working_forward)]
        elif kind == "W":
            yield [*done, (1, block.gradients)]
        elif kind == "B":
            waiting = tuple(tensor for tensor in block.deferred if not tensor.is_working)
            yield [*done, (1, waiting), (1, block.working_backward), (1, block.gradients)]
        else:
            yield [*done, (1, block.deferred), (1, block.working_backward)]
        done += _after(kind, block)
    if not blocks:
        yield []


def _sum(changes: Iterable[Change]) -> int:
    return sum(sign * total_bytes(tensors) for sign, tensors in changes)
