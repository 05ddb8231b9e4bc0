"""What a rank of a tensor-parallel group multiplies, sends and holds, against layers that really run on all ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import log

import numpy as np
import pytest

from simulator.scenario.model import GqaAttention, MlaAttention
from simulator.workload.layers.part import PARTS, WHOLE, Shard
from simulator.workload.op import Unit
from simulator.workload.recipe import Recipe
from tests.workload.tensor_parallel_world import Ffn, Gqa, Mla, Ranks, World
from tests.workload.test_layers_brute_force import GQA, MLA, MOE, TOKENS, by_pass, model, recipe

H, F, VOCAB = 32, 40, 64
CUTS = [(1, False), (2, False), (2, True), (4, True), (4, False)]
WIDE = GqaAttention(kind="gqa", num_heads=8, num_kv_heads=4, head_dim=4)


def cut(tp: int, shards: bool, etp: int = 1, dtype: str = "bf16", modules: tuple[str, ...] = ()) -> Recipe:
    return replace(recipe(dtype, modules), tp=tp, shards_sequence=shards, etp=etp)


def sent(unit: Unit, axis: str = "tp") -> Counter[tuple[str, str, int]]:
    return Counter((each.phase, each.op, each.num_bytes) for each in unit.collectives() if each.axis == axis)


def flop(unit: Unit) -> dict[str, float]:
    """By pass, of all GEMMs (the router's weight gradient is one, wherever it runs)."""
    totals = {"F": 0.0, "I": 0.0, "W": 0.0}
    for op in unit.ops():
        if op.shape.op in ("gemm", "grouped_gemm"):
            totals["W" if op.shape.variant == "wgrad" else op.phase] += op.flop
    return totals


def run_layer(world: World, attention: GqaAttention | MlaAttention, x: np.ndarray) -> tuple[Ranks, Ranks, list[Ranks]]:
    """Output, input gradient and all weight gradients of a dense layer without its norms."""
    rng = np.random.default_rng(1)
    if isinstance(attention, GqaAttention):
        width, kv = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
        qkv, out = rng.standard_normal((H, width + 2 * kv)), rng.standard_normal((width, H))
        attend: Gqa | Mla = Gqa(world, attention, qkv, out)
    else:
        attend = Mla(world, attention, H, rng)
    feed = Ffn(world, rng.standard_normal((H, 2 * F)) / 1e2, rng.standard_normal((F, H)) / 1e2)
    inputs = world.spread(x / 1e2)
    middle = [a + b for a, b in zip(inputs, attend.forward(inputs), strict=True)]
    outputs = [a + b for a, b in zip(middle, feed.forward(middle), strict=True)]
    grads = world.spread(np.ones_like(x))
    back = [a + b for a, b in zip(grads, feed.backward(grads), strict=True)]
    back = [a + b for a, b in zip(back, attend.backward(back), strict=True)]
    own = [attend.q_down.grads, attend.kv_down.grads] if isinstance(attend, Mla) else []
    return outputs, back, [feed.down.grads, attend.out.grads, *own]


@pytest.mark.parametrize("attention", [WIDE, MLA], ids=["gqa", "mla"])
@pytest.mark.parametrize(("tp", "shards"), CUTS)
def test_a_dense_layer_multiplies_and_sends_what_its_ranks_really_do(
    attention: GqaAttention | MlaAttention, tp: int, shards: bool
) -> None:
    x = np.random.default_rng(0).standard_normal((TOKENS, H))
    world, alone = World(tp, shards), World(1, False)
    outputs, back, (down, out, *own) = run_layer(world, attention, x)
    one_output, one_back, (one_down, one_out, *one_own) = run_layer(alone, attention, x)
    assert np.allclose(np.concatenate(outputs) if shards else outputs[-1], one_output[0])
    assert np.allclose(np.concatenate(back) if shards else back[-1], one_back[0])
    assert np.allclose(np.concatenate(down), one_down[0])
    assert np.allclose(np.concatenate(out), one_out[0])
    for parts, whole in zip(own, one_own, strict=True):
        # A rank's gradients of what it has whole are of its own tokens: the step's end sums them over the ranks.
        assert np.allclose(np.sum(parts, axis=0) if shards else parts[-1], whole[0])
    (unit,) = PARTS["d"].units(model(attention), cut(tp, shards))
    assert sent(unit) == world.sent
    assert flop(unit) == pytest.approx({phase: world.flop[phase] / tp for phase in "FIW"})


@pytest.mark.parametrize(("tp", "shards"), CUTS[1:])
def test_bytes_of_a_layer_by_closed_form(tp: int, shards: bool) -> None:
    """4 all-reduces, 8 (t-1)/t S; with sequence parallelism the same and two gathers more, 10 (t-1)/t S."""
    (unit,) = PARTS["d"].units(model(WIDE), cut(tp, shards))
    wire = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}
    moved = sum(wire[each.op] * each.num_bytes * (tp - 1) / tp for each in unit.collectives())
    assert moved == pytest.approx((10 if shards else 8) * (tp - 1) / tp * 2 * TOKENS * H)
    beside = [each.beside for each in unit.collectives() if each.op == "all_gather" and each.beside]
    assert beside == (["ffn_up_dgrad", "qkv_dgrad"] if shards else [])
    hidden = {each.beside for each in unit.collectives() if each.op != "all_gather" and each.beside}
    assert hidden == {"ffn_up_wgrad", "qkv_wgrad"}


