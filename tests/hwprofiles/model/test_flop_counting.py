"""The list of executed products, against closed forms on plain modules and against torch's own counter."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from hwprofiles.calibration.counting.flop import Products
from hwprofiles.calibration.counting.formulas import FORMULAS

ROWS, IN, HIDDEN, OUT = 24, 16, 40, 8


class TwoLayers(nn.Module):
    """16 → 40 → 8, the second one's input computed again where asked for."""

    def __init__(self, is_checkpointed: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(IN, HIDDEN, bias), nn.Linear(HIDDEN, OUT, bias)
        self.is_checkpointed = is_checkpointed

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, x, use_reentrant=False) if self.is_checkpointed else self.inner(x)  # type: ignore[no-any-return]


def executed(model: nn.Module, *inputs: torch.Tensor) -> Products:
    with Products(model) as products:
        model(*inputs).square().sum().backward()
    return products


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(ROWS, IN), (4, 6, IN)])
def test_a_linear_layer_has_three_products(bias: bool, shape: tuple[int, ...]) -> None:
    products = executed(TwoLayers(bias=bias), torch.randn(shape, requires_grad=True))
    layers = Counter({(HIDDEN, IN): ROWS, (OUT, HIDDEN): ROWS})
    assert [products.by_layer(phase) for phase in ("F", "I", "W", "R")] == [layers, layers, layers, Counter()]
    flop = 2 * ROWS * HIDDEN * (IN + OUT)
    assert [products.flop(phase) for phase in ("F", "I", "W", "R")] == [flop, flop, flop, 0]
    assert sorted((p.phase, p.m, p.n, p.k) for p in products.executed if p.k * p.n * p.m == ROWS * HIDDEN * IN) == [
        ("F", ROWS, HIDDEN, IN), ("I", ROWS, IN, HIDDEN), ("W", HIDDEN, IN, ROWS)
    ]  # fmt: skip


def test_without_a_gradient_of_the_input_there_is_no_product_for_it() -> None:
    products = executed(TwoLayers(), torch.randn(ROWS, IN))
    assert products.by_layer("I") == {(OUT, HIDDEN): ROWS}


def test_what_a_checkpoint_computes_again_is_told_apart() -> None:
    """By default torch stops as soon as every saved tensor is there: before the last product."""
    x = torch.randn(ROWS, IN, requires_grad=True)
    with set_checkpoint_early_stop(False):
        whole = executed(TwoLayers(is_checkpointed=True), x)
    assert whole.by_layer("R") == whole.by_layer("F") == whole.by_layer("I")
    stopped = executed(TwoLayers(is_checkpointed=True), x)
    assert stopped.by_layer("R") == {(HIDDEN, IN): ROWS} and stopped.by_layer("W") == whole.by_layer("W")


class Attention(nn.Module):
    """Scores of all pairs, two heads of 8 and values of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(IN, 16, False), nn.Linear(IN, 8, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, _ = x.shape
        q, v = self.q(x).view(b, s, 2, 8).transpose(1, 2), self.v(x).view(b, s, 2, 4).transpose(1, 2)
        return (q @ q.transpose(2, 3)).softmax(-1) @ v  # type: ignore[no-any-return]


def test_products_of_activations_are_the_cores() -> None:
    b, s, heads, qk, v = 2, 6, 2, 8, 4
    products = executed(Attention(), torch.randn(b, s, IN, requires_grad=True))
    pairs = 2 * b * s * s * heads
    assert products.flop("F", is_core=True) == pairs * (qk + v)
    assert products.flop("I", is_core=True) == 2 * pairs * (qk + v)
    assert products.flop("W", is_core=True) == 0
    assert products.flop("W") == products.flop("F") == 2 * b * s * IN * (heads * (qk + v))


class Casting(nn.Module):
    """A weight that is rounded, halved block by block and put together again before it multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(OUT, IN))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales = torch.full((OUT, 1), 0.5)
        halves = torch.empty(OUT, IN)
        halves = halves.copy_(self.weight.detach().bfloat16().float() * scales)
        return x @ (halves + (self.weight - self.weight.detach())).t()


def test_formats_do_not_hide_a_weight() -> None:
    products = executed(Casting(), torch.randn(ROWS, IN, requires_grad=True))
    assert sorted((p.phase, p.is_core) for p in products.executed) == [("F", False), ("I", False), ("W", False)]


class Grouped(nn.Module):
    """Three matrices, the second one without rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(3, OUT, IN, dtype=torch.bfloat16))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([9, 9, ROWS], dtype=torch.int32)
        return torch._grouped_mm(rows, self.weights.transpose(1, 2), offs=ends)


def test_a_grouped_product_counts_each_row_once() -> None:
    rows = torch.randn(ROWS, IN, dtype=torch.bfloat16, requires_grad=True)
    products = executed(Grouped(), rows)
    layer = {(OUT, IN): ROWS}
    assert [products.by_layer(phase) for phase in ("F", "I", "W")] == [layer, layer, layer]
    assert {p.phase: p.groups for p in products.executed} == {"F": 3, "I": 3, "W": 1}
    assert {p.flop for p in products.executed} == {2 * ROWS * OUT * IN}


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (TwoLayers(bias=True), torch.randn(ROWS, IN)),
        (TwoLayers(is_checkpointed=True), torch.randn(ROWS, IN)),
        (Attention(), torch.randn(2, 6, IN)),
        (Grouped(), torch.randn(ROWS, IN, dtype=torch.bfloat16)),
    ],
    ids=["linear", "checkpoint", "attention", "grouped"],
)
def test_the_sum_is_what_torchs_counter_says(model: nn.Module, x: torch.Tensor) -> None:
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        model(x.requires_grad_()).square().sum().backward()
    assert sum(product.flop for product in executed(model, x).executed) == counter.get_total_flops() > 0


def test_an_attention_kernel_counts_all_pairs_backward_too() -> None:
    b, heads, s, d = 2, 3, 16, 8
    q, k, v = (torch.randn(b, heads, s, d, requires_grad=True) for _ in range(3))
    with Products([]) as products:
        functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
    flop = 2 * b * heads * s * s * d
    assert [(p.phase, p.flop, p.is_core) for p in products.executed] == [("F", 2 * flop, True), ("I", 5 * flop, True)]
