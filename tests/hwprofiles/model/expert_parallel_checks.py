"""What each rank of an expert group checks; results go to test_expert_parallel.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import Ffn, Moe
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.router import Routing, select
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel.all_to_all import Splits, all_to_all, all_to_all_async, exchange_counts
from hwprofiles.calibration.parallel.expert_dispatch import ExpertDispatch
from hwprofiles.calibration.parallel.groups import ExpertGroup, expert_group, sum_over
from tests.hwprofiles.model import overlap_checks

NUM_EXPERTS, TOP_K, HIDDEN = 8, 3, 128


@dataclass
class Case:
    """Tokens of all ranks and what becomes of them in one process, with gradients."""

    x: Tensor
    weights: Tensor
    matrices: Tensor
    out: Tensor
    experts: Tensor
    counts: list[int]

    def mine(self, whole: Tensor, rank: int) -> Tensor:
        """This rank's part of a tensor of all tokens."""
        return whole.split(self.counts)[rank].detach()


def case(ranks: int, dtype: torch.dtype) -> Case:
    """Rank r has 5 r tokens, so that one has none; token t's loss weighs its outputs with numbers of its own."""
    generator = torch.Generator().manual_seed(ranks)
    counts = [5 * rank for rank in range(ranks)]
    tokens = sum(counts)
    experts = torch.rand(tokens, NUM_EXPERTS, generator=generator).topk(TOP_K).indices
    experts = torch.where(
        experts == NUM_EXPERTS - 2, experts[:, :1], experts
    )  # nobody's expert; a token may have one twice
    x, weights, matrices = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((tokens, HIDDEN), (tokens, TOP_K), (NUM_EXPERTS, HIDDEN, HIDDEN))
    )
    parts = [
        sum(weights[t, j] * torch.tanh(x[t] @ matrices[experts[t, j]] / HIDDEN**0.5) for j in range(TOP_K))
        for t in range(tokens)
    ]
    out = torch.stack(parts)  # type: ignore[arg-type]
    (out * target(out)).sum().backward()
    return Case(x, weights, matrices, out, experts, counts)


def target(out: Tensor) -> Tensor:
    """The loss's gradient."""
    return torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape).cos().to(out.dtype)


def exchanged(rank: int, ranks: int) -> dict[str, Any]:
    """all_to_all in several formats, with uneven and empty parts; rank r sends (r + p) % 3 rows to p."""
    counts = torch.tensor([(rank + p) % 3 for p in range(ranks)])
    splits = exchange_counts(counts, dist.group.WORLD)
    wrong = []
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.float64):
        x = torch.cat([torch.full((n, 2), 10 * rank + p) for p, n in enumerate(counts.tolist())]).to(dtype)
        wanted = torch.cat([torch.full(((rank + p) % 3, 2), 10 * p + rank) for p in range(ranks)]).to(dtype)
        pending = all_to_all_async(x, splits, dist.group.WORLD)
        if not torch.equal(all_to_all(x, splits, dist.group.WORLD), wanted) or not torch.equal(
            pending.wait()[0], wanted
        ):
            wrong.append(str(dtype))
    x = torch.randn(sum(splits.send), 2, generator=torch.Generator().manual_seed(rank)).requires_grad_()
    scale = torch.cat([torch.full((n, 1), 1.0 + rank + 10 * p) for p, n in enumerate(splits.receive)])
    (all_to_all(x, splits, dist.group.WORLD) * scale).sum().backward()
    sent = torch.cat([torch.full((n, 2), 1.0 + p + 10 * rank) for p, n in enumerate(splits.send)])
    if x.grad is None or not torch.equal(x.grad, sent):
        wrong.append("gradient")
    try:
        all_to_all(x[1:], Splits(splits.send, splits.receive), dist.group.WORLD)
    except CalibrationError as error:
        message = str(error)
    return {"wrong": wrong, "refusal": message}


def dispatched(group: ExpertGroup, whole: Case, wire: Any) -> dict[str, float]:
    """Largest relative differences between the group and one process."""
    held = slice(group.first_expert, group.first_expert + group.experts_per_rank)
    x, weights = (whole.mine(t, group.rank).requires_grad_() for t in (whole.x, whole.weights))
    matrices = whole.matrices[held].detach().clone().requires_grad_()
    routing = Routing(whole.mine(whole.experts, group.rank), weights, torch.empty(len(x), NUM_EXPERTS))
    dispatcher = ExpertDispatch(group, wire)
    received = dispatcher.dispatch(x, routing)
    results = [
        torch.tanh(part @ matrix / HIDDEN**0.5)
        for part, matrix in zip(received.rows.split(received.counts.tolist()), matrices, strict=True)
    ]
    rows = torch.cat(results) * received.row_weights.unsqueeze(1)
    out = dispatcher.combine(rows, received)
    (out * whole.mine(target(whole.out), group.rank)).sum().backward()
    pairs = {
        "out": (out, whole.mine(whole.out, group.rank)),
        "x": (x.grad, whole.mine(whole.x.grad, group.rank)),  # type: ignore[arg-type]
        "weights": (weights.grad, whole.mine(whole.weights.grad, group.rank)),  # type: ignore[arg-type]
        "matrices": (matrices.grad, whole.matrices.grad[held]),  # type: ignore[index]
    }
    return {name: worst(got, wanted, group) for name, (got, wanted) in pairs.items()}


