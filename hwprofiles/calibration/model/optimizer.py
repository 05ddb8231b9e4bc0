"""AdamW (arXiv:1711.05101) with FP32 master weights where parameters are kept in fewer bits, and the norm of all gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.adamw import adamw

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.calibration.model.config_form import is_number
from hwprofiles.problem import Problem


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults: DeepSeek-V3 report, 4.2. decay: of matrices; vectors (norms, biases, sinks) do not decay."""

    rate: float = 2.2e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    decay: float = 0.1
    moment_dtype: torch.dtype | None = None
    """Format of both moments; None: the master weights'. DeepSeek-V3 keeps them in BF16 (report, 3.3.3)."""

    def __post_init__(self) -> None:
        wrong = [
            Problem("", f"optimizer.{name}", f"is {getattr(self, name)!r}; a number from {least} to below {end}")
            for name, least, end in (
                ("rate", 0.0, inf), ("beta1", 0.0, 1.0), ("beta2", 0.0, 1.0), ("eps", 0.0, inf), ("decay", 0.0, inf),
            )
            if not (is_number(getattr(self, name), least) and getattr(self, name) < end)
        ]  # fmt: skip
        if self.moment_dtype is not None and not self.moment_dtype.is_floating_point:
            wrong.append(Problem("", "optimizer.moment_dtype", f"is {self.moment_dtype}; a format of fractions"))
        refuse(wrong)


class AdamW:
    """Moves the parameters of a model. Buffers (an expert's bias among them) are none, so it leaves them alone."""

    def __init__(self, parameters: Iterable[nn.Parameter], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.parameters = list(parameters)
        self.masters = [_master(weight) for weight in self.parameters]
        kinds = [self.settings.moment_dtype or master.dtype for master in self.masters]
        self.first = [torch.zeros_like(master, dtype=kind) for master, kind in zip(self.masters, kinds, strict=True)]
        self.second = [torch.zeros_like(moment) for moment in self.first]
        self.num_steps = [0] * len(self.masters)

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for weight in self.parameters:
            weight.grad = None

    def step(self, rate: float | None = None) -> None:
        """One step by the gradients at hand; rate: of this step, default the settings'. Parameters without one stay."""
        rate = self.settings.rate if rate is None else rate
        with torch.no_grad():
            for idx, (weight, master) in enumerate(zip(self.parameters, self.masters, strict=True)):
                if weight.grad is not None:
                    self.num_steps[idx] += 1
                    is_one_kernel = master.is_cuda and self.first[idx].dtype is master.dtype
                    (self._move_in_one if is_one_kernel else self._move)(idx, weight.grad.to(master.dtype), rate)
                    if weight.dtype is not master.dtype:
                        weight.copy_(master)

    def _move(self, idx: int, grad: Tensor, rate: float) -> None:
        """m and v as running means, their start at zero corrected; the decay apart from the gradient."""
        s, master = self.settings, self.masters[idx]
        num_steps = self.num_steps[idx]
        first = self.first[idx].to(grad.dtype).lerp(grad, 1 - s.beta1)
        second = self.second[idx].to(grad.dtype).lerp(grad.square(), 1 - s.beta2)
        self.first[idx].copy_(first)
        self.second[idx].copy_(second)
        root = (second / (1 - s.beta2**num_steps)).sqrt_().add_(s.eps)
        master.mul_(1 - rate * self._decay(master))
        master.addcdiv_(first, root, value=-rate / (1 - s.beta1**num_steps))

    def _move_in_one(self, idx: int, grad: Tensor, rate: float) -> None:
        """The same by torch's fused kernel, which takes one format alone."""
        s, master = self.settings, self.masters[idx]
        before = torch.full((), float(self.num_steps[idx] - 1), device=master.device)
        adamw(
            [master], [grad], [self.first[idx]], [self.second[idx]], [], [before], fused=True, amsgrad=False,
            beta1=s.beta1, beta2=s.beta2, lr=rate, weight_decay=self._decay(master), eps=s.eps, maximize=False,
        )  # fmt: skip
        increment_version(master)  # which the kernel does not: forms of the weight (FP8) are made again by its version

    def _decay(self, master: Tensor) -> float:
        return self.settings.decay if master.ndim >= 2 else 0.0


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, a scalar of at least FP32; 0 where there is none."""
    grads = [weight.grad.detach() for weight in parameters if weight.grad is not None]
    norms = [torch.linalg.vector_norm(grad, dtype=_wide(grad)) for grad in grads]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def clip(parameters: Iterable[nn.Parameter], limit: float, norm: Tensor | None = None) -> Tensor:
    """Scales all gradients so that their norm is at most `limit`; the norm before.

    norm: of more gradients than these (those of other processes), default `gradient_norm`.
    """
    if not is_number(limit, 0.0):
        raise CalibrationError([Problem("", "clip", f"is {limit!r}; a number of at least 0")])
    weights = list(parameters)
    norm = gradient_norm(weights) if norm is None else norm
    factor = (limit / (norm + torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
    for weight in weights:
        if weight.grad is not None:
            weight.grad.detach().mul_(factor.to(weight.grad.dtype))
    return norm


def _master(weight: nn.Parameter) -> Tensor:
    """The weight itself in FP32 or FP64, else an FP32 copy."""
    return weight.detach().to(_wide(weight))


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
