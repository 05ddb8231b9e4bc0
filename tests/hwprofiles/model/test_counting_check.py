"""The torch model executes and keeps what the simulator counts, by kind of layer and recomputed module: products exactly, kept
bytes within 2 %, counted on BF16 tensors.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from hwprofiles.calibration.counting.flop import Products
from hwprofiles.calibration.counting.kept import Allocated, Kept, saved_by, total_bytes
from hwprofiles.calibration.model.attention_core import attend
from hwprofiles.calibration.model.blockwise import BLOCK
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.numerics.rounded import to_bf16
from simulator.scenario.model import ModelSpec
from simulator.workload import counting
from simulator.workload.layers.head import head_block
from simulator.workload.saved import ActivationRecipe
from tests.hwprofiles.model.counting_cases import BATCH, CASES, FP8_CASES, HIDDEN, SEQ, VOCAB, kept_bytes, simulated
from tests.hwprofiles.model.counting_table import BY_NAME, FP8_BY_NAME, run, run_fp8, table

TOLERANCE = 0.02
DOCS = Path(__file__).parents[3] / "docs/model.md"


def is_beside(kept: Kept) -> bool:
    """What the simulator leaves out: a number or two a row of norms and of the loss, one an expert and sequence."""
    numel = torch.Size(kept.shape).numel()
    return (kept.shape[-1:] == (1,) and len(kept.shape) > 2) or kept.shape == (BATCH * SEQ,) or numel <= BATCH * 8


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


@pytest.mark.parametrize("name", FP8_BY_NAME)
def test_every_fp8_product_too(name: str) -> None:
    """Heads and routers are counted with them, in BF16 on both sides."""
    expected, products = simulated(FP8_BY_NAME[name], "fp8-block"), run_fp8(name).products
    assert {phase: products.by_layer(phase) for phase in "FIWR"} == expected.rows
    assert {phase: products.flop(phase, is_core=True) for phase in "FIWR"} == expected.core


@pytest.mark.parametrize("name", BY_NAME)
def test_kept_bytes_are_the_simulators(name: str) -> None:
    """Within 2 %, and but for a number a row to the byte."""
    expected, kept = sum(size for _, size in kept_bytes(BY_NAME[name])), run(name).kept
    assert total_bytes(kept) == pytest.approx(expected, rel=TOLERANCE)
    assert total_bytes(each for each in kept if not is_beside(each)) == expected


@pytest.mark.parametrize("name", FP8_BY_NAME)
def test_kept_bytes_under_fp8(name: str) -> None:
    """Operands in FP8 with their scales, once; none of what is made again, and none beside attention's output."""
    expected, kept = sum(size for _, size in kept_bytes(FP8_BY_NAME[name], "fp8-block")), run_fp8(name).kept
    assert total_bytes(each for each in kept if not is_beside(each)) == expected
    assert total_bytes(kept) == pytest.approx(expected, rel=TOLERANCE)


def test_what_fp8_quantises_again_has_the_same_bits() -> None:
    tokens = torch.randint(VOCAB, (BATCH, 34), generator=torch.Generator().manual_seed(1))
    results = []
    for modules in ((), ("rmsnorm", "mla_up_proj", "swiglu"), ("rmsnorm", "attention")):
        model = Model(
            ModelConfig.of(FP8_CASES[0].values), numerics("fp8-blockwise", gemms="emulated"), recompute=modules
        )
        model(tokens).total().backward()
        results.append([weight.grad for weight in model.parameters()])
    for plain, *others in zip(*results, strict=True):
        assert all(torch.equal(plain, other) for other in others)


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


def test_an_unfused_loss_keeps_probabilities_beside_the_logits_that_its_caller_holds() -> None:
    """torch's own loss on FP32 logits; the logits in BF16 are no operand of it, but the model's output."""
    case = BY_NAME["GQA"]
    model = Model(ModelConfig.of(case.values), numerics("bf16", gemms="library"))
    x = torch.randn(BATCH, SEQ, HIDDEN, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(VOCAB, (BATCH * SEQ,), generator=torch.Generator().manual_seed(1))
    with Allocated() as allocated, saved_by(model, (targets,)) as saved:
        logits = model.head.logits(model.head.norm(x))
        loss = functional.cross_entropy(logits.float().flatten(0, 1), targets)
    spec = ModelSpec.model_validate(case.values)
    block = head_block(spec, ActivationRecipe(BATCH * SEQ, is_loss_fused=False))
    expected = {each.name: each.num_bytes for each in block.saved}
    by_autograd = total_bytes(each for each in saved.kept() if not is_beside(each))
    assert by_autograd == sum(expected.values()) - expected["head.logits"]
    held = allocated.living_bytes() + x.nbytes
    assert held == pytest.approx(sum(expected.values()), rel=0.01) and logits.nbytes == expected["head.logits"]
    loss.backward()


@pytest.mark.parametrize("recipe", ["bf16", "fp8-blockwise"])
def test_weight_gradients_are_summed_in_fp32(recipe: str) -> None:
    """As the simulator's weight gradients are read and written (precision.wgrad_accumulate): over micro-batches too."""
    model = Model(ModelConfig.of(BY_NAME["GQA"].values), numerics(recipe, gemms="emulated"))
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        model(torch.randint(VOCAB, (1, 9), generator=generator)).total().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.dtype is torch.float32, name
        if weight.ndim == 2 and not name.startswith("parts.0."):  # a row of the embedding may have met one token alone
            assert not torch.equal(weight.grad, to_bf16(weight.grad)), name


def test_the_table_of_the_docs_is_this_one() -> None:
    """Written again by `python -m tests.hwprofiles.model.counting_table`."""
    assert "\n".join(table()) in DOCS.read_text()
