"""Order and dependencies inside an action: an overlapped pair (two micro-batches), or a lone F, B, I or W.

A chunk is what a rank does of one micro-batch in one stage and pass; a lone chunk runs with no other beside it, so that its
own dispatch and combine are not hidden behind another's compute.
Inside a pair, a unit pair at a time (DeepSeek-V3 report 3.2.1 and the published trace):
    compute stream   attn(F), mlp(B), mlp(W), mlp(F), attn(B), attn(W)
    comm stream      combine(B), dispatch(F), dispatch(B), combine(F)
    host             issues these in the order of the compute stream, dispatch(F) behind mlp(B), so that what the host waits for
                     before a dispatch finds the device with work
    dependencies     attn(F) → dispatch(F) → mlp(F) → combine(F) → next attn(F);
                     combine(B) → mlp(B) → dispatch(B) → attn(B) → next combine(B); W needs its B.
What is computed again before a backward (attn(R), dispatch(R), mlp(R), combine(R)) starts when that backward may, and runs
in front of it: its dispatch exposed, its combine queued before combine(B) and beside the other half's attention.
A block waits as a whole: in the trace no kernel of mlp(B), the shared expert's included, starts before combine(B) has ended.
A lone chunk's full backward follows automatic differentiation: a layer's weight gradients are computed with its input
gradient, before the dispatch(B) or combine(B) that comes next (DualPipe's executor defers them only in input-only backwards).
Alignment rule for chunks of unequal make-up: units are paired index by index in their order of execution (forward order of
F's stage against backward order of B's stage), whatever their kinds; the longer chunk's rest runs alone. A dense layer or
head that is paired with a MoE layer covers that layer's communication and needs none of its own.
A pipeline transfer joins the communication stream behind the chunk's last all-to-all, since both use the rank's one NIC. It
starts when its tensor is there; with `wait_at_boundary` when the whole chunk is done, and the rank's next chunk waits for it;
a pair then starts when the inputs of both halves are there (DualPipe receives both before it), else each half with its own.
Transfers that sender and receiver join are no part of an action (joint.py).
What the host holds of a unit's activations leaves behind its forward and comes back before its backward, on two streams, one a
direction: one unit of a forward is being copied while the next computes, and one unit of a backward comes ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hwprofiles.kernels.shape import Regime
from simulator.assembly.chunks import (
    COMM,
    COMPUTE,
    COPY_IN,
    COPY_OUT,
    NO_TRANSFERS,
    Copy,
    DrawKind,
    StageCost,
    Transfers,
    UnitCost,
)
from simulator.assembly.collectives import NO_COLLECTIVES, ActionCollectives, Progress
from simulator.assembly.pairing import Pairing
from simulator.assembly.sides import Side, sides_of
from simulator.assembly.template import INPUT_B, INPUT_BOTH, INPUT_F, Template
from simulator.schedule.action import Kind

_Numbered = tuple[int, UnitCost]
"""A unit and its place in its stage, in forward order."""


@dataclass
class _Half:
    """Progress of one direction through its units. needs: INPUT_* until the first operator that waits for it is placed."""

    template: Template
    half: str
    regime: Regime
    pending_input: str
    ready: list[int] = field(default_factory=list)
    progress: Progress = field(default_factory=lambda: Progress(NO_COLLECTIVES))
    copies: Sequence[Copy] = ()
    copied: list[int] = field(default_factory=list)

    def enter(self, unit: int | None) -> None:
        """Begins the gathers that may begin when `unit` is about to start (None: when the pass is)."""
        t, gathers = self.template, self.progress.plan.gathers
        before, issued = t.last_compute(), self.progress.issued
        if gathers and unit == gathers[-1].unit and before:
            t.before_last = before[0]
        for number, bucket in enumerate(self.progress.due(unit), issued):
            first = len(t.ops)
            self.progress.gathered[bucket.unit] = t.collect(bucket, before, self.half, ("gathers", number))
            if not before and self.progress.plan.ahead is not None:
                if unit is None:
                    t.early_gather = first if t.early_gather < 0 else t.early_gather
                else:
                    t.next_gather = first if t.next_gather < 0 else t.next_gather

    def params(self, unit: int) -> list[int]:
        """What brings the unit's parameters."""
        return self.progress.gathered.get(unit, [])

    def leave(self, unit: int) -> list[int]:
        """Reduces the buckets whose last weight gradient was the unit's; returns what the next unit has to wait for."""
        plan, waits = self.progress.plan, []
        for number, bucket in enumerate(plan.reduces):
            if bucket.unit == unit:
                waits += self.template.collect(bucket, self.template.last_compute(), self.half, ("reduces", number))
        if plan.reduces_beside:
            return []
        self.template.closing = max(waits, default=self.template.closing)
        return waits

    def block(self, unit: UnitCost, idx: int, name: str, preds: Sequence[int], needs: str = "") -> list[int]:
        key = (name, self.regime)
        cost = unit.blocks.get(key)
        done = list(preds)
        if cost is None:
            return done
        for i, (suffix, draw, segment) in enumerate(cost.segments):
            label = f"{unit.name}.{name}{suffix}"
            done = self.template.put(
                label, segment, COMPUTE, done, needs, self.half, idx, draw, origin=("block", key, i)
            )
            needs = ""
        return done

    def transfer(self, unit: UnitCost, idx: int, name: str, preds: Sequence[int], needs: str = "") -> list[int]:
        key = (name, self.regime)
        draw: DrawKind = "arriving" if name in ("dispatch_f", "dispatch_r", "combine_b") else "leaving"
        return self.template.put(
            f"{unit.name}.{name}", unit.all_to_all.get(key), COMM, preds, needs, self.half, idx, draw, is_join=True,
            origin=("all_to_all", key, 0),
        )  # fmt: skip