@pytest.mark.parametrize("attention", [WIDE, MLA], ids=["gqa", "mla"])
@pytest.mark.parametrize("code", ["d", "m", "mtp"])
@pytest.mark.parametrize(("tp", "etp"), [(1, 2), (2, 1), (2, 2), (4, 1), (1, 4)])
@pytest.mark.parametrize("dtype", ["bf16", "fp8-block"])
def test_the_ranks_together_do_the_model_flop_of_one(
    attention: GqaAttention | MlaAttention, code: str, tp: int, etp: int, dtype: str
) -> None:
    """Under sequence parallelism nothing is done twice: router and down-projections are of a rank's own tokens."""
    padless = replace(recipe(dtype), row_padding=1)
    units = PARTS[code].units(model(attention), replace(padless, tp=tp, shards_sequence=True, etp=etp))
    for cut_unit, whole in zip(units, PARTS[code].units(model(attention), padless), strict=True):
        assert {k: tp * v for k, v in by_pass(cut_unit, "model_flop").items()} == pytest.approx(
            by_pass(whole, "model_flop")
        )


def test_without_sequence_parallelism_every_rank_does_the_down_projections_of_all_tokens() -> None:
    (unit,), (whole,) = (PARTS["d"].units(model(MLA), cut(tp, False)) for tp in (2, 1))
    down = 2 * TOKENS * H * (24 + 16 + 4)
    assert flop(unit) == pytest.approx({phase: (each - down) / 2 + down for phase, each in flop(whole).items()})


def test_key_heads_that_are_fewer_than_ranks_are_held_by_several() -> None:
    (unit,), (whole,) = (PARTS["d"].units(model(GQA), cut(tp, True)) for tp in (4, 1))
    extra = 2 * TOKENS * H * 2 * GQA.num_kv_heads * GQA.head_dim
    assert {k: 4 * v - extra for k, v in flop(unit).items()} == pytest.approx(flop(whole))
    weights = [PARTS["d"].params(model(GQA), Shard(tp)).dense for tp in (4, 1)]
    shared = weights[1] - 2 * H
    assert weights[0] == 2 * H + shared // 4 + 2 * H * GQA.num_kv_heads * GQA.head_dim // 4


