"""One MoE layer on an expert group beside the same layer with all experts and all tokens on one device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from hwprofiles.calibration.model.config import Moe
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel.expert_dispatch import ExpertDispatch
from hwprofiles.calibration.parallel.groups import ExpertGroup, expert_group, sum_over
from hwprofiles.calibration.parallel.step_end import sum_dense_gradients
from hwprofiles.calibration.parallel.wire import Wire


@dataclass(frozen=True)
class Compared:
    """A recipe, the wire's format, and how far the group may be from one device (2-norms, relative).

    BF16 keeps 8 bits, and partial sums are rounded on the way. E4M3 keeps 4: what travels in it is rounded once more than on a
    single device, forward and backward, and with FP8 products again in other tiles. A row that is lost
    or sent twice is no rounding.
    """

    recipe: str
    wire: Wire
    tolerance: float


CASES: Final = (
    Compared("float64", "as_is", 1e-10),
    Compared("bf16", "bf16", 0.02),
    Compared("bf16", "fp8", 0.15),
    Compared("fp8-blockwise", "fp8", 0.25),
)
SEED: Final = 5


def layer(config: Moe, hidden: int, recipe: str, device: torch.device, dispatcher: Any = None) -> MoeLayer:
    """A layer whose weights depend neither on the ranks nor on the device's number."""
    with torch.device(device):
        result = MoeLayer(config, hidden, numerics(recipe, device), None, dispatcher)
    initialise(result, 0.5 / hidden**0.5, SEED)
    return result


def outcome(moe: MoeLayer, x: Tensor, target: Tensor, group: ExpertGroup | None = None) -> dict[str, Tensor]:
    """Output of x (b, s, h) and the gradients of x and of all parameters, of the loss (output x target); of a group's loss."""
    x = x.clone().requires_grad_()
    out = moe(x)
    (out * target).sum().backward()
    if group is not None:
        sum_dense_gradients(moe, group)
    grads = {name: each.grad for name, each in moe.named_parameters() if each.grad is not None}
    return {"output": out.detach(), "input": x.grad, **grads}


def compare(
    group: ExpertGroup, case: Compared, config: Moe, hidden: int, tokens: int, device: torch.device
) -> dict[str, Any]:
    """How far the group is from one device, the worst tensor of the worst rank; every rank takes part. tokens: of a rank."""
    draw = torch.Generator().manual_seed(SEED)
    shape = (group.size, tokens, hidden)
    x, target = (torch.randn(shape, generator=draw).bfloat16().to(device) for _ in range(2))
    one, mine = (
        layer(config, hidden, case.recipe, device, dispatcher)
        for dispatcher in (None, ExpertDispatch(group, case.wire))
    )  # fmt: skip
    x, target = (each.to(one.numerics.dtype) for each in (x, target))
    for each in (one, mine):
        each.loss_scale = 0.0  # the balance loss of a batch is no sum over its parts
    part = slice(group.rank, group.rank + 1)
    wanted, found = outcome(one, x, target), outcome(mine, x[part], target[part], group)
    experts = slice(group.first_expert, group.first_expert + group.experts_per_rank)
    differences = {}
    for name, whole in wanted.items():
        if name in ("output", "input"):
            whole = whole[part]
        elif name.startswith("experts."):
            whole = whole[experts]
        differences[name] = float(
            (found[name].double() - whole.double()).norm() / whole.double().norm().clamp_min(1e-30)
        )
    worst = torch.tensor([max(differences.values())], dtype=torch.float64, device=device)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX, group=group.whole)
    loads = mine.take_loads()
    sum_over([loads], group.whole)
    return {
        "recipe": case.recipe, "wire": case.wire, "ranks_per_node": group.ranks_per_node, "difference": float(worst),
        "tolerance": case.tolerance, "choices_moved": int((loads - one.take_loads()).abs().sum()) // 2,
        "is_within": float(worst) < case.tolerance,
    }  # fmt: skip


def comparisons(config: Moe, hidden: int, tokens: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """A row a case and size of node: of 1, 2, 4, … ranks and of all."""
    for ranks_per_node in node_sizes(dist.get_world_size()):
        group = expert_group(config.num_experts, ranks_per_node)
        for case in CASES:
            yield compare(group, case, config, hidden, tokens, device)


def node_sizes(ranks: int) -> list[int]:
    """Numbers of ranks that a node may have: powers of two that divide the ranks."""
    return [2**power for power in range(ranks.bit_length()) if ranks % 2**power == 0]
