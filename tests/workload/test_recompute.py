"""What is computed again: executed once more and no work of the model; kept is only what a checkpoint needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.scenario.plan import Recompute
from simulator.workload.layers.part import PARTS
from simulator.workload.op import BLOCKS, Op, Unit
from simulator.workload.recipe import Recipe
from simulator.workload.recompute import Checkpoint, checkpoint_groups, checkpoint_of, module_names
from simulator.workload.saved import ActivationRecipe
from simulator.workload.stages import build_workload, forward_order, stage_blocks
from simulator.workload.tensors import total_bytes
from tests.workload.test_layers_brute_force import GQA, MLA, TOKENS, by_pass, model, recipe

UNIFORM = Checkpoint()
FORWARD, AGAIN = ("attn_f", "mlp_f_local", "mlp_f_routed"), ("attn_r", "mlp_r_local", "mlp_r_routed")
H = 32


def names(ops: Sequence[Op]) -> list[str]:
    return [op.name for op in ops]


def block_ops(unit: Unit, blocks: Sequence[str]) -> list[Op]:
    return [op for name in blocks for op in unit.blocks.get(name, ())]  # type: ignore[call-overload]


@pytest.mark.parametrize("code", ["d", "m", "mtp"])
@pytest.mark.parametrize("dtype", ["fp8-block", "bf16"])
def test_a_layer_computed_again_runs_its_forward_a_second_time(code: str, dtype: str) -> None:
    """Every forward kernel of its layer, casts included; not the look-up of an embedding; and no more model FLOP."""
    (plain, *_), (again, *_) = (PARTS[code].units(model(MLA), recipe(dtype, modules)) for modules in ((), ("layer",)))
    forward = [op for op in block_ops(again, FORWARD) if op.name != "embedding"]
    repeated = block_ops(again, AGAIN)
    assert names(repeated) == [f"{op.name}_recompute" for op in forward]
    assert [op.shape for op in repeated] == [op.shape for op in forward]
    assert {op.model_flop for op in repeated} == {0.0}
    assert by_pass(again, "model_flop") == by_pass(plain, "model_flop")
    extra = by_pass(again, "flop")["I"] - by_pass(plain, "flop")["I"]
    assert extra == pytest.approx(by_pass(plain, "flop")["F"])


@pytest.mark.parametrize(
    ("code", "module", "blocks", "left_out"),
    [("d", "mlp", ("mlp_f_local",), ()), ("m", "shared_expert", ("mlp_f_local",), ()), ("m", "experts", ("mlp_f_routed",), ()),
     ("m", "moe", ("attn_f", "mlp_f_local", "mlp_f_routed"), ("att", "q_", "kv_", "k_", "o", "ffn_norm"))],
)  # fmt: skip
def test_a_module_computed_again_runs_its_own_forward(
    code: str, module: str, blocks: Sequence[str], left_out: tuple[str, ...]
) -> None:
    """mlp: the dense FFN; shared_expert, experts: these; moe: both and the router, not attention nor its norm."""
    (unit,) = PARTS[code].units(model(MLA), recipe("bf16", (module,)))
    expected = [f"{op.name}_recompute" for op in block_ops(unit, blocks) if not op.name.startswith(left_out or ("-",))]
    assert [op.name for op in unit.ops() if op.name.endswith("_recompute")] == expected
    assert ("dispatch_r" in unit.all_to_all) == ("combine_r" in unit.all_to_all) == (module == "moe")


def test_what_is_sent_again_is_what_was_sent() -> None:
    (unit,) = PARTS["m"].units(model(MLA), recipe(modules=("layer",)))
    for again, first in (("dispatch_r", "dispatch_f"), ("combine_r", "combine_f")):
        assert unit.all_to_all[again] == unit.all_to_all[first]
    (alone,) = PARTS["m"].units(model(MLA), replace(recipe(modules=("layer",)), ep=1))
    assert alone.all_to_all == {}


@pytest.mark.parametrize("attention", [MLA, GQA], ids=["mla", "gqa"])
def test_the_core_runs_again_in_front_of_its_backward(attention: object) -> None:
    """Megatron-LM's selective recompute: the core and nothing beside it."""
    (plain,), (again,) = (PARTS["d"].units(model(attention), recipe("bf16", m)) for m in ((), ("attention",)))  # type: ignore[arg-type]
    added = [op for op in again.ops() if op.name not in names([*plain.ops()])]
    assert names(added) == ["attention_recompute"]
    order = names(again.blocks["attn_b"])
    assert order.index("attention_recompute") + 1 == order.index("attention_bwd")
    assert added[0].shape == next(op.shape for op in plain.ops() if op.name == "attention")


def kept(recipe: ActivationRecipe, code: str) -> int:
    return sum(total_bytes(block.saved) for block in PARTS[code].saved(model(GQA), recipe))


def test_what_modules_leave_to_keep() -> None:
    """BF16, 16 tokens: the core's log-sum-exp; a dense FFN's 6 f of its 6 f + 4 h; of a MoE layer its two norms' ends."""
    plain = ActivationRecipe(tokens=TOKENS, ep=4)
    without = {module: replace(plain, recompute=frozenset({module})) for module in ("attention", "mlp", "moe", "layer")}
    assert kept(plain, "d") - kept(without["attention"], "d") == 4 * TOKENS * 4
    assert kept(plain, "d") - kept(without["mlp"], "d") == 6 * TOKENS * 40
    (attention, _) = PARTS["m"].saved(model(GQA), plain)
    assert kept(without["moe"], "m") == total_bytes(attention.saved) + 2 * 2 * TOKENS * H
    assert kept(without["layer"], "m") == kept(without["layer"], "d") == 2 * TOKENS * H