@dataclass
class _Forward(_Half):
    """attn → dispatch → mlp → combine, one method a phase."""

    attn: list[int] = field(default_factory=list)
    dispatch: list[int] = field(default_factory=list)

    def run_attn(self, unit: UnitCost, idx: int) -> None:
        self.enter(idx)
        preds = [*self.ready, *self.params(idx), *self.copied[-2:-1]]
        self.attn = self.block(unit, idx, "attn_f", preds, self.pending_input)
        if ("attn_f", self.regime) in unit.blocks:
            self.pending_input = ""

    def run_dispatch(self, unit: UnitCost, idx: int) -> None:
        self.dispatch = self.transfer(unit, idx, "dispatch_f", self.attn)

    def run_mlp(self, unit: UnitCost, idx: int) -> None:
        local = self.block(unit, idx, "mlp_f_local", [*self.attn, *self.dispatch], self.pending_input)
        if ("mlp_f_local", self.regime) in unit.blocks:
            self.pending_input = ""
        self.ready = self.block(unit, idx, "mlp_f_routed", local)

    def run_combine(self, unit: UnitCost, idx: int) -> None:
        self.ready = self.transfer(unit, idx, "combine_f", self.ready)
        self.copy_out(unit, idx)

    def copy_out(self, unit: UnitCost, idx: int) -> None:
        """Sends what the unit keeps to the host. A unit waits until what the one before the last kept is gone."""
        for number, copy in enumerate(self.copies):
            if copy.unit == idx:
                self.copied += self.template.put(
                    f"{unit.name}.copy_out", copy.segment, COPY_OUT, self.template.last_compute(), "", self.half, idx,
                    origin=("copies", number, 0),
                )  # fmt: skip


