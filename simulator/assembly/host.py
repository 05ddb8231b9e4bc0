"""The process that issues a rank's work: operators on a stream of their own, between the device operators that they hold up.

The operators of an action stand in the order in which the process issues them. Issuing operator i takes it `issue.seconds`,
and the operator cannot begin before `issue.lead_s` of that. Both follow from its kernels one by one: with l_j the host's
seconds of kernel j and d_j the device's, the run ends at

    max(ready + sum d, begin of its issue + max over j of (l_1 + … + l_j + d_j + … + d_n)),

which is an operator of `sum d` that waits for its inputs and for the moment `lead_s` behind the begin of its issue, lead_s
being that maximum less `sum d`. So a run whose kernels are shorter than their launches is paced by the host inside too, and a
chain of such runs takes the sum of what it takes to issue them. The host runs ahead without limit: a launch queue holds some
1,024 launches, of more than which only a device far behind would know, and that one does not wait for the host.

What is left out. Of one action, due(X) is when X may begin, counted from the action's first call, and from the last
synchronisation on at the latest. Every operator begins at due(X) or later, and no earlier than the operators that it waits for
have ended; so from(X) = max(due(X), from(Y) + seconds(Y) of those Y that are issued behind the same synchronisation) bounds its
begin from below. Where the second is not below the first, X needs no edge to the host: without one it begins no earlier. The
share SHORTEST covers what a draw, a range or a chip at a higher speed may take off Y's seconds; operators whose load is drawn
count nothing. Host operators that nothing waits for are one with the next. So an action whose blocks take longer than their
launches keeps the operators of its first ones, and one behind its last.

A synchronisation (the host reads what the router decided, to know how much it will receive) makes the host wait for what the
operator behind it waits for; then everything behind it is issued late. At a pipeline exchange it may wait for all that its GPU
does and receives (`waits_at_exchanges`): then the action's first call comes behind that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from simulator.assembly.chunks import HOST, NO_ISSUE, Issue, LocalOp, Origin, Segment
from simulator.assembly.template import Template

HOST_WORK = "host"
"""Category of a host operator, and of the time in which a device waits for one."""
OTHER = "other"
"""Category of what the host does between two steps."""
ISSUE = "issue"
"""Ends the label of an operator that issues another."""
SHORTEST, AT_LEAST = 0.5, 0.75
"""Share of a device operator's low seconds that counts when operators of the host are left out, and that has to do at other
prices: it takes as long in any draw, since GPUs of one kind differ by a few percent.
"""
ROUNDING = 1e-12
"""Relative: an operator that an earlier one's host operator holds may be due so much later by the order of its sums."""

Halves = Mapping[str, frozenset[int]]
"""Half of an action → its units with experts that are routed anew in every forward."""


@dataclass(frozen=True)
class HostPlan:
    """What issuing takes beside the segments' own `issue`.

    call_s: one collective, transfer or copy outside the units' blocks. sync_s: what a synchronisation takes the host once the
    device is there. reads_routers: in a MoE layer's forward it waits for the rows that each expert receives.
    waits_at_exchanges: it waits until its GPU has done all that it has and holds what comes from other ranks, before it issues
    an action in front of which something is sent or received.
    prunes: host operators that provably hold nothing up are left out.
    """

    call_s: float
    sync_s: float = 0.0
    reads_routers: bool = False
    waits_at_exchanges: bool = False
    prunes: bool = True

    def of(self, op: LocalOp, segment: Segment) -> Issue:
        """What issuing an operator takes that runs this segment."""
        return segment.issue if op.origin[0] in ("block", "all_to_all") else Issue(self.call_s, self.call_s)


def host_segment(seconds: float) -> Segment:
    """Work of the host."""
    return Segment(seconds, seconds, seconds, {HOST_WORK: seconds}, {"assumed": seconds})