CODES = ("E", "d", "m", "m", "m", "m", "mtp", "L")


@pytest.mark.parametrize(
    ("checkpoint", "groups"),
    [(Checkpoint("uniform", 1), ((1,), (2,), (3,), (4,), (5,), (7,))), (Checkpoint("uniform", 2), ((1, 2), (3, 4), (5,), (7,))),
     (Checkpoint("uniform", 9), ((1, 2, 3, 4, 5), (7,))), (Checkpoint("block", 2), ((1,), (2,))),
     (Checkpoint("block", 9), ((1,), (2,), (3,), (4,), (5,))), (None, ())],
)  # fmt: skip
def test_groups_of_a_stage(checkpoint: Checkpoint | None, groups: tuple[tuple[int, ...], ...]) -> None:
    """The MTP module stands behind the head (index 7): a group of its own under uniform, left alone under block."""
    assert checkpoint_groups(forward_order(CODES), checkpoint) == groups


def stage_kept(checkpoint: Checkpoint | None) -> int:
    recipe = ActivationRecipe(tokens=TOKENS, ep=4, checkpoint=checkpoint)
    return sum(total_bytes(block.saved) for block in stage_blocks(model(GQA), CODES[:6], recipe))


@given(st.integers(1, 8), st.integers(1, 8))
def test_a_group_keeps_one_input_and_a_block_its_layers_inputs(size: int, recomputed: int) -> None:
    one = 2 * TOKENS * H
    assert stage_kept(Checkpoint("uniform", size)) == -(-5 // size) * one
    layers = [kept(ActivationRecipe(tokens=TOKENS, ep=4), code) for code in CODES[1:6]]
    first = min(recomputed, 5)
    assert stage_kept(Checkpoint("block", recomputed)) == first * one + sum(layers[first:])
    assert stage_kept(Checkpoint("block", 5)) == stage_kept(UNIFORM) < stage_kept(None) == sum(layers)


def test_all_of_a_group_is_there_when_its_last_layer_goes_back() -> None:
    """Two dense layers: 16 h + 6 f and a log-sum-exp each, less the first one's input, when the second's FFN is at work."""
    recipe = ActivationRecipe(tokens=TOKENS, ep=4, checkpoint=Checkpoint("uniform", 2))
    plain = PARTS["d"].saved(model(GQA), ActivationRecipe(tokens=TOKENS, ep=4))
    blocks = stage_blocks(model(GQA), ("d", "d"), recipe)
    every = [tensor for block in plain for tensor in block.saved]
    waiting = [
        total_bytes(light.working_backward) - total_bytes(heavy.working_backward)
        for light, heavy in zip(blocks, (*plain, *plain), strict=True)
    ]
    by_input = [total_bytes(t for t in block.saved if t.until == "I") for block in plain]
    attention, both, one = total_bytes(plain[0].saved), total_bytes(every), 2 * TOKENS * H
    assert waiting == [
        by_input[0] - one, attention - one + by_input[1], both - one + by_input[0], both - one + attention + by_input[1]
    ]  # fmt: skip


def replays(checkpoint: Checkpoint | None, codes: Sequence[str] = CODES) -> list[int]:
    workload = build_workload(model(MLA), (tuple(codes),), replace(recipe("bf16"), checkpoint=checkpoint))
    return [unit.replays for unit in workload.stages[0].units]


def test_the_last_layer_of_a_group_runs_all_of_it_again() -> None:
    """Units: five layers, the head, the MTP module, its head."""
    assert replays(Checkpoint("uniform", 2)) == [0, 2, 0, 2, 1, 1, 1, 1]
    assert replays(Checkpoint("block", 3)) == replays(None) == [1] * 8


@pytest.mark.parametrize(
    "checkpoint", [UNIFORM, Checkpoint("uniform", 3), Checkpoint("block", 5), Checkpoint("block", 2)]
)
def test_full_recompute_executes_one_more_forward_of_its_layers(checkpoint: Checkpoint) -> None:
    def flop(chosen: Checkpoint | None) -> list[float]:
        work: Recipe = replace(recipe("bf16", ("rmsnorm",)), checkpoint=chosen)
        units = build_workload(model(MLA), ((*CODES[:6], "L"),), work).stages[0].units
        return [sum(op.flop for op in unit.ops()) for unit in units]

    forward = [
        sum(op.flop for op in block_ops(unit, FORWARD))
        for unit in build_workload(model(MLA), ((*CODES[:6], "L"),), recipe("bf16")).stages[0].units
    ]
    again = 2 if checkpoint == Checkpoint("block", 2) else 5
    expected = [flop + (forward[idx] if idx < again else 0) for idx, flop in enumerate(flop(None))]
    assert flop(checkpoint) == pytest.approx(expected)


def test_granularity_says_what_is_checkpointed() -> None:
    full = Recompute(granularity="full", method="block", num_layers=3)
    assert (checkpoint_of(full), module_names(full)) == (Checkpoint("block", 3), frozenset())
    assert checkpoint_of(Recompute(granularity="full")) == UNIFORM
    layer = Recompute(granularity="selective", modules=("layer", "rmsnorm"))
    assert (checkpoint_of(layer), module_names(layer)) == (UNIFORM, frozenset())
    some = Recompute(granularity="selective", modules=("rmsnorm",))
    assert (checkpoint_of(some), module_names(some)) == (None, {"rmsnorm"})


def test_blocks_list_every_block() -> None:
    """Of a layer computed again, and of one whose shared experts run beside its messages."""
    (again,) = PARTS["m"].units(model(MLA), recipe(modules=("layer",)))
    (beside,) = PARTS["m"].units(model(MLA), replace(recipe(), shared_beside=True))
    assert set(again.blocks) | set(beside.blocks) == set(BLOCKS)
