"""Context parallelism as counted: FLOP that ranks share, bytes of each way against its formula, kernels of a ring, latents."""

from __future__ import annotations

from dataclasses import fields, replace
from math import fsum
from typing import Literal

import pytest

from simulator import load_scenario
from simulator.scenario import derived
from simulator.scenario.model import ModelSpec
from simulator.workload.counted import recipe_of
from simulator.workload.layers.attention import attention_block, attention_core, attention_operators
from simulator.workload.memory import MemoryAssumptions, activation_recipe
from simulator.workload.op import Collective, Op, Work
from simulator.workload.pairs import rank_pairs
from simulator.workload.recipe import Recipe

NOTHING_ASSUMED = MemoryAssumptions(**{field.name: 0.0 for field in fields(MemoryAssumptions)})

Way = Literal["a2a", "ring", "all_gather"]
WAYS: tuple[Way, ...] = ("a2a", "ring", "all_gather")
GQA, MLA = "llama-3.1-70b", "deepseek-v3"


def recipe(preset: str, **changes: object) -> tuple[ModelSpec, Recipe]:
    scenario = load_scenario(preset)
    plain = replace(recipe_of(scenario, 1, None), seq=32_768, tp=1, shards_sequence=False).plain()
    return derived.padded_model(scenario), replace(plain, recompute=frozenset(), **changes)  # type: ignore[arg-type]


def work(preset: str, **changes: object) -> list[Work]:
    forward, backward, weights = attention_operators(*recipe(preset, **changes))
    return [*forward, *backward, *weights]


def sent(found: list[Work], phase: str) -> dict[str, int]:
    """Bytes of each kind of collective in a pass."""
    totals: dict[str, int] = {}
    for each in found:
        if isinstance(each, Collective) and each.phase == phase:
            assert each.axis == "cp"
            totals[each.op] = totals.get(each.op, 0) + each.num_bytes
    return totals


@pytest.mark.parametrize("preset", [GQA, MLA])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cp", [2, 4, 8])
def test_the_ranks_flop_sum_to_those_of_whole_sequences(preset: str, way: Way, cp: int) -> None:
    """Zig-zag chunks give every rank as many causal pairs, whatever they exchange."""
    alone, shared = (
        [op for op in found if isinstance(op, Op)] for found in (work(preset), work(preset, cp=cp, cp_comm=way))
    )
    for phase in "FIW":
        whole, part = (fsum(op.flop for op in ops if op.phase == phase) for ops in (alone, shared))
        assert cp * part == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_one_rank_exchanges_nothing(way: Way) -> None:
    assert work(GQA, cp=1, cp_comm=way) == work(GQA)


def test_bytes_of_an_all_to_all() -> None:
    """t (q + k + v) forward and t out back; the backward the same, reversed."""
    cp = 4
    model, _ = recipe(GQA, cp=cp, cp_comm="a2a")
    core, t = attention_core(model), 32_768 // cp
    q, kv = core.heads * core.head_dim_qk, core.kv_heads * core.head_dim_qk
    found = work(GQA, cp=cp, cp_comm="a2a")
    assert sent(found, "F") == sent(found, "I") == {"all_to_all": 2 * t * (2 * q + 2 * kv)}


