"""The order of an action's operators and what each waits for, as the DeepSeek-V3 report (3.2.1) and its trace have them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.assembly.chunks import COMM, COMPUTE, Transfers
from simulator.assembly.pair import build_template
from simulator.assembly.pairing import Pairing
from simulator.assembly.template import INPUT_B, INPUT_BOTH, INPUT_F, Template
from tests.assembly.made_up import AGAIN, MESSAGES, segment, stage, unit


def on_stream(t: Template, stream: int) -> list[str]:
    return [op.label for op in t.ops if op.stream == stream]


def waits(t: Template, label: str) -> set[str]:
    """Labels that an operator names as its predecessors."""
    (op,) = (op for op in t.ops if op.label == label)
    return {t.ops[pred].label for pred in op.preds}


def needs(t: Template, label: str) -> str:
    return next(op.needs for op in t.ops if op.label == label)


SENT = Transfers(segment(), segment())
F_STAGE, B_STAGE = stage(3, unit("f")), stage(12, unit("b"))


@pytest.fixture
def pair() -> Template:
    return build_template("FB", F_STAGE, B_STAGE, pairing=Pairing(), wait_at_boundary=False, sent=SENT)


def test_a_pair_computes_in_the_traced_order(pair: Template) -> None:
    assert on_stream(pair, COMPUTE) == [
        "f.attn_f", "b.mlp_b_local", "b.mlp_b_routed.routed", "b.mlp_w", "f.mlp_f_local", "f.mlp_f_routed.routed",
        "b.attn_b", "b.attn_w",
    ]  # fmt: skip


def test_a_pair_communicates_in_the_traced_order(pair: Template) -> None:
    sent = ["b.combine_b", "f.dispatch_f", "b.dispatch_b", "f.combine_f"]
    assert on_stream(pair, COMM) == [*sent, "stage_3.send_f", "stage_12.send_b"]


def test_blocks_wait_for_their_messages_and_messages_for_their_blocks(pair: Template) -> None:
    expected = {
        "f.dispatch_f": {"f.attn_f"},
        "f.mlp_f_local": {"f.attn_f", "f.dispatch_f"},
        "f.mlp_f_routed.routed": {"f.mlp_f_local"},
        "f.combine_f": {"f.mlp_f_routed.routed"},
        "b.mlp_b_local": {"b.combine_b"},
        "b.mlp_b_routed.routed": {"b.mlp_b_local"},
        "b.dispatch_b": {"b.mlp_b_routed.routed"},
        "b.mlp_w": {"b.mlp_b_routed.routed"},
        "b.attn_b": {"b.mlp_b_routed.routed", "b.dispatch_b"},
        "b.attn_w": {"b.attn_b"},
        "stage_3.send_f": {"f.combine_f"},
        "stage_12.send_b": {"b.attn_b"},
    }
    assert {label: waits(pair, label) for label in expected} == expected


def test_the_next_layer_waits_for_the_one_before() -> None:
    two_f, two_b = stage(3, unit("f0"), unit("f1")), stage(12, unit("b0"), unit("b1"))
    t = build_template("FB", two_f, two_b, pairing=Pairing(), wait_at_boundary=False, sent=SENT)
    assert waits(t, "f1.attn_f") == {"f0.combine_f"}
    assert waits(t, "b0.combine_b") == {"b1.attn_b"}
    assert on_stream(t, COMM)[:4] == ["b1.combine_b", "f0.dispatch_f", "b1.dispatch_b", "f0.combine_f"]


def test_each_half_has_its_own_input_and_both_where_chunks_wait_at_the_boundary(pair: Template) -> None:
    assert (needs(pair, "f.attn_f"), needs(pair, "b.combine_b")) == (INPUT_F, INPUT_B)
    waiting = build_template("FB", F_STAGE, B_STAGE, pairing=Pairing(), wait_at_boundary=True, sent=SENT)
    assert (needs(waiting, "f.attn_f"), needs(waiting, "b.combine_b")) == (INPUT_BOTH, INPUT_BOTH)
    alone = build_template("F", F_STAGE, None, pairing=Pairing(), wait_at_boundary=True, sent=SENT)
    assert needs(alone, "f.attn_f") == INPUT_F


def test_transfers_wait_for_the_whole_chunk_at_the_boundary() -> None:
    t = build_template("FB", F_STAGE, B_STAGE, pairing=Pairing(), wait_at_boundary=True, sent=SENT)
    assert waits(t, "stage_3.send_f") == {"f.combine_f", "b.attn_w"}
    assert waits(t, "stage_12.send_b") == {"b.attn_b", "f.combine_f", "b.attn_w"}


@pytest.mark.parametrize("f_moe", [True, False])
@pytest.mark.parametrize("b_moe", [True, False])
def test_kernels_share_the_gpu_where_either_half_sends(f_moe: bool, b_moe: bool) -> None:
    """A dense layer beside a MoE layer loses the SMs of its communication; two dense ones lose none."""
    f_stage, b_stage = stage(3, unit("f", is_moe=f_moe)), stage(12, unit("b", is_moe=b_moe))
    t = build_template("FB", f_stage, b_stage, pairing=Pairing(), wait_at_boundary=False, sent=SENT)
    regime = "overlapped" if f_moe or b_moe else "alone"
    for half, unit_cost in (("f", f_stage.units[0]), ("b", b_stage.units[0])):
        for op in t.ops:
            name = op.label.removeprefix(f"{half}.").removesuffix(".routed")
            if op.label.startswith(f"{half}.") and name not in MESSAGES:
                assert op.segment is unit_cost.blocks[name, regime].segments[0][2]


def test_a_longer_chunk_runs_its_rest_alone() -> None:
    """Two layers forward, one backward: the second forward overlaps nothing."""
    f_stage, b_stage = stage(3, unit("f0"), unit("f1")), stage(12, unit("b"))
    t = build_template("FB", f_stage, b_stage, pairing=Pairing(), wait_at_boundary=False, sent=SENT)
    rest = next(op for op in t.ops if op.label == "f1.attn_f")
    assert rest.segment is f_stage.units[1].blocks["attn_f", "alone"].segments[0][2]
    apart = build_template("FB", f_stage, b_stage, pairing=Pairing(beside=False), wait_at_boundary=False, sent=SENT)
    weights = next(op for op in apart.ops if op.label == "b.mlp_w")
    assert weights.segment is b_stage.units[0].blocks["mlp_w", "alone"].segments[0][2]
    assert on_stream(apart, COMPUTE)[:3] == ["f0.attn_f", "f0.mlp_f_local", "f0.mlp_f_routed.routed"]


def test_a_lone_backward_has_its_weight_parts_behind_each_block_and_an_input_backward_none() -> None:
    full = build_template("B", B_STAGE, None, pairing=Pairing(), wait_at_boundary=False, sent=SENT)
    order = ["b.mlp_b_local", "b.mlp_b_routed.routed", "b.mlp_w", "b.attn_b", "b.attn_w"]
    assert on_stream(full, COMPUTE) == order
    assert waits(full, "b.dispatch_b") == {"b.mlp_w"}
    assert waits(full, "stage_12.send_b") == {"b.attn_w"}
    inputs = build_template("I", B_STAGE, None, pairing=Pairing(), wait_at_boundary=False, sent=SENT)
    assert on_stream(inputs, COMPUTE) == ["b.mlp_b_local", "b.mlp_b_routed.routed", "b.attn_b"]
    weights = build_template(
        "W", stage(1, unit("b0"), unit("b1")), None, pairing=Pairing(), wait_at_boundary=False, sent=SENT
    )
    assert [op.label for op in weights.ops] == ["b1.mlp_w", "b1.attn_w", "b0.mlp_w", "b0.attn_w"]


def test_what_an_expert_s_load_multiplies(pair: Template) -> None:
    """Routed kernels: the rank's own rows. Messages towards the experts: its node's; those from them: the fullest node's."""
    draws = {op.label: op.draw for op in pair.ops if op.draw != "none"}
    assert draws == {
        "f.mlp_f_routed.routed": "rank", "b.mlp_b_routed.routed": "rank", "f.dispatch_f": "arriving", "b.combine_b": "arriving",
        "f.combine_f": "leaving", "b.dispatch_b": "leaving",
    }  # fmt: skip
    assert {op.label for op in pair.ops if op.is_join} == {f"{half}.{name}" for half, name in (
        ("f", "dispatch_f"), ("f", "combine_f"), ("b", "combine_b"), ("b", "dispatch_b"),
    )}  # fmt: skip


