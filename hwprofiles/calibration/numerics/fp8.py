"""Linear layers with FP8 operands: what every such recipe shares.

Three products (DeepSeek-V3 report, figure 6): fprop y = x w.T, dgrad dx = dy w, wgrad dw = dy.T x. Activations and gradients
between them are BF16; x is kept for the backward in FP8, once for all the weights that it meets; weights are quantised once for
each version of them, that is once an optimizer step.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import register_optimizer_step_post_hook

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.calibration.numerics.quantise import Quantised
from hwprofiles.problem import Problem

W = TypeVar("W")
G = TypeVar("G")
C = TypeVar("C")


class Products(ABC, Generic[W, G, C]):
    """The three products of a recipe on a device. Rows lie sorted by expert, in groups.

    W: its form of weights (e, n, k); G: of gradients, dgrad's left operand; C: of wgrad's operands, quantised along the rows.
    """

    @abstractmethod
    def quantised_weight(self, weight: Tensor) -> W:
        """Of (e, n, k)."""

    @abstractmethod
    def operand(self, rows: Tensor) -> Quantised:
        """The input (r, k) as left operand of fprop."""

    @abstractmethod
    def gradient(self, rows: Tensor) -> G:
        """The result's gradient (r, n) as left operand of dgrad."""

    @abstractmethod
    def kept(self, rows: Tensor, operand: Quantised, groups: Groups) -> tuple[Tensor, ...]:
        """What of the input (r, k) stays for wgrad."""

    @abstractmethod
    def columns_of_kept(self, kept: Sequence[Tensor], num_columns: int, groups: Groups) -> C:
        """The kept input as right operand of wgrad."""

    @abstractmethod
    def columns(self, rows: Tensor, groups: Groups) -> C:
        """Gradients (r, n) as left operand of wgrad."""

    def both(self, rows: Tensor, groups: Groups) -> tuple[G, C]:
        """Gradients (r, n) as left operand of dgrad and of wgrad."""
        return self.gradient(rows), self.columns(rows, groups)

    @abstractmethod
    def fprop(self, operand: Quantised, weight: W, groups: Groups) -> Tensor:
        """(r, n); any dtype, it is rounded to BF16."""

    @abstractmethod
    def dgrad(self, gradient: G, weight: W, groups: Groups) -> Tensor:
        """(r, k); any dtype, it is rounded to BF16."""

    @abstractmethod
    def wgrad(self, grads: C, inputs: C, sizes: tuple[int, int], groups: Groups) -> Tensor:
        """(e, *sizes), sizes being (n, k)."""

    def add_wgrad(self, grads: C, inputs: C, total: Tensor, groups: Groups) -> None:
        """Adds wgrad to total (e, n, k), FP32 and contiguous."""
        total += self.wgrad(grads, inputs, tuple(total.shape[1:]), groups)  # type: ignore[arg-type]


class Fp8(Numerics):
    """A recipe with FP8 operands. `plain`: the BF16 recipe for everything else; weights are FP32, the optimizer's own.

    adds_gradients: a weight that has a gradient gets the next one added by the product itself, and autograd does not see it:
    for a caller of `backward()` who has no hooks on gradients. `torch.autograd.grad` would find none.
    """

    param_dtype = torch.float32

    def __init__(self, name: str, products: Products[Any, Any, Any], plain: Numerics) -> None:
        self.name, self.products, self.dtype, self._plain = name, products, plain.dtype, plain
        self.adds_gradients = False
        self._weights: PerVersion[Any] = PerVersion()

    @property
    def plain(self) -> Numerics:
        return self._plain

    def rounded(self, x: Tensor) -> Tensor:
        return self._plain.rounded(x)

    def linears(self, x: Tensor, weights: Sequence[Tensor], *, keeps_input: bool = False) -> tuple[Tensor, ...]:
        rows = x.reshape(-1, x.shape[-1])
        results = _Products.apply(self, Groups((len(rows),)), keeps_input, rows, *weights)
        return tuple(result.view(*x.shape[:-1], result.shape[-1]) for result in results)

    def grouped_linear(self, rows: Tensor, weights: Tensor, counts: Tensor, *, keeps_input: bool = False) -> Tensor:
        result: Tensor = _Products.apply(self, Groups(tuple(counts.tolist())), keeps_input, rows, weights)[0]
        return result

    def total_of(self, weight: Tensor) -> Tensor | None:
        """The gradient that a weight has, (e, n, k), where the next is to be added to it by a product."""
        total = weight.grad if self.adds_gradients and weight.is_leaf else None
        if total is None or total.dtype is not torch.float32 or not total.is_contiguous():
            return None
        return total.detach().view(-1, *total.shape[-2:])

    def bf16(self, x: Tensor) -> Tensor:
        """x rounded to BF16, in the activations' dtype."""
        return x.to(torch.bfloat16).to(self.dtype)

    def weight(self, weight: Tensor) -> Any:
        """The products' form of a weight ([e,] n, k)."""

        def make() -> Any:
            return self.products.quantised_weight(weight.detach().view(-1, *weight.shape[-2:]))

        return self._weights.get(weight, make)