def with_host(bare: Template, plan: HostPlan, routed: Halves, *, waits: bool = False) -> Template:
    """A template with the operators of the host between its own. routed: where the host waits for a router; waits: for its GPU,
    before the action (for what, expand.py says).
    """
    work = _Work(bare, plan, owed=int(waits))
    synced = sync_points(bare, routed) if plan.reads_routers else set()
    for i, op in enumerate(bare.ops):
        work.issue(i, op, is_synced=i in synced)
    return work.done()


def sync_points(bare: Template, routed: Halves) -> set[int]:
    """What the host issues behind a wait for all that it waits for: the dispatch, or the experts where nothing is sent."""
    places: dict[tuple[str, int, str], dict[str, int]] = {}
    recomputed = {(op.half, op.unit) for op in bare.ops if op.origin[0] == "block" and _name(op) == "attn_r"}
    for i, op in enumerate(bare.ops):
        what = _SYNCED.get(_name(op))
        if what is not None and op.unit in routed.get(op.half, ()):
            part, passes = what
            places.setdefault((op.half, op.unit, passes), {}).setdefault(part, i)
    found: set[int] = set()
    for (half, unit, passes), at in places.items():
        if "dispatch" in at:
            found.add(at["dispatch"])
        elif passes == "F" or (half, unit) in recomputed:
            found.add(at["experts"])
    return found


_SYNCED: Mapping[str, tuple[str, str]] = {
    "dispatch_f": ("dispatch", "F"), "mlp_f_local": ("experts", "F"), "mlp_f_routed": ("experts", "F"),
    "dispatch_r": ("dispatch", "R"), "mlp_r_local": ("experts", "R"), "mlp_r_routed": ("experts", "R"),
}  # fmt: skip
"""Block or message → what it is to the host that waits for a router, and the pass."""


def _name(op: LocalOp) -> str:
    """Of a block or message; "" for others."""
    what, key, _ = op.origin
    return key[0] if what in ("block", "all_to_all") and isinstance(key, tuple) else ""


@dataclass
class _Work:
    """Operators placed so far. at, kept: host seconds from the action's begin to what is issued next, and to the end of the
    last host operator; begins: of every device operator, the least seconds before it begins; synced: the first one issued
    behind the last synchronisation; waits: what the next host operator waits for, with `owed` synchronisations in it.
    """

    bare: Template
    plan: HostPlan
    ops: list[LocalOp] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    begins: list[float] = field(default_factory=list)
    last_on_stream: dict[int, int] = field(default_factory=dict)
    at: float = 0.0
    kept: float = 0.0
    synced: int = 0
    waits: list[int] = field(default_factory=list)
    owed: int = 0
    last: int = -1

    def issue(self, i: int, op: LocalOp, *, is_synced: bool) -> None:
        """Places a device operator, behind the host operator that it needs."""
        issue = self.plan.of(op, op.segment)
        ahead = issue.ahead_s if is_synced else 0.0
        self.at += ahead
        if is_synced:
            self._wait(i, op)
        due = self.at + issue.lead_s - ahead
        preds = [self.index[pred] for pred in op.preds]
        ready = self._ready(op)
        if not self.plan.prunes or self.waits or ready < due:
            self._put(f"{op.label}.{ISSUE}", due, op, is_due=True)
            preds.append(self.last)
        self.begins.append(max(due, ready))
        self.at += issue.seconds - ahead
        self.index.append(len(self.ops))
        self.last_on_stream[op.stream] = i
        self.ops.append(
            LocalOp(op.label, op.segment, op.stream, preds, op.needs, op.draw, op.half, op.unit, op.is_join, op.origin)
        )

    def done(self) -> Template:
        """The template, the rest of the issuing behind its operators."""
        self._put(f"action.{ISSUE}", self.at, self.bare.ops[-1] if self.bare.ops else None)
        bare = self.bare
        out_f, out_b = ([self.index[each] for each in out] for out in (bare.out_f, bare.out_b))
        found = replace(bare, ops=self.ops, out_f=out_f, out_b=out_b, bare=bare)
        for name in _INDICES:
            at = getattr(bare, name)
            setattr(found, name, self.index[at] if at >= 0 else at)
        return found

    def _wait(self, i: int, op: LocalOp) -> None:
        """The host waits for what a device operator waits for, once it has issued what stands before."""
        self._put(f"{op.label}.{ISSUE}", self.at, op)
        self.waits = [self.index[pred] for pred in op.preds]
        self.owed = 1
        self.synced = i

    def _ready(self, op: LocalOp) -> float:
        """The least seconds before all is there that an operator waits for; below 0 where nothing is known of it."""
        before = self.last_on_stream.get(op.stream, -1)
        known = [
            self.begins[pred] + _shortest_s(self.bare.ops[pred], self.bare.ops[pred].segment, SHORTEST)
            for pred in (*op.preds, before)
            if pred >= self.synced
        ]
        return max(known, default=-1.0)

    def _put(self, label: str, until: float, beside: LocalOp | None, *, is_due: bool = False) -> None:
        """A host operator up to a moment; nothing where there is nothing to do, but for one that others need. is_due: up to
        when the operator behind it may begin.
        """
        seconds = until - self.kept + self.owed * self.plan.sync_s
        if seconds > 0 or self.waits or (is_due and self.last < 0):
            half, unit = (beside.half, beside.unit) if beside else ("F", -1)
            self.last = len(self.ops)
            origin: Origin = ("host", int(is_due), self.owed)
            self.ops.append(
                LocalOp(label, host_segment(seconds), HOST, self.waits, "", "none", half, unit, origin=origin)
            )
        self.kept, self.owed, self.waits = until, 0, []


