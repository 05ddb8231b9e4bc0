"""Dispatch and combine of an expert group.

    t = t0 + max(NIC bytes / achieved NIC rate, NVLink bytes / achieved NVLink rate, bytes * (a + b*r) / SMs)

with r the expected remote nodes of a token: the copies that the kernel's SMs make; in one node
bytes * a * c, with c the distinct GPUs of a token over those of the runs behind a. Where the stack has rows of the same
kernel, the formula only carries the nearest row to other sizes: t = row * formula(message) / formula(row), the row
being on the links on which it was measured (`link.nic.reference_bytes_per_s`, `link.nvlink.reference_bytes_per_s`).
The stack's keys: link.nic.all_to_all, link.nvlink.all_to_all (shares of the link rate), all_to_all.t0_s
(all_to_all.t0_one_node_s), all_to_all.sm_cost_<op>[_one_node | _per_remote_node] (s*SM/byte),
all_to_all.overlap_slowdown_<op>, all_to_all.model_error, all_to_all.top_k (experts a token in the runs behind the
rows).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hwprofiles.collectives.rows import CollectiveOp, CollectiveRow
from hwprofiles.kernels.parameters import Range, find, need
from hwprofiles.kernels.shape import Regime
from hwprofiles.provenance import Basis
from hwprofiles.stack_records import Stack
from simulator.costs.cost import NO_COST, BoundBy, CollectiveCost, Counted, weakest
from simulator.costs.links import CORNERS, Corner, NicPath, filling_s, nic_path, rate_at, reference_rate, time_at
from simulator.network.topology import Network
from simulator.network.traffic import exchange_traffic
from simulator.workload.expert_load import LoadedLinks
from simulator.workload.op import AllToAll

SAME_SIZE = 0.01
"""Relative difference below which a message is the row's own."""
BY_RANK = "a copy for each GPU of a token, its own included (DeepEP, inside a node)"
BY_NODE = "a copy for each node of a token, its own included (DeepEP, between nodes); over NICs go (n-1)/n of it"
ONE_NODE_RANKS = 8
"""GPUs of the node in the runs behind `all_to_all.sm_cost_<op>_one_node`: SMs send a copy to each GPU of a token, and add
one of each (csrc/kernels/intranode.cu), in racks of more GPUs too: 16 SMs, 8 and 16 GPUs of a GB200 rack: 362 and 329 GB/s of
such copies (docs/README_Hybrid-EP.md of the branch hybrid-ep).
"""
ONE_NODE_TOP_K = 8
"""Experts of a token, over ONE_NODE_RANKS GPUs, in the runs behind `all_to_all.sm_cost_<op>_one_node` (deepseek-ai/DeepEP
tests/test_intranode.py).
"""
INTERPOLATED_WITHIN = 2.0
"""Ratio of the formula up to which a row of the same group counts as neighbouring."""


def all_to_all_cost(message: AllToAll, network: Network, stack: Stack, regime: Regime, comm_sms: int) -> CollectiveCost:
    """Seconds of the kernel of one dispatch or combine, without the synchronisation before it (`notify_floor`).

    regime: "overlapped" (compute kernels run beside it) or "alone". comm_sms: SMs that the kernel holds, >= 1.
    Without rows of the overlapped regime: the cost alone times the stack's overlap slow-down.
    Raises MissingKernelError where the stack lacks a key, ValueError for comm_sms < 1.
    """
    if comm_sms < 1:
        raise ValueError(f"comm_sms is {comm_sms}; a dispatch kernel needs at least one SM")
    if message.ranks == 1 or message.tokens == 0:
        return NO_COST
    row = _nearest_row(message, stack, regime)
    if row is None and regime == "overlapped":
        alone = all_to_all_cost(message, network, stack, "alone", comm_sms)
        return alone.times(need(stack, f"all_to_all.overlap_slowdown_{message.op}"))
    model = _model_of(message, network, stack)
    if row is None:
        return _by_formula(message, model, network, stack, comm_sms)
    return _by_row(message, model, network, stack, comm_sms, row)


