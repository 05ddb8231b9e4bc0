"""Cross-entropy over large vocabularies: plain torch in FP32, compiled, and the torch model's; and the optimizer's step."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.nn import functional
from torch.optim.adamw import adamw

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.model.head import cross_entropy
from hwprofiles.calibration.rates.moved import Kernel

SIZES: Final = ((1024, 16_384), (2048, 129_280), (4096, 32_768), (4096, 151_936), (8192, 65_536), (2048, 262_144))
"""Tokens, vocabulary."""
FEW: Final = ((1024, 32_768), (4096, 129_280), (2048, 262_144))
NUMBERS: Final = ((1024, 1024), (4096, 1024), (4096, 7168), (16_384, 7168))
"""Parameters of a step, as rows and width."""
TENSORS: Final = 8
"""That a fused step moves at once."""
RATE, BETAS, EPS, DECAY = 1e-4, (0.9, 0.95), 1e-8, 0.1


def plain_loss(logits: Any, targets: Any) -> Any:
    """Logits in FP32 first."""
    return functional.cross_entropy(logits.to(torch.float32), targets)


def own_loss(logits: Any, targets: Any) -> Any:
    """The torch model's."""
    return cross_entropy(logits, targets)


def fused_step(weights: Any, grads: Any, first: Any, second: Any, steps: Any) -> Any:
    """torch's kernel, which moves a list of tensors of one format."""
    adamw(
        weights, grads, first, second, [], steps, fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=RATE,
        weight_decay=DECAY, eps=EPS, maximize=False,
    )  # fmt: skip


def chained_step(master: Any, grad: Any, first: Any, second: Any, weight: Any) -> Any:
    """FP32 masters, BF16 moments and weights: a function behind another, as the torch model does it."""
    wide_first = first.to(grad.dtype).lerp(grad, 1 - BETAS[0])
    wide_second = second.to(grad.dtype).lerp(grad.square(), 1 - BETAS[1])
    first.copy_(wide_first)
    second.copy_(wide_second)
    root = (wide_second / (1 - BETAS[1])).sqrt_().add_(EPS)
    master.mul_(1 - RATE * DECAY)
    master.addcdiv_(wide_first, root, value=-RATE / (1 - BETAS[0]))
    weight.copy_(master)


def compiled_step(master: Any, grad: Any, first: Any, second: Any, weight: Any) -> Any:
    """The same in one pass."""
    moment = BETAS[0] * first.to(torch.float32) + (1 - BETAS[0]) * grad
    spread = BETAS[1] * second.to(torch.float32) + (1 - BETAS[1]) * grad * grad
    moved = master * (1 - RATE * DECAY) - RATE * moment / (spread.sqrt() + EPS)
    for target, value in ((master, moved), (first, moment), (second, spread), (weight, moved)):
        target.copy_(value)


def _logits(device: Any, tokens: int, vocabulary: int) -> tuple[Any, ...]:
    return random_bf16(device, tokens, vocabulary), torch.randint(0, vocabulary, (tokens,), device=device)


def _state(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    """Master and gradient in FP32, moments and weight in BF16."""
    master, grad = (torch.randn(rows, width, device=device) for _ in range(2))
    first, second, weight = (torch.zeros(rows, width, device=device, dtype=torch.bfloat16) for _ in range(3))
    return master, grad, first, second, weight


def _lists(device: Any, rows: int, width: int, dtype: Any) -> tuple[Any, ...]:
    made = [
        [torch.randn(rows // TENSORS, width, device=device).to(dtype) * scale for _ in range(TENSORS)]
        for scale in (1.0, 1.0, 0.0, 0.0)
    ]
    return *made, [torch.ones((), device=device) for _ in range(TENSORS)]


def _wide_lists(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return _lists(device, rows, width, torch.float32)


def _narrow_lists(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return _lists(device, rows, width, torch.bfloat16)


KERNELS: Final = (
    Kernel("cross_entropy", "torch", plain_loss, _logits, shapes=SIZES),
    Kernel("cross_entropy", "compiled", plain_loss, _logits, 2.0, shapes=FEW),
    Kernel("cross_entropy", "moesim", own_loss, _logits, shapes=FEW, hidden=24),
    Kernel("cross_entropy_bwd", "torch", plain_loss, _logits, wrt=(0,), shapes=SIZES),
    Kernel("cross_entropy_bwd", "compiled", plain_loss, _logits, 4.0, (0,), shapes=FEW),
    Kernel("cross_entropy_bwd", "moesim", own_loss, _logits, wrt=(0,), shapes=FEW, hidden=24),
    Kernel("adamw", "torch", fused_step, _wide_lists, 28.0, dtype="fp32", shapes=NUMBERS, launches=1),
    Kernel("adamw", "torch", fused_step, _narrow_lists, 14.0, shapes=NUMBERS, launches=1),
    Kernel("adamw", "moesim", chained_step, _state, dtype="fp32", variant="bf16-moments", shapes=NUMBERS),
    Kernel("adamw", "compiled", compiled_step, _state, 22.0, dtype="fp32", variant="bf16-moments", shapes=NUMBERS[1:]),
)
"""Compiled losses read the logits once and write their gradient in BF16. Fused step: weight and both moments read and written,
the gradient read; compiled: the same of an FP32 master with moments in BF16, and the weight written in BF16."""
