"""What each process of test_pipeline.py does: with toy stages, and with stages of a small model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.config import Ffn, Gqa, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel.mailbox import MessageForm
from hwprofiles.calibration.parallel.order import read_order
from hwprofiles.calibration.parallel.pipeline import Pipeline
from hwprofiles.calibration.parallel.stages import build_stages, message_form, update_biases

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
    """What a rank is told where the copies of a stage differ, where messages have another form than was said, and where the
    last rank does not take part in a step.
    """
    return [_refusal(partial(attempt, document, rank)) for attempt in (_unlike, _misshapen, _deserted)]


def _misshapen(document: dict[str, Any], rank: int) -> None:
    pipeline = toy_pipeline(document, rank)
    pipeline._form = MessageForm((2, TOKENS, WIDTH), torch.float32, torch.device("cpu"))
    pipeline.step(micro_batches(document["micro_batches"]))


def _unlike(document: dict[str, Any], rank: int) -> None:
    stages = {stage: ToyStage(stage, document["pp"]) for stage in range(2)}
    stages[1].embedding = stages[0].embedding
    stages[1].layers["layer1"].data[2, 3] += rank
    Pipeline(read_order(document), stages, MessageForm((2, TOKENS, WIDTH), DTYPE, torch.device("cpu")))


def _deserted(document: dict[str, Any], rank: int) -> None:
    apart = dist.new_group()
    pipeline = toy_pipeline(document, rank, timeout_s=0.3, group=apart)
    try:
        if rank == 0:
            pipeline.step(micro_batches(document["micro_batches"]))
    finally:
        dist.barrier()  # it is the time that ends the wait: the last rank is there until then


def _refusal(action: Callable[[], None]) -> str:
    try:
        action()
    except CalibrationError as error:
        return str(error)
    return ""


MOE = Moe(
    num_experts=6, top_k=2, expert=Ffn(8), num_shared=1, num_groups=3, max_groups=2, score="sigmoid", has_bias=True
)
ATTENTION = Mla(num_heads=2, q_lora_rank=6, kv_lora_rank=6, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4)
CONFIGS = {
    "moe": ModelConfig(
        "moe", 12, 19, (Layer(ATTENTION, Ffn(10)), *[Layer(ATTENTION, MOE)] * 3), num_mtp=2, init_std=0.3
    ),
    "tied": ModelConfig("tied", 12, 19, (Layer(Gqa(2, 1, 4), Ffn(10)),) * 3, tied_embeddings=True, init_std=0.3),
}
BALANCING = Balancing(sequence_weight=0.1, bias_rate=0.01)
OPTIONS: dict[str, Any] = {"balancing": BALANCING, "seed": 3}
RECOMPUTE = ("rmsnorm", "swiglu", "moe", "mlp")


@dataclass(frozen=True)
class Case:
    """A document, executed with a model of CONFIGS."""

    document: dict[str, Any]
    config: str = "moe"
    layers_per_stage: tuple[int, ...] | None = None
    recompute: tuple[str, ...] = ()


def model_micro_batches(case: Case) -> list[Tensor]:
    """Two sequences of five tokens each, and what is predicted behind them."""
    config, seed = CONFIGS[case.config], torch.Generator().manual_seed(7)
    shape = (2, 6 + config.num_mtp)
    return [torch.randint(config.vocab_size, shape, generator=seed) for _ in range(case.document["micro_batches"])]


def plain_model_step(case: Case) -> tuple[list[float], dict[str, Tensor], dict[str, Tensor]]:
    """Losses of the micro-batches, gradients of their mean, and loads of the experts' layers, on one process."""
    model, batches = Model(CONFIGS[case.config], numerics("float64"), **OPTIONS), model_micro_batches(case)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, MoeLayer)}
    for layer in layers.values():
        layer.loss_scale = 1 / len(batches)
    losses = [model(tokens).total() for tokens in batches]
    for loss in losses:
        (loss / len(batches)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return [loss.item() for loss in losses], gradients, {name: layer.take_loads() for name, layer in layers.items()}


def model_steps(rank: int, cases: list[Case], folder: str) -> list[dict[str, Any]]:
    """A step of each case; gradients go to a file a rank and case."""
    found = []
    for number, case in enumerate(cases):
        config, formats, order = CONFIGS[case.config], numerics("float64"), read_order(case.document)
        stages = build_stages(
            config, formats, order, rank, layers_per_stage=case.layers_per_stage, recompute=case.recompute, **OPTIONS
        )
        batches = model_micro_batches(case)
        pipeline = Pipeline(order, stages, message_form(config, formats, batches[0]))
        step = pipeline.step(batches)
        gradients = {n: p.grad for stage in stages.values() for n, p in stage.named_parameters()}
        torch.save(gradients, Path(folder) / f"model-{number}-{rank}.pt")
        loads = {name: tensor.tolist() for name, tensor in update_biases(pipeline).items()}
        biases = {n: b.tolist() for stage in stages.values() for n, b in stage.named_buffers() if n.endswith("bias")}
        found.append({"losses": step.losses, "loads": loads, "biases": biases})
    return found


def everything(
    rank: int, documents: list[dict[str, Any]], cases: list[Case], folder: str, bad: dict[str, Any] | None
) -> Any:
    """Steps of toys, of models, then refusals, with one start of the processes."""
    return toy_steps(rank, documents, folder), model_steps(rank, cases, folder), refusals(rank, bad) if bad else []