@pytest.mark.parametrize("etp", [1, 2, 4])
def test_ranks_that_share_an_expert_gather_its_rows_and_scatter_its_results(etp: int) -> None:
    """Real rows through an expert cut in columns and rows, on ranks that each brought their own."""
    rng = np.random.default_rng(2)
    up, down = rng.standard_normal((H, 2 * MOE.expert_intermediate_size)), rng.standard_normal((12, H))
    rows = rng.standard_normal((TOKENS * MOE.top_k * etp, H))
    world = World(etp, shards=True)
    feed = Ffn(world, up, down)
    results = np.concatenate(feed.forward(world.spread(rows)))
    feed.backward(world.spread(rows))
    gate, value = np.split(rows @ up, 2, axis=1)
    assert np.allclose(results, (gate * value) @ down)
    # The gathered rows are kept for the weight gradients: they are not gathered again.
    world.sent[("I", "all_gather", 2 * rows.size)] -= 1
    (unit,) = PARTS["m"].units(model(WIDE), cut(1, False, etp))
    assert sent(unit, "etp") == +world.sent
    grouped = {phase: sum(op.flop for op in unit.ops() if op.routed and op.phase == phase) for phase in "FIW"}
    assert grouped == pytest.approx({phase: world.flop[phase] / etp for phase in "FIW"})
    assert all(each.routed for each in unit.collectives())