def worst(got: Tensor | None, wanted: Tensor, group: ExpertGroup) -> float:
    """Difference over the wanted tensor's size (both 2-norms), the largest of all ranks."""
    assert got is not None and got.shape == wanted.shape and got.dtype == wanted.dtype
    difference = (got.detach().double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30)
    dist.all_reduce(difference, op=dist.ReduceOp.MAX, group=group.whole)
    return float(difference)


ROUTED = Moe(num_experts=32, top_k=4, expert=Ffn(1), num_groups=4, max_groups=2, score="sigmoid")
TOKENS = 1500
"""A rank, of the tokens whose copies are counted."""


def counted(group: ExpertGroup, wire: Any) -> dict[str, Any]:
    """Copies and bytes of a dispatch and a combine of random choices, with the same from each token's experts one by one."""
    generator = torch.Generator().manual_seed(7 + group.rank)
    experts = select(torch.rand(TOKENS, ROUTED.num_experts, generator=generator), ROUTED)
    x = torch.randn(TOKENS, HIDDEN, generator=generator)
    routing = Routing(
        experts, torch.rand(TOKENS, ROUTED.top_k, generator=generator), torch.empty(TOKENS, ROUTED.num_experts)
    )
    dispatcher = ExpertDispatch(group, wire)
    received = dispatcher.dispatch(x, routing)
    dispatcher.combine(received.rows, received)
    traffic = dispatcher.traffic
    ranks = [{e // group.experts_per_rank for e in row} for row in experts.tolist()]
    nodes = [{r // group.ranks_per_node for r in row} for row in ranks]
    index, node = group.rank % group.ranks_per_node, group.rank // group.ranks_per_node
    # Forwarded from the rank of the sender's index on the other node; stays where it is where the sender's node is meant.
    away = sum(len(row - {node}) for row in nodes)
    handed_on = sum(r % group.ranks_per_node != index for row in ranks for r in row)
    mine = torch.tensor([
        traffic.tokens, traffic.node_copies, traffic.rank_copies, sum(map(len, nodes)), sum(map(len, ranks)),
        *(traffic.bytes_sent[way, level] for way in ("dispatch", "combine") for level in ("across", "inside")), away, handed_on,
    ])  # fmt: skip
    sum_over([mine], group.whole)
    names = ("tokens", "node_copies", "rank_copies", "nodes", "ranks", "dispatch across", "dispatch inside", "combine across",
             "combine inside", "away", "handed_on")  # fmt: skip
    loads = torch.bincount(experts.flatten(), minlength=ROUTED.num_experts)
    sum_over([loads], group.whole)
    held = slice(group.first_expert, group.first_expert + group.experts_per_rank)
    return {**dict(zip(names, mine.tolist(), strict=True)), "loads": torch.equal(loads[held], received.counts)}


def refused() -> list[str]:
    """What is said of groups that cannot be."""
    messages = []
    for num_experts, ranks_per_node, size in ((9, 1, None), (8, 3, None), (8, 1, 3)):
        try:
            expert_group(num_experts, ranks_per_node, size)
        except CalibrationError as error:
            messages.append(str(error))
    return messages


def unlike(group: ExpertGroup) -> str:
    """What is said of a layer with more experts than its group was made for."""
    moe = MoeLayer(replace(ROUTED, expert=Ffn(8)), HIDDEN, numerics("float32"), None, ExpertDispatch(group))
    try:
        moe(torch.zeros(1, 4, HIDDEN))
    except CalibrationError as error:
        return str(error)
    return ""


def left_alone(rank: int) -> str:
    """What the second rank is told where the first does not take part in a dispatch."""
    group, told = expert_group(NUM_EXPERTS, 1, timeout_s=0.3), ""
    if rank == 1:
        routing = Routing(torch.tensor([[0, 1]]), torch.ones(1, 2), torch.ones(1, NUM_EXPERTS))
        try:
            ExpertDispatch(group).dispatch(torch.ones(1, HIDDEN), routing)
        except RuntimeError as error:
            told = str(error)
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, told)
    return str(everyone[1])


def check(rank: int) -> dict[str, Any]:
    """Everything."""
    ranks = dist.get_world_size()
    results: dict[str, Any] = {"all_to_all": exchanged(rank, ranks), "refused": refused()}
    exact, coarse = case(ranks, torch.float64), case(ranks, torch.bfloat16)
    for per_node in (1, 2, 4):
        if per_node <= ranks:
            group, routed = expert_group(NUM_EXPERTS, per_node), expert_group(ROUTED.num_experts, per_node)
            results[f"float64 {per_node}"] = dispatched(group, exact, "as_is")
            results[f"bf16 {per_node}"] = dispatched(group, coarse, "bf16")
            results[f"fp8 {per_node}"] = dispatched(group, coarse, "fp8")
            results[f"counted bf16 {per_node}"] = counted(routed, "bf16")
    results["model"] = overlap_checks.check(expert_group(NUM_EXPERTS, 1 if ranks == 2 else 2))
    results["counted fp8"] = counted(expert_group(ROUTED.num_experts, ranks // 2), "fp8")
    if ranks == 2:
        results["unlike"] = unlike(expert_group(NUM_EXPERTS, 1))
        results["left alone"] = left_alone(rank)
    if ranks == 4:
        results["halves"] = dispatched(expert_group(NUM_EXPERTS, 1, 2), case(2, torch.float64), "as_is")
    return results
