"""What each process of test_pipeline.py does, and the toy stages that it does it with."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.parallel.mailbox import MessageForm
from hwprofiles.calibration.parallel.order import read_order
from hwprofiles.calibration.parallel.pipeline import Pipeline

WIDTH, VOCABULARY, TOKENS = 5, 7, 3
DTYPE = torch.float64


class Alive:
    """Graphs of toy stages that are alive in this process, and the most that were at once."""

    now = most = 0

    @classmethod
    def count(cls, change: int) -> None:
        cls.now += change
        cls.most = max(cls.most, cls.now)


class _Counted(torch.autograd.Function):
    """x; its graph is alive as long as the mark that it keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark = type("Mark", (), {})()
        Alive.count(1)
        weakref.finalize(ctx.mark, Alive.count, -1)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class ToyStage(nn.Module):
    """A stage of a toy model: the first embeds, each has a layer, the last has a loss, for which it borrows the embedding."""

    def __init__(self, stage: int, num_stages: int) -> None:
        super().__init__()
        self.stage, self.is_last = stage, stage == num_stages - 1
        if stage == 0 or self.is_last:
            self.embedding = _drawn(100, VOCABULARY, WIDTH)
        self.layers = nn.ParameterDict({f"layer{stage}": _drawn(stage, WIDTH, WIDTH)})

    def forward(self, x: Tensor | None, tokens: Tensor) -> Tensor:
        x = self.embedding[tokens[:, :-1]] if x is None else x
        x = torch.tanh(_Counted.apply(x) @ self.layers[f"layer{self.stage}"]) + x
        if not self.is_last:
            return x
        return nn.functional.cross_entropy((x @ self.embedding.T).flatten(0, 1), tokens[:, 1:].flatten())


def _drawn(seed: int, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DTYPE))


def micro_batches(count: int) -> list[Tensor]:
    """Tokens of two sequences each."""
    seed = torch.Generator().manual_seed(count)
    return [torch.randint(VOCABULARY, (2, TOKENS + 1), generator=seed) for _ in range(count)]


def plain_step(num_stages: int, count: int) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of the micro-batches and gradients of their mean, on one process."""
    stages = [ToyStage(stage, num_stages) for stage in range(num_stages)]
    stages[-1].embedding = stages[0].embedding
    losses = []
    for tokens in micro_batches(count):
        x = None
        for stage in stages:
            x = stage(x, tokens)
        assert x is not None
        losses.append(x)
    (sum(losses) / count).backward()
    return [loss.item() for loss in losses], {n: p.grad for stage in stages for n, p in stage.named_parameters()}


def toy_pipeline(document: dict[str, Any], rank: int, **options: Any) -> Pipeline:
    """A rank's pipeline of toy stages."""
    order = read_order(document)
    stages = {stage: ToyStage(stage, order.num_stages) for stage in order.placement[rank]}
    if len(stages) > 1 and {0, order.num_stages - 1} <= set(stages):
        stages[order.num_stages - 1].embedding = stages[0].embedding
    form = MessageForm((2, TOKENS, WIDTH), DTYPE, torch.device("cpu"))
    return Pipeline(order, stages, form, **options)


def toy_steps(rank: int, documents: list[dict[str, Any]], folder: str) -> list[dict[str, Any]]:
    """Two steps of each document; gradients go to a file a rank and document."""
    found: list[dict[str, Any]] = []
    for number, document in enumerate(documents):
        pipeline = toy_pipeline(document, rank)
        first = pipeline.step(micro_batches(document["micro_batches"]))
        Alive.most = 0
        again = pipeline.step(micro_batches(document["micro_batches"]))
        gradients = {n: p.grad for stage in pipeline.stages.values() for n, p in stage.named_parameters()}
        torch.save(gradients, Path(folder) / f"{number}-{rank}.pt")
        found.append({
            "losses": first.losses, "is_repeatable": first == again, "in_flight": first.most_in_flight,
            "most_alive": Alive.most, "alive": Alive.now,
        })  # fmt: skip
    return found


def refusals(rank: int, document: dict[str, Any]) -> list[str]:
    """What a rank is told where the copies of a stage differ, and where the last rank does not take part in a step."""
    return [_refusal(lambda: _unlike(document, rank)), _refusal(lambda: _deserted(document, rank))]


def _unlike(document: dict[str, Any], rank: int) -> None:
    stages = {stage: ToyStage(stage, document["pp"]) for stage in range(2)}
    stages[1].embedding = stages[0].embedding
    stages[1].layers["layer1"].data[2, 3] += rank
    Pipeline(read_order(document), stages, MessageForm((2, TOKENS, WIDTH), DTYPE, torch.device("cpu")))


def _deserted(document: dict[str, Any], rank: int) -> None:
    pipeline = toy_pipeline(document, rank, timeout_s=0.3)
    if rank == 0:
        pipeline.step(micro_batches(document["micro_batches"]))


def _refusal(action: Callable[[], None]) -> str:
    try:
        action()
    except CalibrationError as error:
        return str(error)
    return ""


def steps_and_refusals(rank: int, documents: list[dict[str, Any]], folder: str, bad: dict[str, Any] | None) -> Any:
    """Steps, then refusals, with one start of the processes."""
    return toy_steps(rank, documents, folder), refusals(rank, bad) if bad else []