LONE = ["mlp_b_local", "mlp_b_routed.routed", "mlp_w", "attn_b", "attn_w"]
REPLAY = ["attn_r", "mlp_r_local", "mlp_r_routed.routed"]


def test_a_layer_runs_again_in_front_of_its_backward() -> None:
    """When the backward may start, its messages before the gradient's; the layer before it not until its own turn."""
    two = stage(12, unit("b0", is_again=True), unit("b1", is_again=True))
    for kind in ("B", "I"):
        t = build_template(kind, two, None, pairing=Pairing(), wait_at_boundary=False)  # type: ignore[arg-type]
        own = LONE if kind == "B" else [name for name in LONE if not name.endswith("_w")]
        assert on_stream(t, COMPUTE) == [f"{layer}.{name}" for layer in ("b1", "b0") for name in (*REPLAY, *own)]
        sent = ["dispatch_r", "combine_r", "combine_b", "dispatch_b"]
        assert on_stream(t, COMM)[:8] == [f"{layer}.{name}" for layer in ("b1", "b0") for name in sent]
        assert needs(t, "b1.attn_r") == needs(t, "b1.combine_b") == INPUT_B
        assert waits(t, "b1.attn_r") == set()
        assert waits(t, "b0.attn_r") == {"b1.attn_w" if kind == "B" else "b1.attn_b"}
        assert waits(t, "b1.mlp_r_local") == {"b1.attn_r", "b1.dispatch_r"}
        assert waits(t, "b1.combine_r") == {"b1.mlp_r_routed.routed"}