@dataclass
class _Backward(_Half):
    """combine → mlp → dispatch → attn; weight gradients behind the block that feeds them.

    units: of the stage in forward order.
    """

    units: Sequence[UnitCost] = ()
    combine: list[int] = field(default_factory=list)
    mlp: list[int] = field(default_factory=list)
    dispatch: list[int] = field(default_factory=list)

    def enter(self, unit: int | None) -> None:
        """Begins the copies from the host too: the first with the pass, the others one ahead of their units."""
        super().enter(unit)
        at = next((i for i, copy in enumerate(self.copies) if copy.unit == unit), -1)
        if unit is not None and at < 0:
            return
        before = self.template.last_compute()
        for number in range(len(self.copied), min(at + 2, len(self.copies))):
            copy = self.copies[number]
            done = self.template.put(
                f"{self.units[copy.unit].name}.copy_in", copy.segment, COPY_IN, before if number else [], "", self.half,
                copy.unit, origin=("copies", number, 0),
            )  # fmt: skip
            self.template.first_back = self.template.first_back if number else done[0]
            self.copied += done
            self.progress.gathered.setdefault(copy.unit, []).extend(done)

    def replay(self, unit: UnitCost, idx: int) -> None:
        """The forward, or what of it is computed again, of the units whose backward begins with this one's."""
        done = self.ready
        for i in range(idx + 1 - unit.replays, idx + 1):
            attn = self.block(self.units[i], i, "attn_r", [*done, *self.params(i)], self.pending_input)
            dispatch = self.transfer(self.units[i], i, "dispatch_r", attn)
            local = self.block(self.units[i], i, "mlp_r_local", [*attn, *dispatch])
            done = self.block(self.units[i], i, "mlp_r_routed", local)
            done = self.transfer(self.units[i], i, "combine_r", done)

    def run_combine(self, unit: UnitCost, idx: int) -> None:
        self.combine = self.transfer(unit, idx, "combine_b", self.ready, self.pending_input)

    def run_mlp(self, unit: UnitCost, idx: int) -> None:
        local = self.block(unit, idx, "mlp_b_local", [*self.combine, *self.params(idx)], self.pending_input)
        self.mlp = self.block(unit, idx, "mlp_b_routed", local, self.pending_input)
        self._started(unit, "mlp_b_local", "mlp_b_routed")

    def run_dispatch(self, unit: UnitCost, idx: int) -> None:
        self.dispatch = self.transfer(unit, idx, "dispatch_b", self.mlp)

    def run_attn(self, unit: UnitCost, idx: int) -> None:
        self.ready = self.block(unit, idx, "attn_b", [*self.mlp, *self.dispatch], self.pending_input)
        self._started(unit, "attn_b")

    def run_weights(self, unit: UnitCost, idx: int, name: str, preds: Sequence[int]) -> list[int]:
        done = self.block(unit, idx, name, preds, self.pending_input)
        self._started(unit, name)
        return done

    def run_shared(self, unit: UnitCost, idx: int, part: str, preds: Sequence[int], *, with_weights: bool) -> list[int]:
        """Shared experts beside a message: input gradients of one of their parts, and its weight gradients."""
        done = self.block(unit, idx, f"shared_b_{part}", preds, self.pending_input)
        if with_weights:
            done = self.block(unit, idx, f"shared_w_{part}", done)
        return done

    def _started(self, unit: UnitCost, *names: str) -> None:
        """The input is waited for once one of the blocks stands there (an embedding alone has its weight gradient only)."""
        if any((name, self.regime) in unit.blocks for name in names):
            self.pending_input = ""


def _regime(*units: UnitCost) -> Regime:
    """Kernels share the GPU with communication kernels where one of the units sends anything."""
    return "overlapped" if any(unit.all_to_all for unit in units) else "alone"


def _beside_shared(unit: UnitCost) -> Regime:
    """Of a lone chunk's messages, and of the shared experts that run beside them."""
    return "overlapped" if ("shared_f_up", "overlapped") in unit.blocks else "alone"


