"""Multi-head latent attention in its training form (DeepSeek-V2, arXiv:2405.04434, 2.1): keys and values of every head are
projected up from a latent; the part of a key that rope turns is the same for all heads.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from hwprofiles.calibration.model import config, rope
from hwprofiles.calibration.model.attention_core import attend
from hwprofiles.calibration.model.linear import Linear, check_input
from hwprofiles.calibration.model.norm import RmsNorm
from hwprofiles.calibration.model.recompute import checkpointed, made
from hwprofiles.calibration.numerics.numerics import Numerics


class Mla(nn.Module):
    """Queries over a latent of their own (q_lora_rank), or projected directly; the latents are normed (2.1.2 there)."""

    def __init__(
        self, sizes: config.Mla, model: config.ModelConfig, numerics: Numerics, recompute: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.sizes, self.rope, self.numerics, self.recompute = sizes, model.rope, numerics, recompute
        self.head_dim = sizes.qk_nope_head_dim + sizes.qk_rope_head_dim
        hidden, heads = model.hidden_size, sizes.num_heads
        # What a norm makes again, or what the projections run again from.
        latents_stay = not recompute.isdisjoint(("rmsnorm", "mla_up_proj"))
        self.keeps_input = "rmsnorm" in recompute or (latents_stay and not sizes.q_lora_rank)
        q_width, kv_width = sizes.q_lora_rank or heads * self.head_dim, sizes.kv_lora_rank + sizes.qk_rope_head_dim
        self.q_down = Linear(hidden, q_width, numerics, keeps_input=self.keeps_input)
        self.kv_down = Linear(hidden, kv_width, numerics, keeps_input=self.keeps_input)
        if sizes.q_lora_rank:
            self.q_norm = RmsNorm(sizes.q_lora_rank, numerics, model.norm_eps)
            self.q_up = Linear(sizes.q_lora_rank, heads * self.head_dim, numerics, keeps_input=latents_stay)
        self.kv_norm = RmsNorm(sizes.kv_lora_rank, numerics, model.norm_eps)
        up_width = heads * (sizes.qk_nope_head_dim + sizes.v_head_dim)
        self.kv_up = Linear(sizes.kv_lora_rank, up_width, numerics, keeps_input=latents_stay)
        # The core keeps its output anyway, unless it runs again.
        self.output = Linear(heads * sizes.v_head_dim, hidden, numerics, keeps_input="attention" not in recompute)

    def tables(self, length: int, device: torch.device) -> rope.Tables:
        """Of positions 0 to length-1."""
        return rope.tables(self.rope, self.sizes.qk_rope_head_dim, length, device)

    def forward(self, x: Tensor, tables: rope.Tables | None = None) -> Tensor:
        """x (b, s, h), normed, to (b, s, h)."""
        check_input(x, self.output.weight.shape[0], self.numerics, 3)
        tables = tables or self.tables(x.shape[1], x.device)
        has_latent, norms_again = self.sizes.q_lora_rank > 0, "rmsnorm" in self.recompute
        is_up_again = "mla_up_proj" in self.recompute
        if is_up_again and not has_latent:
            # The queries' only projection is one of those that run again, from x (Megatron-LM's linear_q_proj).
            q_in, kv_in = x, self.kv_down(x)
        else:
            q_in, kv_in = self.numerics.linears(
                x, (self.q_down.weight, self.kv_down.weight), keeps_input=self.keeps_input
            )
        kv_in, k_rope = kv_in.split((self.sizes.kv_lora_rank, self.sizes.qk_rope_head_dim), dim=-1)
        with ExitStack() as dropped:
            q_latent = made(dropped, norms_again, self.q_norm, q_in) if has_latent else q_in
            kv_latent = made(dropped, norms_again, self.kv_norm, kv_in)
            up = partial(self._projected, tables)
            q, k, v = made(dropped, is_up_again, up, q_latent, kv_latent, k_rope)
            core = partial(attend, scale=rope.softmax_scale(self.rope, self.head_dim))
            out = checkpointed(core, q, k, v) if "attention" in self.recompute else core(q, k, v)
            return self.output(self.numerics.rounded(out).flatten(2))

    def _projected(
        self, tables: rope.Tables, q_latent: Tensor, kv_latent: Tensor, k_rope: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q and k (b, s, n, dqk), turned, and v (b, s, n, dv), from the normed latents and the shared part of a key,
        (b, s, d_rope). Without a latent q_latent is q itself, or x where q_down is to run here.
        """
        sizes, heads = self.sizes, self.sizes.num_heads
        if sizes.q_lora_rank:
            q_latent = self.q_up(q_latent)
        elif "mla_up_proj" in self.recompute:
            q_latent = self.q_down(q_latent)
        q = q_latent.unflatten(-1, (heads, -1))
        k_own, v = (
            self.kv_up(kv_latent).unflatten(-1, (heads, -1)).split((sizes.qk_nope_head_dim, sizes.v_head_dim), dim=-1)
        )
        shared = rope.apply(k_rope.unsqueeze(2), *tables).expand(-1, -1, heads, -1)
        k = torch.cat((k_own, self.numerics.rounded(shared)), dim=-1)
        return (
            self.numerics.rounded(rope.apply(q, *tables)),
            k,
            v.contiguous(),
        )  # v alone: its half of kv_up is not kept
