"""Grouped-query attention (arXiv:2305.13245), with what models add to it: norms of queries and keys, biases, sinks, windows."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from hwprofiles.calibration.model import config, rope
from hwprofiles.calibration.model.attention_core import attend
from hwprofiles.calibration.model.linear import Linear, check_input, parameter
from hwprofiles.calibration.model.norm import RmsNorm
from hwprofiles.calibration.model.recompute import checkpointed
from hwprofiles.calibration.numerics.numerics import Numerics


class Gqa(nn.Module):
    """Queries, keys and values by one product: qkv.weight ((n + 2 nkv) d, h), queries first, values last."""

    def __init__(
        self, sizes: config.Gqa, model: config.ModelConfig, numerics: Numerics, recompute: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.sizes, self.rope, self.numerics, self.recompute = sizes, model.rope, numerics, recompute
        hidden, dim = model.hidden_size, sizes.head_dim
        norms_again = "rmsnorm" in recompute
        width = (sizes.num_heads + 2 * sizes.num_kv_heads) * dim
        self.qkv = Linear(hidden, width, numerics, bias=sizes.bias, keeps_input=norms_again)
        if sizes.qk_norm:
            self.q_norm = RmsNorm(dim, numerics, model.norm_eps)
            self.k_norm = RmsNorm(dim, numerics, model.norm_eps)
        self.sinks = parameter(numerics, sizes.num_heads) if sizes.sinks else None
        # The core keeps its output anyway, unless it runs again.
        self.output = Linear(
            sizes.num_heads * dim, hidden, numerics, bias=sizes.bias, keeps_input="attention" not in recompute
        )
        # What is rotated is queries and keys whole: their factors are one of the product's.
        self.scale = rope.softmax_scale(model.rope, dim) * sizes.rope_scale**2 if sizes.rope else dim**-0.5

    def tables(self, length: int, device: torch.device) -> rope.Tables:
        """Of positions 0 to length-1."""
        return rope.tables(self.rope, self.sizes.head_dim, length, device)

    def forward(self, x: Tensor, tables: rope.Tables | None = None) -> Tensor:
        """x (b, s, h), normed, to (b, s, h)."""
        check_input(x, self.output.weight.shape[0], self.numerics, 3)
        q, k, v = self._projected(x, tables)
        core = partial(attend, scale=self.scale, window=self.sizes.window, sinks=self.sinks)
        out = checkpointed(core, q, k, v) if "attention" in self.recompute else core(q, k, v)
        return self.output(self.numerics.rounded(out).flatten(2))

    def _projected(self, x: Tensor, tables: rope.Tables | None) -> tuple[Tensor, Tensor, Tensor]:
        """q (b, s, n, d), k and v (b, s, nkv, d)."""
        heads, kv_heads = self.sizes.num_heads, self.sizes.num_kv_heads
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.sizes.head_dim)).split((heads, kv_heads, kv_heads), dim=2)
        if self.sizes.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        elif self.sizes.rope:
            v = v.contiguous()  # as a view it would hold q and k as they were before rope
        if self.sizes.rope:
            tables = tables or self.tables(x.shape[1], x.device)
            q, k = (self.numerics.rounded(rope.apply(part, *tables)) for part in (q, k))
        return q, k, v