@pytest.mark.parametrize(("cp", "copies"), [(8, 1), (16, 2), (64, 8)])
def test_heads_of_keys_are_sent_to_several_ranks_where_there_are_few(cp: int, copies: int) -> None:
    """8 heads of keys: over 64 ranks each has one, sent 8 times; its queries' FLOP are shared all the same."""
    model, _ = recipe(GQA, cp=cp, cp_comm="a2a")
    core, t = attention_core(model), 32_768 // cp
    widths = (core.heads + core.kv_heads * copies) * core.head_dim_qk
    found = work(GQA, cp=cp, cp_comm="a2a")
    assert sent(found, "F")["all_to_all"] == 2 * t * 2 * widths
    (kernel,) = (each.shape for each in found if each.name == "attention" and isinstance(each, Op))
    assert (kernel.seq, kernel.heads, kernel.kv_heads) == (32_768, core.heads // cp, max(1, core.kv_heads // cp))
    sums = [op.shape.bytes for op in found if isinstance(op, Op) and op.name == "attention_bwd_kv_heads_sum"]
    width = 2 * t * 2 * core.kv_heads * core.head_dim_qk
    assert sums == ([(copies + 1) * width] if copies > 1 else []), "gradients of a head's copies are added up"


@pytest.mark.parametrize("preset", [GQA, MLA])
def test_bytes_of_gathered_keys_and_values(preset: str) -> None:
    """All tokens' keys and values once forward, again in the backward, and their gradients scattered."""
    core = attention_core(recipe(preset)[0])
    whole = 2 * 32_768 * core.kv_heads * (core.head_dim_qk + core.head_dim_v)
    found = work(preset, cp=4, cp_comm="all_gather")
    assert sent(found, "F") == {"all_gather": whole}
    assert sent(found, "I") == {"all_gather": whole, "reduce_scatter": whole}


@pytest.mark.parametrize("cp", [2, 8])
def test_bytes_and_kernels_of_a_ring(cp: int) -> None:
    """cp - 1 hops of keys and values forward, as many of them and of their gradients backward, each beside a step; the diagonal
    first, then halves of blocks.
    """
    core = attention_core(recipe(GQA)[0])
    own = 32_768 // cp
    hop = 2 * own * core.kv_heads * (core.head_dim_qk + core.head_dim_v)
    found = work(GQA, cp=cp, cp_comm="ring")
    assert sent(found, "F") == {"send_recv": (cp - 1) * hop}
    assert sent(found, "I") == {"send_recv": 2 * (cp - 1) * hop}
    for phase in "FI":
        steps = [each.shape for each in found if isinstance(each, Op) and "_step_" in each.name and each.phase == phase]
        assert [shape.causal for shape in steps] == [True] + [False] * (cp - 1)
        assert {shape.seq * (shape.keys or shape.seq) for shape in steps[1:]} == {own * own // 2}
        hops = [each for each in found if isinstance(each, Collective) and each.phase == phase]
        ops = {each.name: each for each in found if isinstance(each, Op)}
        assert all(ops[each.beside].phase == phase for each in hops)


@pytest.mark.parametrize("cp", [2, 8])
def test_bytes_of_what_a_ring_copies_and_merges(cp: int) -> None:
    """Keys and values go to the buffer that is sent; each step's output is read and its share added to the sum, the first one's
    written alone. Backward queries' gradients are added likewise, and each step's of its keys: all of them at the diagonal and
    where half of the queries see them, else half of them.
    """
    core = attention_core(recipe(GQA)[0])
    own = 32_768 // cp
    q, kv = 2 * own * core.heads * core.head_dim_qk, 2 * own * core.kv_heads * (core.head_dim_qk + core.head_dim_v)
    found = [
        each for each in work(GQA, cp=cp, cp_comm="ring") if isinstance(each, Op) and each.name.startswith("attention")
    ]
    moved = {
        phase: sum(each.shape.bytes for each in found if each.phase == phase and "_step_" not in each.name)
        for phase in "FI"
    }
    merges = 2 * q + 3 * q * (cp // 2) + 3 * (q / 2) * (cp / 2 - 1)
    assert moved["F"] == 2 * kv + merges
    assert moved["I"] == 4 * kv + merges + 3 * (kv / 2) * (cp // 2) + 3 * kv * (cp / 2 - 1)


def test_bytes_of_what_an_all_gather_copies() -> None:
    """Keys and values put in order, the chunks' outputs (gradients) put together; backward all keys' gradients set to zero,
    added up for each chunk's keys and put in order.
    """
    core, cp = attention_core(recipe(GQA)[0]), 4
    q, kv = 2 * 32_768 // cp * core.heads * core.head_dim_qk, 2 * 32_768 * core.kv_heads * 2 * core.head_dim_qk
    found = [each for each in work(GQA, cp=cp, cp_comm="all_gather") if isinstance(each, Op)]
    moved = {
        phase: sum(
            each.shape.bytes
            for each in found
            if each.phase == phase and each.name.startswith("attention") and "_step_" not in each.name
        )
        for phase in "FI"
    }
    assert moved["F"] == 2 * kv + 2 * q
    assert moved["I"] == 2 * kv + 2 * q + kv + 3 * kv * (2 * cp + 1) / (2 * cp) + 2 * kv


@pytest.mark.parametrize("way", WAYS)
def test_latents_are_fewer_bytes_and_more_products(way: Way) -> None:
    """A token's latent and rope key go in place of every head's key and value; what each rank projects again is the model's
    work once.
    """
    heads, latents = (work(MLA, cp=4, cp_comm=way, cp_kv=kind) for kind in ("expanded", "latent"))
    less = sum(sum(sent(latents, phase).values()) for phase in "FI")
    assert less < sum(sum(sent(heads, phase).values()) for phase in "FI")
    totals = [
        [fsum(getattr(op, of) for op in found if isinstance(op, Op)) for found in (heads, latents)]
        for of in ("model_flop", "flop")
    ]
    assert totals[0][0] == pytest.approx(totals[0][1], rel=1e-12)
    again = totals[1][1] - totals[1][0]
    if way == "a2a":
        assert again == pytest.approx(0.0, abs=1e-9 * totals[1][0])
    else:
        product = 2.0 * 32_768 * 512 * 128 * (128 + 128)  # forward, of all tokens
        assert again == pytest.approx((3 + 1 - 3 / 4) * product, rel=1e-9)


def test_a_window_keeps_its_pairs() -> None:
    """Those of the model; executed are the longest rank's, which has none of the first queries with few keys."""
    scenario = load_scenario(GQA, ["model.attention.window=4096", "training.seq_len=32768"])
    r = replace(recipe_of(scenario, 1, None), tp=1, shards_sequence=False, recompute=frozenset())
    for way in ("a2a", "all_gather"):
        alone, shared = (
            [op for op in attention_operators(scenario.model, each)[0] if isinstance(op, Op)]
            for each in (r, replace(r, cp=4, cp_comm=way))
        )
        whole, part = (fsum(op.model_flop for op in ops) for ops in (alone, shared))
        assert 4 * part == pytest.approx(whole, rel=1e-12)
        if way == "all_gather":
            assert {op.shape.keys for op in shared if "_step_" in op.name} == {4096 + 4096}, "a chunk's, and before it"
        executed = [fsum(op.flop for op in ops if op.shape.bound == "attention") for ops in (alone, shared)]
        pairs = rank_pairs(32_768, window=4096, cp=4)
        longest = 1.0 if way == "a2a" else max(pairs) * 4 / sum(pairs)
        assert 4 * executed[1] == pytest.approx(executed[0] * longest, rel=1e-12)
    assert longest > 1.06


@pytest.mark.parametrize("way", WAYS)
def test_memory_of_a_share_and_of_what_is_exchanged(way: Way) -> None:
    """What is kept follows the tokens; what comes from others is held in the passes alone."""
    scenario = load_scenario(GQA, ["training.seq_len=32768", "parallel.tp=1", "parallel.sequence_parallel=false"])
    r = activation_recipe(scenario, NOTHING_ASSUMED)
    alone = attention_block(scenario.model, r)
    shared = attention_block(scenario.model, replace(r, tokens=r.tokens // 4, cp=4, cp_comm=way))
    kept = [sum(tensor.num_bytes for tensor in block.saved) for block in (alone, shared)]
    assert kept[1] * 4 == kept[0]
    more = {tensor.name for tensor in (*shared.working_forward, *shared.working_backward)}
    names = {"a2a": "attn.exchange", "all_gather": "attn.kv_gathered", "ring": "attn.ring_buffers"}
    assert names[way] in more and not more.intersection({*names.values()} - {names[way]})
    core, cp = attention_core(scenario.model), 4
    q, kv = (2 * r.tokens // cp * heads * core.head_dim_qk for heads in (core.heads, 2 * core.kv_heads))
    held = [
        {
            tensor.name: tensor.num_bytes
            for tensor in found
            if tensor.name.startswith(("attn.exch", "attn.kv", "attn.ring"))
        }
        for found in (shared.working_forward, shared.working_backward)
    ]
    outputs = q + q * (cp // 2) + q / 2 * (cp / 2 - 1)
    expected = {
        "a2a": [{"attn.exchange": q + kv}] * 2,
        "all_gather": [{"attn.kv_gathered": cp * kv}, {"attn.kv_gathered": 2 * cp * kv}],
        "ring": [
            {"attn.ring_buffers": cp * kv, "attn.ring_outputs": outputs},
            {"attn.ring_buffers": 4 * kv, "attn.ring_gradients": q + kv},
        ],
    }
    assert held == expected[way]


def test_copies_of_heads_of_keys_are_kept_by_each_rank() -> None:
    """8 heads over 16 ranks: each keeps one, twice its part."""
    scenario = load_scenario(GQA, ["training.seq_len=32768", "parallel.tp=1", "parallel.sequence_parallel=false"])
    r = activation_recipe(scenario, NOTHING_ASSUMED)
    block = attention_block(scenario.model, replace(r, tokens=r.tokens // 16, cp=16, cp_comm="a2a"))
    copies = [tensor.num_bytes for tensor in block.saved if tensor.name == "attn.kv_copies"]
    assert copies == [2 * r.tokens // 16 * 8 * 2 * 128]
