"""The dense parts as their papers write them, in FP64: a position, a head and a pair at a time, nothing saved or fused.

What the fast forms are compared with. Each takes the fast form's module and reads its weights; differentiable by torch.
"""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor

from hwprofiles.calibration.model import config
from hwprofiles.calibration.model.ffn import Ffn
from hwprofiles.calibration.model.gqa import Gqa
from hwprofiles.calibration.model.linear import Linear
from hwprofiles.calibration.model.mla import Mla
from hwprofiles.calibration.model.mtp import Mtp
from hwprofiles.calibration.model.norm import LayerNorm, RmsNorm

WIDE = torch.float64


def linear(layer: Linear, x: Tensor) -> Tensor:
    """W x + b."""
    product = x.to(WIDE) @ layer.weight.to(WIDE).T
    return product if layer.bias is None else product + layer.bias.to(WIDE)


def norm(layer: RmsNorm | LayerNorm, x: Tensor) -> Tensor:
    """arXiv:1910.07467, equation 4; arXiv:1607.06450, equation 3."""
    x = x.to(WIDE)
    if isinstance(layer, LayerNorm):
        mean = x.sum(-1, keepdim=True) / x.shape[-1]
        variance = ((x - mean) ** 2).sum(-1, keepdim=True) / x.shape[-1]
        return (x - mean) / torch.sqrt(variance + layer.eps) * layer.weight.to(WIDE) + layer.bias.to(WIDE)
    return x / torch.sqrt((x**2).sum(-1, keepdim=True) / x.shape[-1] + layer.eps) * layer.weight.to(WIDE)


def angle(rope: config.Rope, dim: int, pair: int) -> float:
    """Radians a position: arXiv:2104.09864, equation 15; stretched: arXiv:2309.00071, definition 2 (NTK-by-parts)."""
    theta = rope.theta ** (-2 * pair / dim)
    if rope.factor <= 1:
        return theta
    wavelength = 2 * math.pi / theta
    ratio = rope.original_len / wavelength
    if ratio < rope.beta_slow:
        ramp = 0.0
    elif ratio > rope.beta_fast:
        ramp = 1.0
    else:
        ramp = (ratio - rope.beta_slow) / (rope.beta_fast - rope.beta_slow)
    return (1 - ramp) * theta / rope.factor + ramp * theta


