"""The routed experts of one process: grouped products over the rows that arrived, as many as arrived.

There is no capacity and no padding; an expert may be without a row, or have all of them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.activation import activate, clamped
from hwprofiles.calibration.model.config import Moe
from hwprofiles.calibration.model.dispatch import Placed
from hwprofiles.calibration.model.linear import parameter
from hwprofiles.calibration.model.recompute import made
from hwprofiles.calibration.numerics.gated import Places, can_gate, gated
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem


def experts_per_rank(num_experts: int, ranks: int) -> int:
    """Raises CalibrationError where they do not divide."""
    if ranks < 1 or num_experts % ranks:
        fitting = ", ".join(str(n) for n in range(1, num_experts + 1) if num_experts % n == 0)
        message = f"{ranks} ranks cannot share {num_experts} experts evenly; allowed {fitting}"
        raise CalibrationError([Problem("", "ranks", message)])
    return num_experts // ranks


class Experts(nn.Module):
    """num_local experts of one width.

    up: (e_local, num_up f, h), of a gated activation gate over up; down: (e_local, h, f). up_bias (e_local, num_up f) and
    down_bias (e_local, h) where the model has them. first_expert: number of the first one in the layer.
    recompute: "swiglu" drops the activation's output, which the backward makes again.
    """

    def __init__(
        self,
        config: Moe,
        hidden: int,
        numerics: Numerics,
        num_local: int,
        *,
        first_expert: int = 0,
        recompute: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        expert = config.expert
        self.numerics, self.kind, self.clamp = numerics, expert.activation, config.clamp
        self.first_expert, self.recompute = first_expert, recompute
        self.up = parameter(numerics, num_local, expert.num_up * expert.width, hidden)
        self.down = parameter(numerics, num_local, hidden, expert.width)
        self.up_bias = parameter(numerics, num_local, expert.num_up * expert.width) if expert.bias else None
        self.down_bias = parameter(numerics, num_local, hidden) if expert.bias else None

    def forward(self, rows: Tensor, counts: Tensor, row_weights: Tensor) -> Tensor:
        """rows (r, h) sorted by expert, counts (e_local,) int64 of sum r, row_weights (r,): (r, h), each times its weight.

        Kept: rows, row_weights, the up projection's output and the activation's; not the result.
        Raises CalibrationError: shapes that do not fit.
        """
        given, allowed = (rows.shape, counts.shape, row_weights.shape), (self.up.shape[2], self.up.shape[0])
        if given != ((len(rows), allowed[0]), (allowed[1],), (len(rows),)):
            told = ", ".join(
                f"{name} {tuple(shape)}" for name, shape in zip(("rows", "counts", "weights"), given, strict=True)
            )
            raise CalibrationError(
                [Problem("", "experts", f"{told}; allowed (r, {allowed[0]}), ({allowed[1]},), (r,)")]
            )
        if self.is_gated(rows.device):
            return self._gated(rows, counts, row_weights, None)
        inner = self.numerics.grouped_linear(rows, self.up, counts)
        if self.up_bias is not None:
            inner = self.numerics.rounded(_AddBias.apply(inner, self.up_bias, counts, None))
        with ExitStack() as dropped:
            is_again = "swiglu" in self.recompute
            product = made(dropped, is_again, self._product, inner, row_weights)
            result = self.numerics.grouped_linear(product, self.down, counts, keeps_input=is_again)
        if self.down_bias is not None:
            result = self.numerics.rounded(_AddBias.apply(result, self.down_bias, counts, row_weights))
        return result

    def is_gated(self, device: torch.device) -> bool:
        """Whether the recipe has both projections and what is between them as one."""
        is_swiglu = self.kind == "swiglu" and self.clamp is None and self.up_bias is None and self.down_bias is None
        return is_swiglu and can_gate(self.numerics, self.down.shape[2], device)

    def of_tokens(self, x: Tensor, placed: Placed) -> Tensor:
        """Tokens x (t, h) to the sums of their experts' rows, (t, h), where `is_gated`: permuted and quantised at once."""
        return self._gated(x, placed.counts, placed.row_weights, Places.of(placed.order, placed.top_k))

    def _gated(self, x: Tensor, counts: Tensor, row_weights: Tensor, places: Places | None) -> Tensor:
        is_again = "swiglu" in self.recompute
        on_host = tuple(counts.tolist())
        return gated(self.numerics, x, self.up, self.down, on_host, row_weights, places, drops_product=is_again)

    def _product(self, inner: Tensor, row_weights: Tensor) -> Tensor:
        """(r, f), the down projection's operand."""
        limited = inner if self.clamp is None else clamped(inner, self.clamp)
        return self.numerics.rounded(activate(limited, self.kind, row_weights))


class _AddBias(torch.autograd.Function):
    """rows (r, n) plus, to each, its expert's bias (e, n), times the row's weight if given. Keeps counts and weights."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, bias: Tensor, counts: Tensor, row_weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(bias, counts, row_weights)
        added = _of_rows(bias, counts, len(rows))
        return (rows + (added if row_weights is None else added * row_weights.unsqueeze(1))).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, Tensor | None]:
        bias, counts, row_weights = ctx.saved_tensors
        wide = grad.to(torch.promote_types(grad.dtype, torch.float32))
        weights_grad = None
        if row_weights is not None:
            weights_grad = (wide * _of_rows(bias, counts, len(grad))).sum(1).to(row_weights.dtype)
            wide = wide * row_weights.unsqueeze(1)
        bias_grad = torch.segment_reduce(wide, "sum", lengths=counts, axis=0, initial=0.0)
        return grad, bias_grad.to(bias.dtype), None, weights_grad


def _of_rows(bias: Tensor, counts: Tensor, num_rows: int) -> Tensor:
    """(r, n): the bias of each row's expert."""
    return bias.repeat_interleave(counts, dim=0, output_size=num_rows)