class _Products(torch.autograd.Function):
    """Rows (r, k) times each of the weights ([e,] n, k) transposed, by groups.

    keeps_input: the rows stay as they came, and are quantised again for wgrad, to the same bits.
    """

    @staticmethod
    def forward(
        ctx: Any, formats: Fp8, groups: Groups, keeps_input: bool, given: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        _check(given, weights, groups)
        products, rows = formats.products, formats.bf16(given)
        operand = products.operand(rows)
        ctx.weights = [formats.weight(weight) for weight in weights]  # of the cache, which keeps them for the step
        ctx.formats, ctx.groups, ctx.num_columns, ctx.keeps_input = formats, groups, rows.shape[1], keeps_input
        ctx.given = weights
        if any(ctx.needs_input_grad[4:]):
            ctx.save_for_backward(*((given,) if keeps_input else products.kept(rows, operand, groups)))
        ctx.set_materialize_grads(False)
        return tuple(formats.bf16(products.fprop(operand, weight, groups)) for weight in ctx.weights)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        formats, groups = ctx.formats, ctx.groups
        products, needs = formats.products, ctx.needs_input_grad
        rounded = [None if grad is None else formats.bf16(grad) for grad in grads]
        of_rows, of_weights = None, [None] * len(grads)
        inputs = products.columns_of_kept(_kept(ctx), ctx.num_columns, groups) if any(needs[4:]) else None
        for idx, grad in enumerate(rounded):
            if grad is None:
                continue
            of_grad, columns = quantised_gradient(products, grad, groups, needs[3], needs[4 + idx])
            if needs[3]:
                part = formats.bf16(products.dgrad(of_grad, ctx.weights[idx], groups))
                of_rows = part if of_rows is None else formats.bf16(of_rows + part)
            if needs[4 + idx]:
                of_weights[idx] = weight_gradient(formats, columns, inputs, ctx.given[idx], groups)
        return None, None, None, of_rows, *of_weights


def quantised_gradient(
    products: Products[Any, G, C], grad: Tensor, groups: Groups, for_rows: bool, for_weights: bool
) -> tuple[G | None, C | None]:
    """A result's gradient for dgrad and for wgrad, as they are needed."""
    if for_rows and for_weights:
        return products.both(grad, groups)
    return products.gradient(grad) if for_rows else None, products.columns(grad, groups) if for_weights else None


def weight_gradient(formats: Fp8, grads: Any, inputs: Any, weight: Tensor, groups: Groups) -> Tensor | None:
    """The gradient of a weight; None where it has been added to the one that is there."""
    products, total = formats.products, formats.total_of(weight)
    if total is None:
        part: Tensor = products.wgrad(grads, inputs, tuple(weight.shape[-2:]), groups)
        return part.view(weight.shape).to(weight.dtype)
    products.add_wgrad(grads, inputs, total, groups)
    increment_version(total)  # a kernel of our own changes memory that torch does not see it change
    return None


def _kept(ctx: Any) -> Sequence[Tensor]:
    """What `Products.kept` gave forward, or gives now."""
    if not ctx.keeps_input:
        return ctx.saved_tensors
    products, rows = ctx.formats.products, ctx.formats.bf16(ctx.saved_tensors[0])
    return products.kept(rows, products.operand(rows), ctx.groups)


def _check(rows: Tensor, weights: Sequence[Tensor], groups: Groups) -> None:
    """Sizes that padding would hide."""
    for weight in weights:
        if weight.shape[-1] != rows.shape[1]:
            raise CalibrationError(
                [Problem("", "weights", f"{tuple(weight.shape)} do not fit rows of {rows.shape[1]}")]
            )
        is_whole = sum(groups.counts) == len(rows) and min(groups.counts, default=0) >= 0
        if weight.shape[:-2].numel() != len(groups.counts) or not is_whole:
            raise CalibrationError([Problem(
                "", "counts", f"{groups.counts} do not fit {len(rows)} rows and weights {tuple(weight.shape)}"
            )])  # fmt: skip


class PerVersion(Generic[W]):
    """What was made of a tensor, until the tensor changes in place, gets other memory, or dies.

    Not seen: a change in place through `.data`, or by a collective (broadcast, all_reduce): torch does not count these as
    versions; who makes one calls `torch.autograd.graph.increment_version(weight)`. A copy of this, or one read from a file, is
    empty.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[weakref.ref[Tensor], Any, W]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def get(self, tensor: Tensor, make: Callable[[], W]) -> W:
        """What `make` made of this version of the tensor."""
        if tensor.is_inference():  # has no versions
            return make()
        key, state = id(tensor), _state(tensor)
        found = self._made.get(key)
        if found is None or found[0]() is not tensor or found[1] != state:
            gone = weakref.ref(tensor, lambda _: self._made.pop(key, None))
            found = self._made[key] = (gone, state, make())
        return found[2]


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """Alike for one version of a tensor in one place. The weak reference keeps the memory's identity from being used again."""
    return tensor._version, StorageWeakRef(tensor.untyped_storage()), tensor.storage_offset(), tensor.stride()


def _fused_steps_are_versions(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """The fused kernels of torch's optimizers change weights without counting their versions: counted here."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            increment_version(group["params"])


register_optimizer_step_post_hook(_fused_steps_are_versions)
