"""What the ranks of an expert group add up at the end of a step, so that each has what one process would have."""

from __future__ import annotations

import torch
from torch import nn

from hwprofiles.calibration.model.experts import Experts
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.parallel.groups import ExpertGroup, sum_over


def sum_dense_gradients(model: nn.Module, group: ExpertGroup) -> None:
    """Sums the gradients of all parameters but the experts', which are whole already: their rows came from every rank.

    A parameter that no token of this rank reached counts with zeros.
    """
    own = {id(weight) for part in model.modules() if isinstance(part, Experts) for weight in part.parameters()}
    dense = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in own]
    for weight in dense:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    sum_over([weight.grad for weight in dense], group.whole)


def update_biases(model: nn.Module, group: ExpertGroup) -> None:
    """Moves the routers' biases by the loads that their experts had since the last call, those of all ranks together."""
    layers = [part for part in model.modules() if isinstance(part, MoeLayer)]
    loads = [layer.take_loads() for layer in layers]
    sum_over(loads, group.whole)
    for layer, load in zip(layers, loads, strict=True):
        layer.update_bias(load)