def turned(x: Tensor, rope: config.Rope, dim: int) -> Tensor:
    """x (b, s, n, d), the last dim numbers of a head as complex ones, each times exp(i m theta) at position m."""
    x = x.to(WIDE)
    parts = []
    for position in range(x.shape[1]):
        numbers = [x[:, position, :, : x.shape[-1] - dim]]
        for pair in range(dim // 2):
            first = x.shape[-1] - dim + 2 * pair
            factor = cmath.exp(1j * position * angle(rope, dim, pair))
            a, b = x[:, position, :, first], x[:, position, :, first + 1]
            numbers.append(torch.stack((a * factor.real - b * factor.imag, a * factor.imag + b * factor.real), dim=-1))
        parts.append(torch.cat(numbers, dim=-1))
    return torch.stack(parts, dim=1)


def temperature(rope: config.Rope) -> float:
    """1/t of arXiv:2309.00071, equation 15: sqrt(1/t) = 0.1 ln(factor) + 1; the logarithm's factor times mscale."""
    return (0.1 * rope.mscale * math.log(rope.factor) + 1) ** 2 if rope.factor > 1 else 1.0


def attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None = None, sinks: Tensor | None = None
) -> Tensor:
    """A query of a head at a time. Shapes as in `attention_core.attend`; a sink has a share of the softmax and no value."""
    q, k, v = q.to(WIDE), k.to(WIDE), v.to(WIDE)
    served = q.shape[2] // k.shape[2]
    heads = []
    for head in range(q.shape[2]):
        rows = []
        for at in range(q.shape[1]):
            first = 0 if window is None else max(0, at + 1 - window)
            keys, values = k[:, first : at + 1, head // served], v[:, first : at + 1, head // served]
            weights = torch.exp(scale * (keys * q[:, at : at + 1, head]).sum(-1))
            total = weights.sum(-1, keepdim=True)
            if sinks is not None:
                total = total + torch.exp(sinks[head].to(WIDE))
            rows.append(((weights / total)[..., None] * values).sum(1))
        heads.append(torch.stack(rows, dim=1))
    return torch.stack(heads, dim=2)


def mla(layer: Mla, x: Tensor) -> Tensor:
    """DeepSeek-V2, arXiv:2405.04434, equations 37 to 47, a head at a time."""
    sizes, rope = layer.sizes, layer.rope
    c_q = norm(layer.q_norm, linear(layer.q_down, x)) if sizes.q_lora_rank else x
    q_all = linear(layer.q_up if sizes.q_lora_rank else layer.q_down, c_q)
    down = linear(layer.kv_down, x)
    c_kv = norm(layer.kv_norm, down[..., : sizes.kv_lora_rank])
    k_rope = turned(down[..., None, sizes.kv_lora_rank :], rope, sizes.qk_rope_head_dim)
    kv_all, dim, own = linear(layer.kv_up, c_kv), layer.head_dim, sizes.qk_nope_head_dim
    heads = []
    for head in range(sizes.num_heads):
        q = q_all[..., None, head * dim : (head + 1) * dim]
        kv = kv_all[..., None, head * (own + sizes.v_head_dim) : (head + 1) * (own + sizes.v_head_dim)]
        k = torch.cat((kv[..., :own], k_rope), dim=-1)
        q = turned(q, rope, sizes.qk_rope_head_dim)
        heads.append(attention(q, k, kv[..., own:], temperature(rope) / math.sqrt(dim)))
    return linear(layer.output, torch.cat(heads, dim=2).flatten(2))


def gqa(layer: Gqa, x: Tensor) -> Tensor:
    """arXiv:2305.13245, with what `config.Gqa` names."""
    sizes, dim = layer.sizes, layer.sizes.head_dim
    rows = linear(layer.qkv, x).unflatten(-1, (-1, dim))
    q, k = rows[:, :, : sizes.num_heads], rows[:, :, sizes.num_heads : sizes.num_heads + sizes.num_kv_heads]
    v = rows[:, :, sizes.num_heads + sizes.num_kv_heads :]
    if sizes.qk_norm:
        q, k = norm(layer.q_norm, q), norm(layer.k_norm, k)
    scale = 1 / math.sqrt(dim)
    if sizes.rope:
        q, k = (sizes.rope_scale * turned(part, layer.rope, dim) for part in (q, k))
        scale *= temperature(layer.rope)
    return linear(layer.output, attention(q, k, v, scale, sizes.window, layer.sinks).flatten(2))


def ffn(layer: Ffn, x: Tensor) -> Tensor:
    """arXiv:2002.05202, equations 5 and 6; relu2: arXiv:2109.08668, 3.1."""
    sizes, up = layer.sizes, linear(layer.up, x)
    gate, value = up[..., : sizes.width], up[..., sizes.width :]
    if sizes.activation == "swiglu":
        product = gate / (1 + torch.exp(-gate)) * value
    elif sizes.activation == "geglu":
        product = gate * _normal(gate) * value
    else:
        product = gate * _normal(gate) if sizes.activation == "gelu" else torch.where(gate > 0, gate, 0 * gate) ** 2
    return linear(layer.down, product)


def _normal(x: Tensor) -> Tensor:
    """The normal law's distribution."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log of the target's probability, mean of all tokens."""
    rows, columns = logits.to(WIDE).flatten(0, -2), targets.flatten()
    losses = [
        -torch.log(torch.exp(row)[column] / torch.exp(row).sum()) for row, column in zip(rows, columns, strict=True)
    ]
    return torch.stack(losses).mean()


def mtp_input(layer: Mtp, hidden: Tensor, embedded: Tensor) -> Tensor:
    """What goes into a module's layer: DeepSeek-V3 report, equation 21."""
    return linear(
        layer.projection, torch.cat((norm(layer.hidden_norm, hidden), norm(layer.embedding_norm, embedded)), -1)
    )
