"""The torch model executes and keeps what the simulator counts, by kind of layer and recomputed module: products exactly, kept
bytes within 2 %, counted on BF16 tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
import torch

from hwprofiles.calibration.counting.flop import Products
from hwprofiles.calibration.counting.kept import Allocated, Kept, saved_by, total_bytes
from hwprofiles.calibration.model.attention_core import attend
from hwprofiles.calibration.model.blockwise import BLOCK
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import Gemms, numerics
from simulator.workload import counting
from tests.hwprofiles.model.counting_cases import BATCH, CASES, SEQ, VOCAB, kept_bytes, simulated

TOLERANCE = 0.02
BY_NAME = {case.name: case for case in CASES}
IN_FP8 = (
    "MLA",
    "GQA",
    "DeepSeek-V3",
    "MLA, rmsnorm + mla_up_proj + swiglu again",
    "MoE, moe again",
    "DeepSeek-V3, layer again",
)


@dataclass(frozen=True)
class Run:
    """Of one forward and backward: the products, what autograd kept between them, and all bytes that lived then."""

    products: Products
    kept: list[Kept]
    living: int


@cache
def run(name: str, recipe: str = "bf16", gemms: Gemms = "library") -> Run:
    case = BY_NAME[name]
    config = ModelConfig.of(case.values)
    model = Model(config, numerics(recipe, gemms=gemms), recompute=case.recompute)
    for layer in model.layers:
        layer.attention.tables(SEQ, torch.device("cpu"))  # rope's, made once a process and not a micro-batch's
    tokens = torch.randint(VOCAB, (BATCH, SEQ + 1 + config.num_mtp), generator=torch.Generator().manual_seed(1))
    with Products(model) as products:
        with Allocated() as allocated, saved_by(model, (tokens,)) as saved:
            loss = model(tokens).total()
        kept, living = saved.kept(), allocated.living_bytes()
        loss.backward()
    return Run(products, kept, living)


def is_beside(kept: Kept) -> bool:
    """What the simulator leaves out: a number or two a row of norms and of the loss, one an expert and sequence."""
    numel = torch.Size(kept.shape).numel()
    return kept.shape[-1:] == (1,) or kept.shape == (BATCH * SEQ,) or numel <= BATCH * 8


def test_there_are_enough_cases() -> None:
    assert len(BY_NAME) == len(CASES) >= 20
    modules = {module for case in CASES for module in case.recompute}
    assert modules == {"rmsnorm", "mla_up_proj", "swiglu", "mlp", "attention", "layer", "moe", "shared_expert"}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_product_is_the_simulators(name: str) -> None:
    """Rows by layer and pass, so m, n and k of each: experts' rows summed. Attention: one block of queries, all pairs."""
    expected, products = simulated(BY_NAME[name]), run(name).products
    assert {phase: products.by_layer(phase) for phase in "FIWR"} == expected.rows
    assert {phase: products.flop(phase, is_core=True) for phase in "FIWR"} == expected.core


@pytest.mark.parametrize("name", IN_FP8)
def test_every_fp8_product_too(name: str) -> None:
    """Heads and routers are counted with them, in BF16 on both sides."""
    expected, products = simulated(BY_NAME[name], "fp8-block"), run(name, "fp8-blockwise", "emulated").products
    assert {phase: products.by_layer(phase) for phase in "FIWR"} == expected.rows
    assert {phase: products.flop(phase, is_core=True) for phase in "FIWR"} == expected.core


@pytest.mark.parametrize("name", BY_NAME)
def test_kept_bytes_are_the_simulators(name: str) -> None:
    """Within 2 %, and but for a number a row to the byte."""
    expected, kept = sum(size for _, size in kept_bytes(BY_NAME[name])), run(name).kept
    assert total_bytes(kept) == pytest.approx(expected, rel=TOLERANCE)
    assert total_bytes(each for each in kept if not is_beside(each)) == expected


@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_is_kept_behind_autograds_back(name: str) -> None:
    """What lives at the end of the forward is what the hooks saw, and scalars of the losses."""
    measured = run(name)
    assert 0 <= measured.living - total_bytes(measured.kept) < 1024


@pytest.mark.parametrize("window", [None, 48, 200])
def test_blocks_of_queries_execute_what_their_keys_say(window: int | None) -> None:
    """The simulator counts the pairs that the mask leaves; a block multiplies with all keys that one of its queries may see."""
    seq, core = 2 * BLOCK + 64, counting.AttentionCore(6, 2, 16, 8, window)
    q, k, v = (torch.randn(1, seq, n, d, requires_grad=True) for n, d in ((6, 16), (2, 16), (2, 8)))
    with Products([]) as products:
        attend(q, k, v, scale=1.0, window=window).sum().backward()
    pairs = 0
    for first in range(0, seq, BLOCK):
        last = min(first + BLOCK, seq)
        pairs += (last - first) * (last - max(0, first - (window or seq) + 1))
    assert products.flop("F", is_core=True) == pairs * core.flop_per_pair
    assert products.flop("I", is_core=True) == pairs * core.backward_flop_per_pair
    counted = counting.attention("core", "F", 1, seq, core).flop
    assert counted <= products.flop("F", is_core=True) < counted + seq * BLOCK * core.flop_per_pair