def beside_full_grid(
    alone: CollectiveCost, beside: CollectiveCost, stretch: float, *, is_inside: bool
) -> CollectiveCost:  # fmt: skip
    """A dispatch or combine beside kernels that are launched on the whole GPU: its blocks wait for SMs as a collective's do.

    alone, beside: its costs with no kernel beside it, and beside kernels that leave its SMs alone. stretch: how many times as
    long a collective on scale-up links takes beside kernels. is_inside: nothing of it leaves the node; else only its way
    inside the nodes is stretched, and sets its time where that is longer than the way over NICs.
    """
    is_stretched = is_inside and alone.bound_by in ("scale_up", "sms")
    seconds = stretch * (alone.seconds if is_stretched else alone.scale_up_s)
    if seconds <= beside.seconds:
        return beside
    longer = seconds / alone.seconds
    return replace(
        beside, seconds=seconds, low=min(beside.low, seconds), high=max(beside.high, alone.high * longer),
        bound_by=alone.bound_by if is_stretched else "scale_up",
    )  # fmt: skip


def loaded_links(message: AllToAll, network: Network, stack: Stack, comm_sms: int) -> LoadedLinks:
    """What the kernel's time follows where ranks are unevenly loaded.

    NICs carry one copy a node: the node's load. Scale-up links carry one copy a rank: the rank's tokens. SMs copy between
    NICs and links, which all GPUs of a node share, or inside one node what comes to the rank.
    """
    model = _model_of(message, network, stack)
    terms = _terms(message, model, network.nic_bytes_per_s, network.scale_up_bytes_per_s, comm_sms, "value")
    return followed(terms, model.t0_s.value, is_inside=message.num_nodes == 1)


def followed(terms: Mapping[BoundBy, float], t0_s: float, *, is_inside: bool) -> LoadedLinks:
    """The same of a kernel that takes the longest of these seconds, of each resource, behind t0_s. is_inside: in one node."""
    node, rank = terms["nic"], terms["scale_up"]
    if is_inside:
        rank = max(rank, terms["sms"])
    else:
        node = max(node, terms["sms"])
    most = max(node, rank)
    return LoadedLinks(node / most, rank / most, t0_s / (t0_s + most)) if most > 0 else LoadedLinks()


def notify_floor(message: AllToAll, stack: Stack, regime: Regime) -> CollectiveCost:
    """Seconds that announcing the counts costs when no rank is late, before the kernel of `all_to_all_cost`.

    The floor of the notify kernel (`notify_floor_s`), and before a dispatch with a new layout the kernel that computes
    it (`dispatch_layout_s`). What a notify waits for late ranks is not in it: the simulated joins produce that.
    """
    if message.ranks == 1 or message.tokens == 0:
        return NO_COST
    counted = find(stack, f"notify_in_rows.{regime}")
    parts = [] if counted and counted.value == 1.0 else [need(stack, "notify_floor_s")]
    if message.op == "dispatch" and not message.cached_layout:
        parts.append(need(stack, "dispatch_layout_s"))
    if not parts:
        return NO_COST
    return CollectiveCost(
        math.fsum(part.value for part in parts),
        math.fsum(part.low for part in parts),
        math.fsum(part.high for part in parts),
        weakest(*(part.basis for part in parts)),
        "; ".join(part.source for part in parts),
        bound_by="latency",
    )


@dataclass(frozen=True, slots=True)
class _Model:
    """The formula's constants for one kernel and group; shares and times with their ranges."""

    nic: NicPath
    scale_up_share: Range
    t0_s: Range
    sm_cost: Range
    sm_cost_per_remote_node: Range

    @property
    def basis(self) -> Basis:
        """The weakest of the constants'."""
        copies = self.sm_cost.basis, self.sm_cost_per_remote_node.basis
        return weakest(self.nic.share.basis, self.scale_up_share.basis, self.t0_s.basis, *copies)


def _model_of(message: AllToAll, network: Network, stack: Stack) -> _Model:
    cost = f"all_to_all.sm_cost_{message.op}"
    one_node = message.num_nodes == 1
    return _Model(
        nic_path(stack, "link.nic.all_to_all", network, message.num_nodes),
        need(stack, "link.nvlink.all_to_all"),
        need(stack, *(("all_to_all.t0_one_node_s",) if one_node else ()), "all_to_all.t0_s"),
        need(stack, *((f"{cost}_one_node", cost) if one_node else (cost,))),
        need(stack, f"{cost}_per_remote_node"),
    )


