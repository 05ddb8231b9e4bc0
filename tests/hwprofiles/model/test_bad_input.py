"""What the modules refuse: one clear error each, that names what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import config
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.experts import Experts
from hwprofiles.calibration.model.gqa import Gqa
from hwprofiles.calibration.model.head import cross_entropy
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.optimizer import AdamW, Settings, clip
from hwprofiles.calibration.model.recompute import checked
from hwprofiles.calibration.model.router import Router
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.tiny import EXPERTS, deepseek, tokens

FP32 = numerics("float32")
NAN = float("nan")


@cache
def model() -> Model:
    """A dense layer and two with experts, one MTP module: 32 tokens in the vocabulary, hidden size 16."""
    return Model(deepseek(1), FP32)


def router(expert: int | None = None, bias: float = 0.0) -> Router:
    """With the bias of one expert."""
    made = Router(EXPERTS, 16, FP32)
    if expert is not None:
        made.bias[expert] = bias
    return made


def experts(rows: torch.Tensor, num_counts: int, num_weights: int) -> torch.Tensor:
    """What 8 experts make of rows, one each."""
    result: torch.Tensor = Experts(EXPERTS, 16, FP32, 8)(rows, ones(num_counts, dtype=torch.int64), ones(num_weights))
    return result


def with_token(column: int, token: int) -> torch.Tensor:
    """Two sequences of 9, one token written over."""
    batch = tokens(2, 9)
    batch[0, column] = token
    return batch


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


CASES: list[tuple[Callable[[], Any], str]] = [
    # A token that is read, one that only the main head predicts, one that only the MTP module does.
    (lambda: model()(with_token(0, 32)), r"tokens: go from \d+ to 32; the vocabulary to 31"),
    (lambda: model()(with_token(-2, 32)), r"tokens: go from \d+ to 32; the vocabulary to 31"),
    (lambda: model()(with_token(-1, -100)), r"tokens: go from -100 to \d+; the vocabulary to 31"),
    (lambda: model()(tokens(2, 9)[:0]), r"tokens: are int64 of shape \(0, 9\); .*, at least one sequence"),
    (lambda: model()([[1, 2, 3]]), r"tokens: are \[\[1, 2, 3\]\]; an int64 tensor"),
    (lambda: model().run(4, 9, ones(2, 7, 16), tokens(2, 9)), r"parts: 4 to 9 of 6"),
    (lambda: cross_entropy(ones(3, 8), torch.tensor([0, 7, 8])), r"targets: go from 0 to 8; the vocabulary to 7"),
    (lambda: model().layers[0].attention(ones(1, 4, 17)), r"x: has shape \(1, 4, 17\); allowed \(sequences, tokens, 16\)"),
    (lambda: model().layers[0].attention(ones(4, 16)), r"x: has shape \(4, 16\); allowed \(sequences, tokens, 16\)"),
    (lambda: model().layers[0].attention(ones(1, 4, 16, dtype=torch.float64)), r"x: is torch.float64; float32 takes torch.fl"),
    (lambda: Gqa(config.Gqa(4, 2, 4), deepseek(), FP32)(ones(4, 17)), r"x: has shape \(4, 17\); allowed \(sequences"),
    (lambda: model().layers[0].ffn(ones(1, 4, 17)), r"x: has shape \(1, 4, 17\); allowed \(\.\.\., 16\)"),
    (lambda: model().layers[1].ffn(ones(1, 4, 16, dtype=torch.int64)), r"hidden_size: tokens .*; of torch.int64; allowed a fl"),
    (lambda: router()(ones(4, 17)), r"x: is torch.float32 of shape \(4, 17\); allowed numbers of shape \(tokens, 16\)"),
    (lambda: router()(ones(1, 4, 16)), r"x: is torch.float32 of shape \(1, 4, 16\)"),
    (lambda: router()(ones(4, 16, dtype=torch.int64)), r"x: is torch.int64 of shape"),
    (lambda: router(3, NAN)(ones(4, 16)), r"router.bias: of expert 3 is not finite .* learning rate"),
    (lambda: router().update_bias(ones(3), 0.1), r"loads: have shape \(3,\); one for each of 8 experts"),
    (lambda: router().update_bias(ones(8), NAN), r"rate: is nan; a finite number"),
    (lambda: Balancing(bias_rate="0.01"), r"balancing.bias_rate: is '0.01'; a finite number of at least 0"),  # type: ignore[arg-type]
    (lambda: Balancing(sequence_weight=None), r"balancing.sequence_weight: is None; a finite"),  # type: ignore[arg-type]
    (lambda: Balancing(aux_weight=NAN), r"balancing.aux_weight: is nan; a finite"),
    (lambda: Balancing("aux"), r"balancing.rule: is 'aux'; allowed bias, aux_loss, none"),  # type: ignore[arg-type]
    (lambda: MoeLayer(EXPERTS, 0, FP32), r"hidden_size: is 0; a whole number of at least 1"),
    (lambda: MoeLayer(replace(EXPERTS, score="tanh"), 16, FP32), r"moe.score: is 'tanh'; allowed sigmoid, softmax"),  # type: ignore[arg-type]
    (lambda: experts(ones(8, 17), 8, 8), r"experts: rows \(8, 17\), counts \(8,\), weights \(8,\); allowed \(r, 16\)"),
    (lambda: experts(ones(8, 16), 7, 8), r"experts: rows \(8, 16\), counts \(7,\)"),
    (lambda: experts(ones(8, 16), 8, 9), r"experts: .* weights \(9,\)"),
    (lambda: numerics(None), r"recipe: None is unknown; allowed bf16, "),  # type: ignore[arg-type]
    (lambda: numerics("bf16", gemms="fast"), r"gemms: 'fast' is unknown; allowed auto, emulated, library, own"),  # type: ignore[arg-type]
    (lambda: numerics("bf16", "abacus"), r"device: 'abacus' cannot be used \("),
    (lambda: Model(deepseek(), FP32, device="cuda:99"), r"device: 'cuda:99' cannot be used \(.*\); try cpu"),
    (lambda: checked(frozenset({"mla"})), r"recompute: 'mla' is no module; .*did you mean mlp"),
    (lambda: checked([3, "layer"]), r"recompute: 3 is no module"),  # type: ignore[list-item]
    (lambda: Settings(rate=NAN), r"optimizer.rate: is nan; a number from 0.0 to below inf"),
    (lambda: Settings(beta1=1.0), r"optimizer.beta1: is 1.0; a number from 0.0 to below 1.0"),
    (lambda: Settings(moment_dtype=torch.int8), r"optimizer.moment_dtype: is torch.int8"),
    (lambda: clip([], NAN), r"clip: is nan; a number of at least 0"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "message"), CASES, ids=[message[:40] for _, message in CASES])
def test_it_is_named(asked: Callable[[], Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=f"^{message}") as caught:
        asked()
    assert len(caught.value.problems) == 1


def test_a_bias_may_shut_an_expert() -> None:
    assert 3 not in router(3, float("-inf"))(torch.randn(6, 16)).experts


def test_an_optimizer_takes_the_least_of_everything() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    AdamW([weight], Settings(rate=0.0, beta1=0.0, beta2=0.0, eps=0.0, decay=0.0)).step()
    assert torch.equal(weight, torch.ones(2, 2))