@pytest.mark.parametrize(("tp", "shards"), CUTS)
def test_a_vocabulary_parallel_loss_is_that_of_all_columns(tp: int, shards: bool) -> None:
    rng = np.random.default_rng(3)
    x, weights, targets = (
        rng.standard_normal((TOKENS, H)),
        rng.standard_normal((H, VOCAB)),
        rng.integers(0, VOCAB, TOKENS),
    )
    world = World(tp, shards)
    whole = world.whole("F", world.spread(x))
    logits = [world.multiply("F", whole, part) for part in np.split(weights, tp, axis=1)]
    per_rank = VOCAB // tp
    largest = np.max([each.max(axis=1) for each in logits], axis=0)
    summed = sum(np.exp(each - largest[:, None]).sum(axis=1) for each in logits)
    mine = [
        np.where(targets // per_rank == rank, each[range(TOKENS), targets % per_rank], 0)
        for rank, each in enumerate(logits)
    ]
    for _ in range(3):
        world.log("F", "all_reduce", TOKENS, 4)
    loss = np.log(summed) + largest - np.sum(mine, axis=0)
    plain = x @ weights
    assert np.allclose(loss, [log(np.exp(row).sum()) - row[target] for row, target in zip(plain, targets, strict=True)])
    world.whole("I", world.spread(x))
    world.summed(
        "I",
        [world.multiply("I", each, part.T) for each, part in zip(logits, np.split(weights, tp, axis=1), strict=True)],
    )
    (unit,) = PARTS["L"].units(model(WIDE), cut(tp, shards))
    assert sent(unit) == world.sent
    assert {phase: flop(unit)[phase] for phase in "FI"} == pytest.approx({p: world.flop[p] / tp for p in "FI"})
    assert PARTS["L"].params(model(WIDE), Shard(tp)).dense == H + H * VOCAB // tp


@pytest.mark.parametrize(("tp", "shards"), CUTS)
def test_a_vocabulary_parallel_embedding_is_summed(tp: int, shards: bool) -> None:
    table, tokens = np.random.default_rng(4).standard_normal((VOCAB, H)), np.arange(TOKENS) * 3
    world, rows = World(tp, shards), VOCAB // tp
    parts = [np.where((tokens // rows == rank)[:, None], table[tokens], 0.0) for rank in range(tp)]
    found = world.summed("F", parts)
    assert np.allclose(np.concatenate(found) if shards else found[-1], table[tokens])
    world.whole("W", found)
    (unit,) = PARTS["E"].units(model(WIDE), cut(tp, shards))
    assert sent(unit) == world.sent
    assert PARTS["E"].params(model(WIDE), Shard(tp)).dense == VOCAB * H // tp


def by_megatron(attention: GqaAttention | MlaAttention, code: str, tp: int, etp: int) -> Iterator[tuple[str, int]]:
    """(what, parameters of one rank): tensor-parallel weights over tp, replicated ones whole, experts over etp."""
    norms, f, h = 2 * H, MOE.expert_intermediate_size, H
    if isinstance(attention, MlaAttention):
        yield "replicated", norms + 24 + 16 + h * (24 + 16 + 4)
        yield "cut", (24 * 4 * 12 + 16 * 4 * 16 + 4 * 8 * h) // tp
    else:
        yield "replicated", norms
        yield "cut", (h * (8 + 2 * 4) * 4 + 8 * 4 * h) // tp
    if code == "d":
        yield "cut", 3 * h * F // tp
    else:
        yield "replicated", MOE.num_routed_experts * (h + 1)
        yield "cut", 3 * h * f * MOE.num_shared_experts // tp
        yield "expert", MOE.num_routed_experts * 3 * h * f // etp


@pytest.mark.parametrize("attention", [WIDE, MLA], ids=["gqa", "mla"])
@pytest.mark.parametrize("code", ["d", "m"])
@pytest.mark.parametrize(("tp", "etp"), [(1, 1), (2, 1), (4, 2), (1, 4)])
def test_parameters_of_a_rank_by_megatrons_sharding_rules(
    attention: GqaAttention | MlaAttention, code: str, tp: int, etp: int
) -> None:
    wanted: Counter[str] = Counter()
    for what, count in by_megatron(attention, code, tp, etp):
        wanted[what] += count
    found = PARTS[code].params(model(attention), Shard(tp, etp))
    assert (found.replicated, found.dense, found.expert) == (
        wanted["replicated"], wanted["replicated"] + wanted["cut"], wanted["expert"]
    )  # fmt: skip
    assert PARTS[code].params(model(attention), WHOLE).replicated == found.replicated


def test_fp8_inputs_are_gathered_in_fp8_and_everything_else_in_bf16() -> None:
    (unit,) = PARTS["d"].units(model(WIDE), cut(2, True, dtype="fp8-block"))
    bytes_of = {each.name: each.num_bytes for each in unit.collectives()}
    fp8, bf16 = TOKENS * H + 4 * (TOKENS * H // 128), 2 * TOKENS * H
    narrow = {name for name, count in bytes_of.items() if count == fp8}
    assert narrow == {f"{layer}_input_gather{again}" for layer in ("qkv", "ffn_up") for again in ("", "_again")}
    assert all(count == bf16 for name, count in bytes_of.items() if name not in narrow)


def test_tokens_outside_the_gemms_are_shared_under_sequence_parallelism_only() -> None:
    def outside(tp: int, shards: bool) -> int:
        (unit,) = PARTS["m"].units(model(MLA), cut(tp, shards))
        names = ("attn_norm", "attn_residual", "ffn_norm", "router_select", "ffn_norm_bwd", "attn_input_grad")
        return sum(op.shape.bytes for op in unit.ops() if op.name in names)

    assert outside(4, False) == outside(1, False) == 4 * outside(4, True)


def test_dispatch_takes_the_tokens_of_the_rank() -> None:
    (unit,) = PARTS["m"].units(model(MLA), cut(4, True))
    assert {each.tokens for each in unit.all_to_all.values()} == {TOKENS // 4}


@pytest.mark.parametrize(("code", "tp", "shards"), [*(("d", *cut) for cut in CUTS[1:]), ("m", 2, True), ("m", 4, True)])
def test_a_layer_that_is_computed_again_repeats_the_collectives_of_its_forward(
    code: str, tp: int, shards: bool
) -> None:
    (plain,), (again,) = (PARTS[code].units(model(MLA), cut(tp, shards, 2, modules=m)) for m in ((), ("layer",)))
    forward = Counter((each.op, each.axis, each.num_bytes) for each in plain.collectives() if each.phase == "F")
    more = Counter((each.op, each.axis, each.num_bytes) for each in again.collectives())
    more.subtract((each.op, each.axis, each.num_bytes) for each in plain.collectives())
    assert +more == forward
    assert not -more
