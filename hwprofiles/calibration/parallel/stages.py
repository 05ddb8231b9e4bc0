"""Pipeline stages of the model: slices of `Model.parts`, and the counts of their experts' loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import refuse
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.transformer import Losses, Model
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.calibration.parallel.mailbox import MessageForm
from hwprofiles.calibration.parallel.order import Order
from hwprofiles.calibration.parallel.pipeline import Pipeline
from hwprofiles.problem import Problem


class Stage(nn.Module):
    """Consecutive parts of a model; parameters have the names that they have in it.

    The last stage has the head and the MTP modules, and borrows the embedding where it needs it (MTP modules, tied embeddings).
    parts: by number, the borrowed one among them.
    """

    def __init__(self, model: Model, numbers: range, mtp_weight: float) -> None:
        super().__init__()
        self.numbers, self.is_last, self.mtp_weight = numbers, numbers.stop == len(model.parts), mtp_weight
        self.parts = nn.ModuleDict({str(number): model.parts[number] for number in _held(model.config, numbers)})
        self._run = model.run  # no module of this one's: the model has the other stages of the rank too

    def forward(self, x: Tensor | None, tokens: Tensor) -> Tensor:
        """x (b, s, h), None in the first stage; tokens as `Model.forward` takes them: (b, s, h), of the last stage its loss."""
        x, losses = self._run(self.numbers.start, self.numbers.stop, x, tokens)
        if self.is_last:
            return Losses(losses[0], losses[1:]).total(self.mtp_weight)
        assert x is not None
        return x


def parts_of_stages(config: ModelConfig, num_stages: int, layers_per_stage: Sequence[int] | None = None) -> list[range]:
    """The parts of each stage: layers as given, 0 allowed (None: evenly, the first stages one more where they do not divide);
    the embedding with the first, head and MTP modules with the last.

    Raises CalibrationError: another number of stages or layers than there are.
    """
    num_layers = len(config.layers)
    if layers_per_stage is None:
        each, left = divmod(num_layers, num_stages)
        layers_per_stage = [each + (stage < left) for stage in range(num_stages)]
    counts = list(layers_per_stage)
    given = f"is {', '.join(map(str, counts))}"
    if len(counts) != num_stages:
        refuse([Problem("", "layers_per_stage", f"{given}: {len(counts)} stages; the schedule has {num_stages}")])
    if sum(counts) != num_layers or min(counts) < 0:
        told = f"{given}: {sum(counts)} layers; the model has {num_layers}" + ", none less than 0" * (min(counts) < 0)
        refuse([Problem("", "layers_per_stage", told)])
    ends = [1 + sum(counts[: stage + 1]) for stage in range(num_stages)]
    ends[-1] = num_layers + 2 + config.num_mtp
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def build_stages(
    config: ModelConfig, numerics: Numerics, order: Order, rank: int, *, layers_per_stage: Sequence[int] | None = None,
    mtp_weight: float = 0.3, **options: Any,
) -> dict[int, Stage]:  # fmt: skip
    """The stages of one rank of a schedule, with the first weights that `Model` has.

    options: of `Model` (recompute, balancing, dispatcher, seed, device). The whole model is made, and what other ranks have is
    dropped. Raises CalibrationError as `parts_of_stages`.
    """
    numbers = parts_of_stages(config, order.num_stages, layers_per_stage)
    model = Model(config, numerics, **options)
    stages = {stage: Stage(model, numbers[stage], mtp_weight) for stage in order.placement[rank]}
    held = {number for stage in stages.values() for number in stage.parts}
    for number in range(len(model.parts)):
        if str(number) not in held:
            model.parts[number] = nn.Identity()
    return stages


def message_form(
    config: ModelConfig, numerics: Numerics, tokens: Tensor, device: torch.device | str = "cpu"
) -> MessageForm:
    """Of micro-batches like tokens (b, s + 1 + num_mtp)."""
    sequences, length = tokens.shape
    shape = (sequences, length - 1 - config.num_mtp, config.hidden_size)
    return MessageForm(shape, numerics.dtype, torch.device(device))


def take_loads(pipeline: Pipeline) -> dict[str, Tensor]:
    """Rows of each expert (e,) since the last call, by the name of the layer: of this rank's layers, copies on other ranks
    counted with them. Every rank calls it, after a step.
    """
    layers = _moe_layers(pipeline)
    loads = pipeline.summed({f"{name}.loads": layer.take_loads() for name, layer in layers.items()})
    return {name: loads[f"{name}.loads"] for name in layers}


def update_biases(pipeline: Pipeline) -> dict[str, Tensor]:
    """Moves the biases of this rank's routers by the loads since the last call, which it gives; copies move alike."""
    loads = take_loads(pipeline)
    for name, layer in _moe_layers(pipeline).items():
        layer.update_bias(loads[name])
    return loads


def _moe_layers(pipeline: Pipeline) -> dict[str, MoeLayer]:
    return {
        name: module
        for stage in pipeline.stages.values()
        for name, module in stage.named_modules()
        if isinstance(module, MoeLayer)
    }


def _held(config: ModelConfig, numbers: range) -> list[int]:
    is_last = numbers.stop == len(config.layers) + 2 + config.num_mtp
    borrows = is_last and 0 not in numbers and (config.num_mtp > 0 or config.tied_embeddings)
    return [0, *numbers] if borrows else list(numbers)
