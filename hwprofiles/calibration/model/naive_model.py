"""The whole model from the parts of `naive` and `moe_reference`, in FP64: what each loss is, token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from hwprofiles.calibration.model import moe_reference, naive
from hwprofiles.calibration.model.ffn import Ffn
from hwprofiles.calibration.model.layer import Layer
from hwprofiles.calibration.model.mla import Mla
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.transformer import Model


def losses(model: Model, tokens: Tensor) -> list[Tensor]:
    """The main loss and each MTP module's, as `Model.forward` defines them.

    Of a sequence t_0, t_1, ...: position i reads t_i and predicts t_(i+1); module k goes on from what is known at position i,
    reads t_(i+k) and predicts t_(i+k+1) (DeepSeek-V3 report, 2.2).
    """
    num_mtp = model.config.num_mtp
    length = tokens.shape[1] - 1 - num_mtp
    hidden = _embedded(model, tokens, 0, length)
    for part in model.layers:
        hidden = layer(part, hidden)
    result = [_loss(model, model.head.norm, hidden, tokens, 1)]
    for module, ahead in zip(list(model.parts)[len(model.parts) - num_mtp :], range(1, num_mtp + 1), strict=True):
        hidden = layer(module.layer, naive.mtp_input(module, hidden, _embedded(model, tokens, ahead, length)))
        result.append(_loss(model, module.norm, hidden, tokens, ahead + 1))
    return result


def layer(part: Layer, x: Tensor) -> Tensor:
    """x + attention(norm(x)), then x + ffn(norm(x))."""
    normed = naive.norm(part.attention_norm, x)
    x = x + (
        naive.mla(part.attention, normed) if isinstance(part.attention, Mla) else naive.gqa(part.attention, normed)
    )
    normed = naive.norm(part.ffn_norm, x)
    if isinstance(part.ffn, Ffn):
        return x + naive.ffn(part.ffn, normed)
    return x + _experts(part.ffn, normed)


def _experts(part: MoeLayer, x: Tensor) -> Tensor:
    weights = {name: weight.to(naive.WIDE) for name, weight in [*part.named_parameters(), *part.named_buffers()]}
    routed, _ = moe_reference.moe(x.flatten(0, 1), weights, part.config)
    routed = routed.unflatten(0, x.shape[:2])
    return routed if part.shared is None else routed + naive.ffn(part.shared, x)


def _embedded(model: Model, tokens: Tensor, ahead: int, length: int) -> Tensor:
    rows = [[model.embedding.weight[tokens[seq, at + ahead]] for at in range(length)] for seq in range(len(tokens))]
    looked_up = torch.stack([torch.stack(row) for row in rows]).to(naive.WIDE)
    if model.embedding.positions is not None:
        looked_up = looked_up + model.embedding.positions[:length].to(naive.WIDE)
    return looked_up


def _loss(model: Model, norm: torch.nn.Module, hidden: Tensor, tokens: Tensor, ahead: int) -> Tensor:
    logits = naive.norm(norm, hidden) @ model.head.weight.to(naive.WIDE).T
    return naive.cross_entropy(logits, tokens[:, ahead : ahead + hidden.shape[1]])
