"""Gated feed-forward networks (SwiGLU) by this project's kernels, up and down projection in one function of autograd.

The activation's product is made in FP8 at once; backward its gradient is made in FP8 for both of the up projection's products
at once. Of `Places` tokens are quantised on their way into the experts' order, and results summed by token on their way back,
so that no row of the experts' order is in BF16 but the projections' results. Values are those of projections and activation one
behind another, up to the rounding of SwiGLU and of sums in FP32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hwprofiles.calibration.errors import refuse
from hwprofiles.calibration.numerics.blockwise import ROWS
from hwprofiles.calibration.numerics.blockwise_library import Turned, fused_kernels
from hwprofiles.calibration.numerics.blockwise_own import OwnBlockwise
from hwprofiles.calibration.numerics.fp8 import Fp8, quantised_gradient, weight_gradient
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.library import ALIGNED
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.calibration.numerics.quantise import TILE, Quantised
from hwprofiles.problem import Problem

KERNELS: Final = "hwprofiles.calibration.kernels."


@dataclass(frozen=True)
class Places:
    """rows (t, k) int64: where in the experts' order a token's rows stand; tokens (r,) int64: whose each of these rows is."""

    rows: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, order: Tensor, top_k: int) -> Places:
        """Of an `expert_order`."""
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return cls(place.view(-1, top_k), order // top_k)


def can_gate(formats: Numerics, width: int, device: torch.device) -> bool:
    """Whether `gated` serves a network of this width there."""
    return (
        isinstance(formats, Fp8)
        and isinstance(formats.products, OwnBlockwise)
        and formats.dtype is torch.bfloat16
        and width % TILE == 0
        and fused_kernels(device) is not None
    )


def gated(
    formats: Numerics, x: Tensor, up: Tensor, down: Tensor, counts: tuple[int, ...], row_weights: Tensor | None = None,
    places: Places | None = None, *, drops_product: bool = False,
) -> Tensor:  # fmt: skip
    """(SwiGLU(x up^T) times row_weights) down^T, by groups of so many rows: (r, h); with places from tokens to tokens, (t, h).

    up: ([e,] 2 f, h), the gate's rows first; down: ([e,] h, f); row_weights: (r,) FP32. drops_product: it is made again for the
    backward.
    """
    refuse(list(_problems(x, up, down, counts, row_weights, places)))
    result: Tensor = _Gated.apply(formats, Groups(counts), places, drops_product, x, row_weights, up, down)
    return result


def _problems(
    x: Tensor, up: Tensor, down: Tensor, counts: tuple[int, ...], row_weights: Tensor | None, places: Places | None
) -> Iterator[Problem]:
    """What does not fit, with both sides: no kernel would tell, where sizes are padded."""
    rows, hidden, width = sum(counts), x.shape[-1], down.shape[-1]
    if x.dim() != 2:
        yield Problem("", "x", f"shape {tuple(x.shape)}; (rows, hidden) is wanted")
    wanted = {"up": (len(counts), 2 * width, hidden), "down": (len(counts), hidden, width)}
    for name, weight in (("up", up), ("down", down)):
        if tuple(weight.shape) not in (wanted[name], wanted[name][1:] if len(counts) == 1 else None):
            given = f"x {tuple(x.shape)}, down {tuple(down.shape)} and {len(counts)} groups"
            yield Problem("", name, f"shape {tuple(weight.shape)}; {given} want {wanted[name]}")
    if min(counts, default=0) < 0:
        yield Problem("", "counts", f"{min(counts)} rows of a group; 0 is the fewest")
    have = len(x) if places is None else len(places.tokens)
    if rows != have:
        yield Problem("", "counts", f"{rows} rows together; {'x has' if places is None else 'places have'} {have}")
    if places is not None and (len(places.rows) != len(x) or places.rows.numel() != len(places.tokens)):
        found = f"rows {tuple(places.rows.shape)}, tokens {tuple(places.tokens.shape)}"
        yield Problem("", "places", f"{found}; x has {len(x)} tokens, each as many rows")
    if row_weights is not None and tuple(row_weights.shape) != (rows,):
        yield Problem("", "row_weights", f"shape {tuple(row_weights.shape)}; ({rows},) is wanted")


class _Gated(torch.autograd.Function):
    """Keeps x and the product in FP8, and the up projection's result."""

    @staticmethod
    def forward(
        ctx: Any, formats: Fp8, groups: Groups, places: Places | None, drops_product: bool, x: Tensor,
        row_weights: Tensor | None, up: Tensor, down: Tensor,
    ) -> Tensor:  # fmt: skip
        products = formats.products
        operand = _rows(products, formats.bf16(x), groups, places)
        ctx.weights = formats.weight(up), formats.weight(down)
        inner = formats.bf16(products.fprop(operand, ctx.weights[0], groups))
        product = _product(products, inner, row_weights)
        result = formats.bf16(products.fprop(product, ctx.weights[1], groups))
        ctx.formats, ctx.groups, ctx.places, ctx.given = formats, groups, places, (up, down)
        kept = () if drops_product else (product.values, product.scales)
        ctx.save_for_backward(inner, row_weights, operand.values, operand.scales, *kept)
        return result if places is None else import_module(KERNELS + "permuting").unpermute(result, places.rows)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        formats, groups, places = ctx.formats, ctx.groups, ctx.places
        products, (up, down), needs = formats.products, ctx.given, ctx.needs_input_grad
        inner, row_weights, operand_values, operand_scales, *product = ctx.saved_tensors
        sources = groups.sources(groups.padded(TILE), inner.device)
        of_result, columns = _of_result(products, formats.bf16(grad), groups, places, sources, needs[7])
        of_product = formats.bf16(products.dgrad(of_result, ctx.weights[1], groups))
        of_down = of_up = of_x = None
        if needs[7]:
            if not product:
                made = _product(products, inner, row_weights)
                product = [made.values, made.scales]
            inputs = products.columns_of_kept(product, of_product.shape[1], groups)
            of_down = weight_gradient(formats, columns, inputs, down, groups)
        of_inner, of_columns, of_weights = import_module(KERNELS + "swiglu").swiglu_backward_quantise(
            inner, of_product, sources, row_weights, power_of_two=products.power_of_two
        )
        if needs[6]:
            inputs = products.columns_of_kept((operand_values, operand_scales), up.shape[-1], groups)
            of_up = weight_gradient(formats, Turned(*of_columns), inputs, up, groups)
        if needs[4]:
            of_x = formats.bf16(products.dgrad(Quantised(of_inner[0], of_inner[1], ROWS), ctx.weights[0], groups))
            of_x = of_x if places is None else import_module(KERNELS + "permuting").unpermute(of_x, places.rows)
        return None, None, None, None, of_x, of_weights, of_up, of_down