def _seconds(
    message: AllToAll, model: _Model, nic_bytes_per_s: float, scale_up_bytes_per_s: float, sms: int, corner: Corner
) -> tuple[float, BoundBy]:
    """The formula, and the term that is largest."""
    terms = _terms(message, model, nic_bytes_per_s, scale_up_bytes_per_s, sms, corner)
    return with_start(terms, time_at(model.t0_s, corner))


def with_start(terms: Mapping[BoundBy, float], t0_s: float) -> tuple[float, BoundBy]:
    """The largest of terms that run together, behind what starts them, and which of all it is."""
    bound_by = max(terms, key=lambda name: terms[name])
    return t0_s + terms[bound_by], bound_by if terms[bound_by] >= t0_s else "latency"


def _terms(
    message: AllToAll, model: _Model, nic_bytes_per_s: float, scale_up_bytes_per_s: float, sms: int, corner: Corner
) -> dict[BoundBy, float]:
    """Seconds of each resource for the bytes of the message."""
    traffic = exchange_traffic(message)
    copies = time_at(model.sm_cost, corner)
    if message.num_nodes == 1:
        copies *= message.ranks_per_token / _distinct(ONE_NODE_RANKS, ONE_NODE_TOP_K)
    copies += time_at(model.sm_cost_per_remote_node, corner) * traffic.remote_nodes_per_token
    return {
        "nic": model.nic.seconds(traffic.nic_bytes, nic_bytes_per_s, corner),
        "scale_up": traffic.scale_up_bytes / (rate_at(model.scale_up_share, corner) * scale_up_bytes_per_s),
        "sms": message.tokens * message.bytes_per_token * copies / sms,
    }


def _by_formula(message: AllToAll, model: _Model, network: Network, stack: Stack, comm_sms: int) -> CollectiveCost:
    rates = (network.nic_bytes_per_s, network.scale_up_bytes_per_s)
    (value, bound_by), (fast, _), (slow, _) = (_seconds(message, model, *rates, comm_sms, corner) for corner in CORNERS)
    error = _model_error(stack)
    source = f"all-to-all formula; {model.nic.share.source if bound_by == 'nic' else model.scale_up_share.source}"
    low, high = fast * (1.0 - error), slow * (1.0 + error)
    cost = CollectiveCost(value, low, high, model.basis, source, bound_by=bound_by)
    return with_links(cost, message, model.nic, model.scale_up_share, network, stack)


def _by_row(
    message: AllToAll, model: _Model, network: Network, stack: Stack, comm_sms: int, row: CollectiveRow
) -> CollectiveCost:
    reference_nic = reference_rate(stack, "link.nic.reference_bytes_per_s", network.nic_bytes_per_s)
    reference_scale_up = reference_rate(stack, "link.nvlink.reference_bytes_per_s", network.scale_up_bytes_per_s)
    measured = _message_of(row, message, stack)
    row_model = replace(model, nic=replace(model.nic, crossing_frac=0.0))
    row_sms = row.sms or comm_sms
    ratios: list[float] = []
    bound_by: BoundBy = "none"
    for corner in CORNERS:
        here, bound = _seconds(message, model, network.nic_bytes_per_s, network.scale_up_bytes_per_s, comm_sms, corner)
        there, _ = _seconds(measured, row_model, reference_nic, reference_scale_up, row_sms, corner)
        ratios.append(here / there)
        bound_by = bound if corner == "value" else bound_by
    same_links = (network.nic_bytes_per_s, network.scale_up_bytes_per_s) == (reference_nic, reference_scale_up)
    basis = _basis(message, row, ratios[0], same_links and row_sms == comm_sms)
    error = 0.0 if basis == "measured" else _model_error(stack)
    value = row.seconds * ratios[0]
    low = min(value, (row.low or row.seconds) * min(ratios)) * (1.0 - error)
    high = max(value, (row.high or row.seconds) * max(ratios)) * (1.0 + error)
    source = row.source if basis == "measured" else f"scaled by bytes from {row.op}, {row.nodes} nodes: {row.source}"
    cost = CollectiveCost(value, low, high, basis, source, bound_by=bound_by)
    return with_links(cost, message, model.nic, model.scale_up_share, network, stack)


