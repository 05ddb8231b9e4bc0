"""Every product of matrices that a model executes, with its sizes and its pass: `with Products(model) as products: …`.

Passes: F forward; I input gradient; W weight gradient; R forward computed again in the backward (a checkpoint). What multiplies
activations by activations is the attention core's (is_core); its backward is I whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hwprofiles.calibration.counting import formulas
from hwprofiles.calibration.counting.origins import Origins, tensors_in
from hwprofiles.calibration.model import recompute

Pass = Literal["F", "I", "W", "R"]


@dataclass(frozen=True, slots=True)
class Product:
    """One call: `groups` products of (m, k) by (k, n).

    Of a grouped call over experts m is the rows of all of them, of its weight gradient k. FLOP of an attention kernel are those
    of all pairs of queries and keys, its sizes 0.
    """

    op: str
    phase: Pass
    m: int
    n: int
    k: int
    groups: int
    flop: int
    is_core: bool

    @property
    def layer(self) -> tuple[int, int, int]:
        """(rows, outputs, inputs) of the linear layer that it is a product of: y (rows, outputs) = x (rows, inputs) w^T."""
        if self.phase == "I":
            return self.m, self.k, self.n
        return (self.k, self.m, self.n) if self.phase == "W" else (self.m, self.n, self.k)


class Products(TorchDispatchMode):
    """Lists the products of what runs inside, in `executed`. model: its parameters tell a layer's products from others."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module | Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.executed: list[Product] = []
        self._origins = Origins(model.parameters() if isinstance(model, nn.Module) else model)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        out = func(*args, **options)
        if isinstance(func, torch._ops.OpOverload):
            if flop := formulas.flop(func, args, options, out):
                self.executed.append(self._product(func, args, flop))
            self._origins.follow([*tensors_in(args), *tensors_in(options)], tensors_in(out))
        return out

    def flop(self, phase: Pass, *, is_core: bool = False) -> int:
        """FLOP of a pass: of linear layers, or of attention cores."""
        return sum(product.flop for product in self.executed if (product.phase, product.is_core) == (phase, is_core))

    def by_layer(self, phase: Pass) -> Counter[tuple[int, int]]:
        """(outputs, inputs) of a linear layer → rows that passed it in that pass, over all its experts and calls."""
        rows: Counter[tuple[int, int]] = Counter()
        for product in self.executed:
            if product.phase == phase and not product.is_core:
                count, *widths = product.layer
                rows[widths[0], widths[1]] += count
        return rows

    def _product(self, func: Any, args: Any, flop: int) -> Product:
        """The call with its pass."""
        name, is_backward = formulas.name_of(func), torch._C._current_graph_task_id() != -1
        # A backward records no graph, save of what a checkpoint computes again; functions of our own do not even there.
        is_again = is_backward and (torch.is_grad_enabled() or recompute.is_again())
        pair = formulas.operands(func, args)
        if pair is None:
            return Product(name, "R" if is_again else "I" if is_backward else "F", 0, 0, 0, 1, flop, is_core=True)
        m, n, k, groups = formulas.sizes(func, args)
        has_weight = any(self._origins.of(operand) == "weight" for operand in pair)
        is_core = not has_weight and (not is_backward or is_again or _is_batched(func, pair))
        phase: Pass = "R" if is_again else "F" if not is_backward else "I" if has_weight or is_core else "W"
        return Product(name, phase, m, n, k, groups, flop, is_core)


def _is_batched(func: Any, pair: tuple[Tensor, Tensor]) -> bool:
    """Whether it multiplies a matrix of each operand a head; a weight's gradient sums over all rows."""
    return "grouped" not in formulas.name_of(func) and pair[0].dim() > 2
