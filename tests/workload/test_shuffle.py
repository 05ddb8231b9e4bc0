"""What each dispatcher sends and which kernels order its rows, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulator.network.placement import Lie
from simulator.scenario.dispatchers import DISPATCHERS
from simulator.step.routing import capacity_of
from simulator.workload import memory
from simulator.workload.counted import count_workload, recipe_of
from simulator.workload.layers import shuffle
from simulator.workload.layers.moe import _other_end
from simulator.workload.op import Op, Unit
from simulator.workload.recipe import Recipe
from simulator.workload.routing_model import RoutingStatistics
from tests.workload.memory_cases import ASSUMED, V3, scenario

ROUTING = RoutingStatistics(0.1, 0.0, 3.5, 7.25, 1.3, 0.1, 0.0, 1.1, 0.0)
TOKENS, HIDDEN, TOP_K, EXPERTS, EP = 4096, 7168, 8, 256, 64
NEW = {"dispatch_stage", "combine_b_stage", "routing_map_send", "permute_send", "unpermute_send", "unpermute_send_bwd",
       "permute_send_bwd", "expert_sort", "expert_sort_bwd", "unpermute_sort", "unpermute_bwd_sort"}  # fmt: skip
assert V3.moe is not None
MOE = V3.moe


def recipe(**fields: Any) -> Recipe:
    plan = scenario(precision={"recipe": "bf16"}, moe={"dispatcher": fields.pop("dispatcher", "deepep")})
    return replace(recipe_of(plan, 8, ROUTING), **fields)


def unit(dispatcher: str, **moe: Any) -> Unit:
    plan = scenario(precision={"recipe": "bf16"}, moe={"dispatcher": dispatcher, "balance": "forced", **moe})
    capacity = capacity_of(plan, Lie(1, (8,) * 8), None, {})
    stages = count_workload(plan, 8, ROUTING, capacity).stages
    return next(each for stage in stages for each in stage.units if each.all_to_all)


def ops(found: Unit) -> dict[str, Op]:
    return {op.name: op for op in found.ops()}


def test_deepep_has_no_kernels_beside_those_of_the_experts() -> None:
    found = ops(unit("deepep"))
    assert not NEW & found.keys()
    assert found["permute"].bytes_read == 2 * TOKENS * TOP_K * HIDDEN


def test_the_sender_of_an_all_to_all_copies_out_and_sums() -> None:
    found = ops(unit("alltoall"))
    rows, tokens = 2 * TOKENS * TOP_K * HIDDEN, 2 * TOKENS * HIDDEN
    moved = {name: (found[name].bytes_read, found[name].bytes_written) for name in NEW & found.keys()}
    assert moved == {
        "routing_map_send": (5 * TOKENS * EXPERTS, 8 * TOKENS * EXPERTS),
        "permute_send": (tokens, rows), "unpermute_send": (rows, tokens),
        "unpermute_send_bwd": (tokens, rows), "permute_send_bwd": (rows, tokens),
        "expert_sort": (rows, rows), "unpermute_sort": (rows, rows),
        "expert_sort_bwd": (rows, rows), "unpermute_bwd_sort": (rows, rows),
    }  # fmt: skip
    assert {name for name in moved if found[name].routed} == {name for name in moved if "sort" in name}
    one_expert = [
        list(
            shuffle.arrived(
                MOE.model_copy(update={"num_routed_experts": 64}), HIDDEN, 100, recipe(dispatcher="alltoall")
            )
        )
    ]
    assert one_expert == [[]], "rows of a single expert need no order"


def test_hybridep_copies_tokens_into_its_buffer() -> None:
    found = ops(unit("hybridep"))
    size = 2 * TOKENS * HIDDEN
    assert NEW & found.keys() == {"dispatch_stage", "combine_b_stage"}
    assert (found["dispatch_stage"].bytes_read, found["combine_b_stage"].bytes_written) == (size, size)


def test_an_all_gather_selects_from_all_tokens_and_sums_into_as_many() -> None:
    found = ops(unit("allgather"))
    gathered = EP * TOKENS
    assert found["routing_map"].bytes_read == 5 * gathered * EXPERTS // EP
    assert found["unpermute"].bytes_written == found["unpermute_bwd"].bytes_written == 2 * gathered * HIDDEN
    assert not found["unpermute"].routed


@pytest.mark.parametrize("dispatcher", DISPATCHERS.names())
def test_without_fusion_rows_move_more_bytes_in_more_launches(dispatcher: str) -> None:
    fused, plain = (unit(dispatcher, permute_fusion=is_fused) for is_fused in (True, False))
    size, launches = (
        [sum(value(op) for op in each.ops()) for each in (fused, plain)]
        for value in (lambda op: op.bytes_read + op.bytes_written, lambda op: op.shape.num_kernels)
    )
    assert size[0] < size[1]
    assert launches[0] < launches[1]
    assert [op.flop for op in fused.ops()] == [op.flop for op in plain.ops()]


def test_without_fusion_each_row_is_read_and_added_to_zeros() -> None:
    """A copy a row where a token would be read once; sums read and write what stands there, and write zeros before."""
    found = ops(unit("alltoall", permute_fusion=False))
    rows, tokens = 2 * TOKENS * TOP_K * HIDDEN, 2 * TOKENS * HIDDEN
    for name in ("permute_send", "unpermute_send_bwd"):
        assert (found[name].bytes_read, found[name].bytes_written) == (rows, rows)
    for name in ("unpermute_send", "permute_send_bwd"):
        assert (found[name].bytes_read, found[name].bytes_written) == (2 * rows, tokens + rows)
        assert found[name].shape.num_kernels == 2


def test_an_all_gather_reaches_all_who_share_an_expert() -> None:
    shared = recipe(dispatcher="allgather", etp=2)
    assert shuffle.gathered_tokens(shared) == 2 * shared.ep * shared.sequence_tokens


def test_messages_say_what_a_library_needs_to_know() -> None:
    sent = unit("alltoall").all_to_all
    assert {key for key, each in sent.items() if each.sends_weights} == {"dispatch_f", "dispatch_b"}
    assert {key: each.host_syncs for key, each in sent.items() if each.host_syncs} == {"dispatch_f": 1}
    assert {each.rows_per_token for each in sent.values()} == {TOP_K}
    assert {each.num_experts for each in sent.values()} == {EXPERTS}


@pytest.mark.parametrize(("dispatcher", "syncs"), [("deepep", 1), ("hybridep", 0), ("alltoall", 0), ("allgather", 0)])
def test_padded_experts_send_their_capacity_and_ask_the_host_for_nothing(dispatcher: str, syncs: int) -> None:
    padded = {"capacity_factor": 1.5, "drop": "probs", "pad_to_capacity": True}
    sent = unit(dispatcher, **padded).all_to_all["dispatch_f"]
    assert sent.host_syncs == syncs
    rows = TOKENS if dispatcher == "allgather" else 1.5 * TOKENS
    assert sent.tokens * sent.rows_per_token == pytest.approx(1.5 * TOKENS * TOP_K)
    assert sent.tokens == rows


def test_hybridep_s_buffer_holds_every_token_of_the_group() -> None:
    """One domain of 64, then eight of 8: sent copies in FP8 with scales, arriving ones of seven domains, both ways."""
    plan = scenario(moe={"dispatcher": "hybridep", "dispatch_dtype": "fp8"})
    scales = 4 * 56
    one = EP * TOKENS * (2 * HIDDEN + 4 * EXPERTS + scales)
    assert memory.dispatch_buffer(plan, ASSUMED, 64).num_bytes == one
    whole = EP * TOKENS * (2 * HIDDEN + 4 * 32 + scales) + TOKENS * (
        HIDDEN + scales + 4 * EXPERTS + 7 * (HIDDEN + scales + 4 * 32) + 2 * 7 * (2 * HIDDEN + 4 * 32)
    )
    assert memory.dispatch_buffer(plan, ASSUMED, 8).num_bytes == whole


def test_a_library_has_a_communicator_and_no_buffer_of_its_own() -> None:
    deep, library = (scenario(moe={"dispatcher": name}) for name in ("deepep", "alltoall"))
    assert memory.dispatch_buffer(library, ASSUMED, 8).num_bytes == 0
    assert memory.num_communicators(library) == memory.num_communicators(deep) + 1


@pytest.mark.parametrize(
    ("dispatcher", "beside"), [("deepep", 0), ("alltoall", TOKENS * TOP_K), ("allgather", EP * TOKENS)]
)
def test_the_other_end_of_a_message_is_there_while_it_arrives(dispatcher: str, beside: int) -> None:
    kept = memory.activation_recipe(scenario(moe={"dispatcher": dispatcher}), ASSUMED)
    assert sum(each.num_bytes for each in _other_end(kept, "x", TOKENS * TOP_K, HIDDEN)) == 2 * beside * HIDDEN