def _rows(products: Any, x: Tensor, groups: Groups, places: Places | None) -> Quantised:
    """x, or its tokens in the experts' order, in tiles 1x128."""
    if places is None:
        return products.operand(x)
    quantise = import_module(KERNELS + "permuting").permute_quantise
    values, scales = quantise(x, places.rows, sum(groups.counts), power_of_two=products.power_of_two)
    return Quantised(values, scales, ROWS)


def _product(products: Any, inner: Tensor, row_weights: Tensor | None) -> Quantised:
    quantise = import_module(KERNELS + "swiglu").swiglu_quantise
    values, scales = quantise(inner, row_weights, power_of_two=products.power_of_two)
    return Quantised(values, scales, ROWS)


def _of_result(
    products: Any, grad: Tensor, groups: Groups, places: Places | None, sources: Tensor, for_weights: bool
) -> tuple[Any, Turned | None]:
    """The result's gradient for dgrad, and if asked for wgrad; with places it is that of tokens."""
    if places is None:
        return quantised_gradient(products, grad, groups, True, for_weights)
    of_rows = _rows(products, grad, groups, places)
    if not for_weights:
        return of_rows, None
    tokens = torch.where(sources >= 0, places.tokens[sources.clamp(min=0)], -1) if len(places.tokens) else sources
    quantise = import_module(KERNELS + "streams").quantise_columns
    return of_rows, Turned(*quantise(grad, None, grad.shape[1], tokens, ALIGNED, power_of_two=products.power_of_two))
