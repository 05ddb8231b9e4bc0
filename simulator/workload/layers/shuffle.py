"""Kernels that order rows by experts before they are computed and bring results back into the order of tokens.

deepep, hybridep: tokens arrive once, are copied out for each of their local experts, and summed before they go back (all four
operators stand with the experts). hybridep copies what it sends into a buffer that its peers can read first.
alltoall: the sender copies every token out for each of its experts (`permute_send`) and sums what comes back
(`unpermute_send`); a rank with several experts sorts what arrived by these, and back (NVIDIA/Megatron-LM
core/transformer/moe/token_dispatcher.py). `unpermute_send` stands in front of the combine, whose results it sums, and its
gradient behind the dispatch of gradients: nothing runs between, so that no time is lost or gained.
allgather: rows are selected from the gathered tokens of the group, and summed into as many.

Unfused (`moe.permute_fusion: false`, core/transformer/moe/moe_utils.py permute, unpermute): the map of tokens to experts is
transposed; masked selections find rows and weights; rows are gathered by index, and summed by atomic additions into zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from simulator.scenario.model import MoeFfn
from simulator.workload import counting as c
from simulator.workload.op import Op, Pass
from simulator.workload.recipe import Recipe

SELECTED = (1 + 2 * 2 + 4, 1 + 4, 8 + 4, 12)
"""Of the unfused map: bytes read for each entry (the mask transposed, and scanned twice by each of two selections; weights)
and written (both transposed); written for each row (its place, its weight); launches: two transposes, two selections of five.
"""


def sent_rows(m: MoeFfn, r: Recipe) -> int:
    """Rows that the rank's own tokens are."""
    return ceil(r.sequence_tokens * m.top_k * r.capacity.rows)


def gathered_tokens(r: Recipe) -> int:
    """Tokens of the group that the all-gather dispatcher brings to each of its GPUs."""
    return r.sequence_tokens * r.ep * r.etp


def before_dispatch(m: MoeFfn, hidden: int, r: Recipe) -> Iterator[Op]:
    """Of the forward, in front of the dispatch."""
    if r.ep == 1:
        return
    tokens, row = r.sequence_tokens, r.sent_bytes(hidden)
    if r.sends == "rows":
        yield from _map("routing_map_send", sent_rows(m, r), tokens * m.num_routed_experts, r)
        yield _copied_out("permute_send", tokens * row, sent_rows(m, r) * row, "F", r)
    elif r.dispatching.stages_input:
        yield c.moved("dispatch_stage", "copy", "F", tokens * row, tokens * row)


def arrived(m: MoeFfn, hidden: int, rows: int, r: Recipe) -> Iterator[Op]:
    """Of the forward, from what arrived to rows by local experts. rows: those that the grouped kernels run over."""
    local, row = m.num_routed_experts // r.ep, r.sent_bytes(hidden)
    if r.sends == "rows":
        yield from _sorted("expert_sort", rows, row, local, "F", r)
        return
    is_gathered = r.sends == "everything"
    entries = (gathered_tokens(r) if is_gathered else rows) * local
    yield from (replace(each, routed=not is_gathered) for each in _map("routing_map", rows, entries, r))
    yield c.moved("permute", "permute", "F", rows * row, rows * row, kernels=2, routed=True)


def leaving(m: MoeFfn, hidden: int, rows: int, r: Recipe) -> Iterator[Op]:
    """Of the forward, from experts' results to what goes back; of an all-to-all also the sum of what came."""
    yield from _back("unpermute", m, hidden, rows, r, "F")
    if r.sends == "rows":
        sent = sent_rows(m, r)
        yield _summed("unpermute_send", 2 * sent * hidden, 2 * r.sequence_tokens * hidden, "F", r)


def arrived_backward(m: MoeFfn, hidden: int, rows: int, r: Recipe) -> Iterator[Op]:
    """Of the backward, from the gradients of the tokens' sums to those of the experts' rows."""
    row = r.sent_bytes(hidden)
    if r.sends == "rows":
        yield _copied_out("unpermute_send_bwd", r.sequence_tokens * row, sent_rows(m, r) * row, "I", r)
        yield from _sorted("expert_sort_bwd", rows, row, m.num_routed_experts // r.ep, "I", r)
        return
    if r.ep > 1 and r.dispatching.stages_input:
        yield c.moved("combine_b_stage", "copy", "I", r.sequence_tokens * row, r.sequence_tokens * row)
    yield c.moved("permute_bwd", "permute", "I", rows * row, rows * row, kernels=2, routed=True)


def leaving_backward(m: MoeFfn, hidden: int, rows: int, r: Recipe) -> Iterator[Op]:
    """Of the backward, from the rows' input gradients to what goes back."""
    yield from _back("unpermute_bwd", m, hidden, rows, r, "I")


def behind_dispatch(m: MoeFfn, hidden: int, r: Recipe) -> Iterator[Op]:
    """Of the backward, the sum of the rows' gradients over each token's experts, where the sender makes it."""
    if r.sends == "rows":
        sent = sent_rows(m, r)
        yield _summed("permute_send_bwd", 2 * sent * hidden, 2 * r.sequence_tokens * hidden, "I", r)


def _back(name: str, m: MoeFfn, hidden: int, rows: int, r: Recipe, phase: Pass) -> Iterator[Op]:
    size = 2 * rows * hidden
    if r.sends == "rows":
        yield from _sorted(f"{name}_sort", rows, 2 * hidden, m.num_routed_experts // r.ep, phase, r)
        return
    is_gathered = r.sends == "everything"
    written = 2 * gathered_tokens(r) * hidden if is_gathered else size
    yield replace(_summed(name, size, written, phase, r), routed=not is_gathered)


def _map(name: str, rows: int, entries: int, r: Recipe) -> Iterator[Op]:
    """Where rows go. entries: of the map of tokens to experts. A mask of a byte and a number of four for each, three passes."""
    if not r.fuses_permute:
        read, written, of_row, kernels = SELECTED
        yield c.moved(name, "row_map", "F", entries * read, entries * written + rows * of_row, kernels=kernels)
    elif r.software.maps_rows:
        yield c.moved(name, "row_map", "F", entries * (1 + 4), 2 * 4 * entries, kernels=3)
    else:
        yield c.moved(name, "routing_map", "F", 8 * rows, 8 * rows, kernels=2)


def _copied_out(name: str, read: int, written: int, phase: Pass, r: Recipe) -> Op:
    """Each token to the places of its rows; unfused, a row is read for each."""
    return c.moved(name, "permute", phase, read if r.fuses_permute else written, written, kernels=2)


def _summed(name: str, read: int, written: int, phase: Pass, r: Recipe) -> Op:
    """Rows summed by token; unfused, zeros are written and each row is added to what stands there."""
    if r.fuses_permute:
        return c.moved(name, "unpermute", phase, read, written)
    return c.moved(name, "unpermute", phase, 2 * read, written + read, kernels=2)


def _sorted(name: str, rows: int, row: int, local: int, phase: Pass, r: Recipe) -> Iterator[Op]:
    """Pieces by sender and expert, brought together by expert; as they are where the rank has one."""
    if local > 1:
        kernels = 2 if r.fuses_permute else 1 + local
        yield c.moved(name, "permute", phase, rows * row, rows * row, kernels=kernels, routed=True)
