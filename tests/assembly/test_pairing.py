"""Pairs as Megatron-Core's combined 1F1B runs them: layers alone are paired, weight gradients are delayed or not."""

from __future__ import annotations

from dataclasses import replace

from simulator.assembly.chunks import COMM, COMPUTE, DP, StageCost, UnitCost
from simulator.assembly.collectives import ActionCollectives, Bucket, PassCollectives
from simulator.assembly.pair import build_template
from simulator.assembly.pairing import Pairing
from simulator.assembly.template import INPUT_BOTH, Template
from tests.assembly.made_up import segment, stage, unit

BY_LAYER = Pairing(by_layer=True)
AT_ONCE = Pairing(delays_weights=False, by_layer=True)


def built(kind: str, first: StageCost, second: StageCost | None, pairing: Pairing) -> Template:
    return build_template(kind, first, second, pairing=pairing, wait_at_boundary=False)  # type: ignore[arg-type]


def blocks(t: Template, stream: int) -> list[str]:
    return [op.label.removesuffix(".routed") for op in t.ops if op.stream == stream]


def waits(t: Template, label: str) -> set[str]:
    (op,) = (op for op in t.ops if op.label == label)
    return {t.ops[pred].label for pred in op.preds}


def head(name: str) -> UnitCost:
    return replace(unit(name, is_moe=False), is_head=True)


def test_weight_gradients_at_once_stand_before_the_message_behind_them() -> None:
    pair = built("FB", stage(0, unit("f")), stage(1, unit("b0"), unit("b1")), AT_ONCE)
    assert waits(pair, "b1.dispatch_b") == {"b1.mlp_w"}
    assert waits(pair, "b0.combine_b") == {"b1.attn_w"}
    delayed = built("FB", stage(0, unit("f")), stage(1, unit("b0"), unit("b1")), BY_LAYER)
    assert waits(delayed, "b1.dispatch_b") == {"b1.mlp_b_routed.routed"}
    assert waits(delayed, "b0.combine_b") == {"b1.attn_b"}
    assert blocks(pair, COMPUTE) == blocks(delayed, COMPUTE)
    assert blocks(pair, COMM) == blocks(delayed, COMM)


def test_heads_run_outside_so_that_layers_meet_layers() -> None:
    """The chunk with the head backward beside the first chunk forward: the head first, then layer by layer."""
    last = stage(3, unit("b0"), unit("b1"), head("h"))
    t = built("FB", stage(0, unit("f0"), unit("f1")), last, BY_LAYER)
    assert blocks(t, COMM) == [
        f"{name}.{message}" for f, b in (("f0", "b1"), ("f1", "b0"))
        for name, message in ((b, "combine_b"), (f, "dispatch_f"), (b, "dispatch_b"), (f, "combine_f"))
    ]  # fmt: skip
    by_unit = built("FB", stage(0, unit("f0"), unit("f1")), last, Pairing())
    assert blocks(by_unit, COMM)[:2] == ["f0.dispatch_f", "f0.combine_f"]
    forward = built("FB", last, stage(0, unit("f0"), unit("f1")), BY_LAYER)
    assert blocks(forward, COMPUTE)[-2:] == ["h.attn_f", "h.mlp_f_local"]


def test_a_lone_backward_delays_its_weight_gradients_only_where_pairs_do() -> None:
    two = stage(0, unit("b0"), unit("b1"))
    delayed, at_once, dualpipe = (built("B", two, None, each) for each in (BY_LAYER, AT_ONCE, Pairing()))
    assert waits(delayed, "b1.dispatch_b") == {"b1.mlp_b_routed.routed"}
    assert waits(delayed, "b0.combine_b") == {"b1.attn_b"}
    assert waits(delayed, "b1.mlp_w") == {"b1.mlp_b_routed.routed"}, "beside the message, not behind it"
    assert blocks(delayed, COMPUTE)[-2:] == ["b0.attn_b", "b0.attn_w"]
    assert [op.label for op in at_once.ops] == [op.label for op in dualpipe.ops]
    for lone in (at_once, dualpipe, built("B", two, None, Pairing(beside=False, by_layer=True))):
        assert waits(lone, "b1.dispatch_b") == {"b1.mlp_w"}
        assert waits(lone, "b0.combine_b") == {"b1.attn_w"}


def test_what_runs_beside_something_is_priced_so() -> None:
    """In a lone backward that delays them: messages and weight gradients, but no other kernel."""
    one = unit("b")
    t = built("B", stage(0, one), None, BY_LAYER)
    beside = {op.label for op in t.ops if op.origin[1][1] == "overlapped"}  # type: ignore[index]
    assert beside == {"b.combine_b", "b.dispatch_b", "b.mlp_w", "b.attn_w"}
    dense = built("B", stage(0, unit("b", is_moe=False)), None, BY_LAYER)
    assert not any(op.origin[1][1] == "overlapped" for op in dense.ops)  # type: ignore[index]


def test_a_pair_waits_for_the_inputs_of_both_halves() -> None:
    t = built("FB", stage(0, unit("f")), stage(1, unit("b")), BY_LAYER)
    assert {op.needs for op in t.ops} == {"", INPUT_BOTH}
    assert next(op.needs for op in t.ops if op.label == "f.attn_f") == INPUT_BOTH
    assert next(op.needs for op in t.ops if op.label == "b.combine_b") == INPUT_BOTH


def test_both_halves_gather_and_the_first_gather_makes_room_for_both() -> None:
    """One stream of collectives: what the action before makes room for waits at the first of them."""

    def plan(half: str) -> PassCollectives:
        found = tuple(Bucket(idx, ((f"{half}.g{idx}", segment()),)) for idx in range(2))
        return PassCollectives(found if half == "f" else found[::-1], ahead=1)

    t = build_template(
        "FB", stage(0, unit("f0"), unit("f1")), stage(1, unit("b0"), unit("b1")), pairing=BY_LAYER, wait_at_boundary=False,
        collectives=ActionCollectives(plan("f"), plan("b")),
    )  # fmt: skip
    assert blocks(t, DP) == ["f.g0", "b.g1", "b.g0", "f.g1"]
    assert (t.ops[t.early_gather].label, t.ops[t.next_gather].label) == ("f.g0", "b.g0")
    for half, idx in (("f", 0), ("f", 1)):
        assert f"{half}.g{idx}" in waits(t, f"{half}{idx}.attn_f")
    assert "b.g1" in waits(t, "b1.mlp_b_local")