def build_template(
    kind: Kind, stage: StageCost, b_stage: StageCost | None, *, pairing: Pairing, wait_at_boundary: bool,
    sent: Transfers = NO_TRANSFERS,
    collectives: ActionCollectives = ActionCollectives(),
) -> Template:  # fmt: skip
    """The template of an action. stage: of the F, B, I or W; of an FB, of the forward half, b_stage of the backward half.

    pairing: how an FB runs; without `beside` it runs its forward, then its backward, as lone chunks. wait_at_boundary: see the
    module.
    sent: the transfers behind it.
    collectives: what data parallelism gathers and reduces in it.
    """
    t, sides = Template(), sides_of(kind, stage, b_stage, collectives, pairing)
    if kind == "W":
        _run_weights(t, sides["B"])
        return t
    waits_for_both = kind == "FB" and (wait_at_boundary or pairing.by_layer)
    input_f, input_b = (INPUT_BOTH, INPUT_BOTH) if waits_for_both else (INPUT_F, INPUT_B)
    f_units: list[_Numbered] = []
    b_units: list[_Numbered] = []
    forward = backward = None
    if "F" in sides:
        forward = _Forward(
            t, "F", "alone", input_f, progress=Progress(sides["F"].plan), copies=sides["F"].copies
        )  # fmt: skip
        f_units = list(enumerate(sides["F"].units))
        forward.enter(None)
    if "B" in sides:
        backward = _Backward(
            t, "B", "alone", input_b, progress=Progress(sides["B"].plan), units=sides["B"].units, copies=sides["B"].copies
        )  # fmt: skip
        b_units = list(enumerate(sides["B"].units))[::-1]
        backward.enter(None)
    for f_unit, b_unit in _side_by_side(f_units, b_units, pairing):
        if forward and backward and f_unit and b_unit:
            _run_pair(forward, backward, f_unit, b_unit, delays_weights=pairing.delays_weights)
        elif forward and f_unit:
            _run_lone_forward(forward, *f_unit)
        elif backward and b_unit and kind != "I" and pairing.delays_lone_weights:
            _run_delaying_backward(backward, *b_unit)
        elif backward and b_unit:
            _run_lone_backward(backward, *b_unit, with_weights=kind != "I")
    if forward:
        t.out_f = forward.ready
    if backward:
        t.out_b = backward.ready
    chunk = t.stream_ends() if wait_at_boundary else []
    if forward and sent.output:
        preds = sorted({*t.out_f, *chunk})
        t.send_f = t.put(f"stage_{stage.stage}.send_f", sent.output, COMM, preds, "", "F", -1)[0]
    if backward and sent.gradient:
        preds = sorted({*t.out_b, *chunk})
        t.send_b = t.put(f"stage_{sides['B'].stage}.send_b", sent.gradient, COMM, preds, "", "B", -1)[0]
    return t


def _side_by_side(
    f_units: Sequence[_Numbered], b_units: Sequence[_Numbered], pairing: Pairing
) -> Iterator[tuple[_Numbered | None, _Numbered | None]]:
    """(forward's unit, backward's unit) in their order of execution, None where the other has nothing beside it."""
    f, b = 0, 0
    while pairing.beside and f < len(f_units) and b < len(b_units):
        outside = (pairing.by_layer and units[i][1].is_head for units, i in ((f_units, f), (b_units, b)))
        f_alone, b_alone = outside
        both = f_alone == b_alone
        yield f_units[f] if both or f_alone else None, b_units[b] if both or b_alone else None
        f, b = f + (both or f_alone), b + (both or b_alone)
    yield from ((unit, None) for unit in f_units[f:])
    yield from ((None, unit) for unit in b_units[b:])


def _run_weights(t: Template, side: Side) -> None:
    """A lone chunk of weight gradients, and what is reduced behind them."""
    back = _Backward(t, "B", "alone", "", progress=Progress(side.plan))
    for idx, unit in reversed(list(enumerate(side.units))):
        waits = back.ready
        for name in ("mlp_w", "shared_w_down", "shared_w_up"):
            back.run_weights(unit, idx, name, waits)
        back.run_weights(unit, idx, "attn_w", waits)
        back.ready = back.leave(idx)


