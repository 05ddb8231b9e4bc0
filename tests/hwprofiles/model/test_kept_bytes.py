"""What autograd keeps between forward and backward, on plain modules whose bytes are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hwprofiles.calibration.counting.kept import Allocated, Kept, saved_by, total_bytes

ROWS, IN, HIDDEN, OUT = 24, 16, 40, 8


class TwoLayers(nn.Module):
    def __init__(self, is_checkpointed: bool = False) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(IN, HIDDEN, False), nn.Linear(HIDDEN, OUT, False)
        self.is_checkpointed = is_checkpointed

    def inner(self, x: Tensor) -> Tensor:
        return self.down(torch.sin(self.up(x)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False) if self.is_checkpointed else self.inner(x)  # type: ignore[no-any-return]


def run(model: nn.Module, x: Tensor, *excluded: Tensor) -> tuple[list[Kept], int]:
    """What the hooks say is kept, and what lives beside the output."""
    with Allocated() as allocated, saved_by(model, excluded) as saved:
        out = model(x)
        kept, living = saved.kept(), allocated.living_bytes() - out.untyped_storage().nbytes()
        out.sum().backward()
    return kept, living


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_operands_and_inputs_of_functions_are_kept_under_their_modules(dtype: torch.dtype, size: int) -> None:
    x = torch.randn(ROWS, IN, dtype=dtype, requires_grad=True)
    kept, living = run(TwoLayers().to(dtype), x)
    assert [(each.module, each.shape, each.num_bytes) for each in kept] == [
        ("up", (ROWS, IN), size * ROWS * IN), ("", (ROWS, HIDDEN), size * ROWS * HIDDEN),
        ("down", (ROWS, HIDDEN), size * ROWS * HIDDEN),
    ]  # fmt: skip
    assert living == size * 2 * ROWS * HIDDEN  # the input was there before


def test_recomputed_tensors_are_not_kept() -> None:
    x = torch.randn(ROWS, IN, requires_grad=True)
    kept, living = run(TwoLayers(is_checkpointed=True), x)
    assert total_bytes(kept) == 4 * ROWS * IN and living == 0


class Sharing(nn.Module):
    """One tensor in two functions, a view of it in a third, a buffer, and a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(ROWS, IN))
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        y = x.sin()
        return (y.exp() * self.mask * self.table).sum() + y.cos().sum() + y[:3].cos().sum()


def test_each_storage_counts_once_and_tables_not() -> None:
    table = torch.randn(ROWS, IN)
    kept, _ = run(Sharing(table), torch.randn(ROWS, IN, requires_grad=True), table)
    # x for sin, y for both cosines, exp(y) for exp; the products need their constant factors alone.
    assert [each.num_bytes for each in kept] == [4 * ROWS * IN] * 3


class Hiding(torch.autograd.Function):
    """Keeps its input behind autograd's back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.copy = x * 2
        return x * 3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.copy


def test_what_the_hooks_cannot_see_lives_all_the_same() -> None:
    class Hidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Hiding.apply(x)  # type: ignore[no-any-return]

    kept, living = run(Hidden(), torch.randn(ROWS, IN, requires_grad=True))
    assert kept == [] and living == 4 * ROWS * IN


def test_what_a_dropped_branch_saved_is_not_kept() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            (x.sin().exp() * 2).detach()
            return x.cos()

    x = torch.randn(ROWS, IN, requires_grad=True)
    kept, living = run(Branch(), x)
    assert (total_bytes(kept), living) == (4 * ROWS * IN, 0)