def test_a_group_runs_again_in_forward_order_before_its_last_layer_goes_back() -> None:
    units = [unit(f"b{i}", is_again=True, is_moe=i != 1, replays=3 if i == 2 else 0) for i in range(3)]
    t = build_template("B", stage(12, *units), None, pairing=Pairing(), wait_at_boundary=False)
    again = [op.label.split(".")[0] for op in t.ops if op.label.split(".")[1] in AGAIN]
    assert again == ["b0"] * 5 + ["b1"] * 2 + ["b2"] * 5
    assert waits(t, "b1.attn_r") == {"b0.combine_r"}
    assert waits(t, "b2.attn_r") == {"b1.mlp_r_local"}
    assert [op.label for op in t.ops].index("b2.combine_r") < [op.label for op in t.ops].index("b2.combine_b")


def test_what_a_pair_runs_again_stands_before_it() -> None:
    """The dispatch is exposed; the combine queues before combine(B), beside the other half's attention."""
    b_stage = stage(12, unit("b", is_again=True))
    t = build_template("FB", F_STAGE, b_stage, pairing=Pairing(), wait_at_boundary=False)
    assert on_stream(t, COMPUTE)[:4] == ["b.attn_r", "b.mlp_r_local", "b.mlp_r_routed.routed", "f.attn_f"]
    assert on_stream(t, COMM)[:4] == ["b.dispatch_r", "b.combine_r", "b.combine_b", "f.dispatch_f"]
    draws = {op.label: op.draw for op in t.ops if op.label.split(".")[1] in AGAIN}
    assert draws == {
        "b.attn_r": "none", "b.dispatch_r": "arriving", "b.mlp_r_local": "none", "b.mlp_r_routed.routed": "rank",
        "b.combine_r": "leaving",
    }  # fmt: skip


def test_an_embedding_alone_waits_for_the_gradient_that_comes_to_it() -> None:
    """Its only backward is its weight gradient."""
    whole = unit("e", is_moe=False)
    alone = replace(whole, blocks={key: block for key, block in whole.blocks.items() if key[0] in ("attn_f", "attn_w")})
    for kind in ("B", "FB"):
        other = F_STAGE if kind == "FB" else stage(0, alone)
        t = build_template(
            kind,
            other,
            stage(0, alone) if kind == "FB" else None,
            pairing=Pairing(beside=False),
            wait_at_boundary=False,
        )
        assert needs(t, "e.attn_w") == INPUT_B