def with_links(
    cost: CollectiveCost, message: AllToAll, nic: NicPath, scale_up_share: Range, network: Network, stack: Stack
) -> CollectiveCost:  # fmt: skip
    """What it sends over links, and for how long that fills them."""
    traffic = exchange_traffic(message)
    copies, counted_as = (
        (message.ranks_per_token, BY_RANK) if message.num_nodes == 1 else (message.nodes_per_token, BY_NODE)
    )
    payload = message.tokens * message.bytes_per_token * copies
    counted = Counted(message.ranks, message.num_nodes, payload, payload, counted_as)
    inside = traffic.scale_up_bytes / network.scale_up_bytes_per_s
    nic_s = nic.filling_s(traffic.nic_bytes, network.nic_bytes_per_s, stack)
    scale_up_s = filling_s(stack, "link.nvlink.line", inside, 1.0, inside / scale_up_share.value)
    return replace(
        cost, bytes_nic=traffic.nic_bytes, bytes_scale_up=traffic.scale_up_bytes, counted=counted,
        nic_s=min(cost.seconds, nic_s), scale_up_s=min(cost.seconds, scale_up_s),
    )  # fmt: skip


def _model_error(stack: Stack) -> float:
    """Mean error of the formula on groups left out of its fit, as a fraction; 0 where the stack says none."""
    found = find(stack, "all_to_all.model_error")
    return 0.0 if found is None else found.value


def _row_ops(message: AllToAll) -> tuple[CollectiveOp, ...]:
    """Names of the kernel in collectives.csv, the most specific first."""
    if message.op == "dispatch":
        return ("dispatch_cached", "dispatch") if message.cached_layout else ("dispatch",)
    return ("combine_backward", "combine") if message.direction == "B" else ("combine",)


def _nearest_row(message: AllToAll, stack: Stack, regime: Regime) -> CollectiveRow | None:
    """The row of the kernel whose group is nearest in nodes, then GPUs, then size; None where there is none."""
    for op in _row_ops(message):
        rows = stack.collectives.select(op, regime)
        if rows:
            return min(rows, key=lambda row: _distance(message, row))
    return None


def _distance(message: AllToAll, row: CollectiveRow) -> tuple[float, ...]:
    pairs = ((message.num_nodes, row.nodes), (message.ranks, row.ranks), (message.tokens, row.tokens))
    return tuple(abs(math.log(mine / its)) for mine, its in pairs)


def _message_of(row: CollectiveRow, message: AllToAll, stack: Stack) -> AllToAll:
    """The all-to-all that the row measured; its distinct GPUs a token follow from `all_to_all.top_k` uniform
    choices."""
    candidates = math.ceil(row.nodes_per_token) * row.ranks / row.nodes
    top_k = need(stack, "all_to_all.top_k").value
    return AllToAll(
        message.op, message.direction, row.tokens, row.bytes_per_token, row.nodes, row.ranks, row.nodes_per_token,
        ranks_per_token=_distinct(candidates, top_k), cached_layout=message.cached_layout,
    )  # fmt: skip


def _distinct(places: float, choices: float) -> float:
    """Expected distinct places of so many independent choices, each place as likely."""
    return places * (1.0 - math.pow(1.0 - 1.0 / places, choices))


def _basis(message: AllToAll, row: CollectiveRow, ratio: float, same_machine: bool) -> Basis:
    if row.basis not in ("measured", "interpolated"):
        return row.basis
    same_group = (message.num_nodes, message.ranks) == (row.nodes, row.ranks)
    sizes = (
        (message.tokens, row.tokens),
        (message.bytes_per_token, row.bytes_per_token),
        (message.nodes_per_token, row.nodes_per_token),
    )
    same_size = all(abs(mine / its - 1.0) <= SAME_SIZE for mine, its in sizes)
    if same_group and same_size and same_machine:
        return row.basis
    near = 1.0 / INTERPOLATED_WITHIN <= ratio <= INTERPOLATED_WITHIN
    return "interpolated" if same_group and near else "extrapolated"