def _run_pair(
    forward: _Forward, backward: _Backward, f_unit: _Numbered, b_unit: _Numbered, *, delays_weights: bool
) -> None:
    (f_idx, f), (b_idx, b) = f_unit, b_unit
    forward.regime = backward.regime = _regime(f, b)
    backward.enter(b_idx)
    backward.replay(b, b_idx)
    backward.run_combine(b, b_idx)
    forward.run_attn(f, f_idx)
    backward.run_mlp(b, b_idx)
    forward.run_dispatch(f, f_idx)
    weights = backward.run_weights(b, b_idx, "mlp_w", backward.mlp)
    backward.mlp = backward.mlp if delays_weights else weights
    backward.run_dispatch(b, b_idx)
    forward.run_mlp(f, f_idx)
    forward.run_combine(f, f_idx)
    backward.run_attn(b, b_idx)
    weights = backward.run_weights(b, b_idx, "attn_w", backward.ready)
    backward.ready = [*(backward.ready if delays_weights else weights), *backward.leave(b_idx)]


def _run_lone_forward(forward: _Forward, idx: int, unit: UnitCost) -> None:
    """Shared experts that run beside messages: up beside dispatch, down beside combine."""
    beside = _beside_shared(unit)
    forward.regime = "alone"
    forward.run_attn(unit, idx)
    forward.regime = beside
    forward.run_dispatch(unit, idx)
    up = forward.block(unit, idx, "shared_f_up", forward.attn)
    forward.regime = "alone"
    forward.run_mlp(unit, idx)
    forward.regime = beside
    forward.run_combine(unit, idx)
    down = forward.block(unit, idx, "shared_f_down", up)
    forward.ready = forward.ready if down == forward.attn else [*forward.ready, *down]


def _run_delaying_backward(backward: _Backward, idx: int, unit: UnitCost) -> None:
    """A lone full backward whose weight gradients run beside the messages behind them."""
    backward.regime = "alone"
    backward.enter(idx)
    backward.replay(unit, idx)
    beside = _regime(unit)
    backward.regime = beside
    backward.run_combine(unit, idx)
    backward.regime = "alone"
    backward.run_mlp(unit, idx)
    backward.regime = beside
    backward.run_weights(unit, idx, "mlp_w", backward.mlp)
    backward.run_dispatch(unit, idx)
    backward.regime = "alone"
    backward.run_attn(unit, idx)
    backward.regime = beside
    backward.run_weights(unit, idx, "attn_w", backward.ready)
    backward.ready = [*backward.ready, *backward.leave(idx)]


def _run_lone_backward(backward: _Backward, idx: int, unit: UnitCost, *, with_weights: bool) -> None:
    """Shared experts that run beside messages: their down projection beside combine, their up projections beside dispatch."""
    beside = _beside_shared(unit)
    backward.regime = "alone"
    backward.enter(idx)
    backward.replay(unit, idx)
    backward.regime = beside
    shared = [*backward.ready, *backward.params(idx)]
    backward.run_combine(unit, idx)
    shared = backward.run_shared(unit, idx, "down", shared, with_weights=with_weights)
    backward.regime = "alone"
    backward.run_mlp(unit, idx)
    if with_weights:
        backward.mlp = backward.run_weights(unit, idx, "mlp_w", backward.mlp)
    backward.regime = beside
    backward.run_dispatch(unit, idx)
    shared = backward.run_shared(unit, idx, "up", shared, with_weights=with_weights)
    if ("shared_b_up", beside) in unit.blocks:
        backward.dispatch = [*backward.dispatch, *shared]
    backward.regime = "alone"
    backward.run_attn(unit, idx)
    if with_weights:
        backward.ready = backward.run_weights(unit, idx, "attn_w", backward.ready)
        backward.ready = [*backward.ready, *backward.leave(idx)]