_INDICES = ("send_f", "send_b", "early_gather", "next_gather", "before_last", "closing", "first_back")
"""Operators that a template names, -1 for none."""


def _shortest_s(op: LocalOp, segment: Segment, share: float) -> float:
    """Seconds that an operator takes at least."""
    return segment.low * share if op.draw == "none" else 0.0


def issued_anew(found: Template, segments: Sequence[Segment], plan: HostPlan) -> list[Segment] | None:
    """Every operator's segment of a template with host operators where its device operators run other segments; None where what
    was left out might hold something up.
    """
    bare = found.bare
    assert bare is not None
    anew: list[Segment] = []
    begins: list[float] = []
    last_on_stream: dict[int, int] = {}
    at = kept = ahead = 0.0
    synced = 0
    for op in found.ops:
        i = len(begins)
        if op.stream == HOST:
            _, is_due, syncs = op.origin
            issue = plan.of(bare.ops[i], segments[i]) if i < len(segments) else NO_ISSUE
            if not ahead and (syncs or not is_due):
                ahead = issue.ahead_s
                at += ahead
            until = at + issue.lead_s - ahead if is_due else at  # in the order of `_Work.issue`, to the bit
            anew.append(host_segment(until - kept + syncs * plan.sync_s))
            kept, synced = until, i if syncs else synced
            continue
        issue = plan.of(bare.ops[i], segments[i])
        due = at + issue.lead_s - ahead
        ready = -1.0
        for pred in (*bare.ops[i].preds, last_on_stream.get(op.stream, -1)):
            if pred >= synced:
                ready = max(ready, begins[pred] + _shortest_s(bare.ops[pred], segments[pred], AT_LEAST))
        is_held = any(found.ops[pred].stream == HOST for pred in op.preds)
        if due > kept + ROUNDING * due if is_held else ready < due:
            return None
        kept = due if is_held else kept  # as `_Work._put` keeps it, to the bit
        anew.append(segments[i])
        begins.append(max(due, ready))
        last_on_stream[op.stream] = i
        at, ahead = at + (issue.seconds - ahead), 0.0
    return anew
