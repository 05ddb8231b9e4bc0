"""Pipelines in the orders that are given, and models whose parameters all ranks share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hwprofiles.calibration.machine.ranks import Rank
from hwprofiles.calibration.model.config import Ffn, Gqa, Layer, ModelConfig, Moe
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel.order import read_order
from hwprofiles.calibration.parallel.pipeline import Pipeline
from hwprofiles.calibration.parallel.stages import build_stages, message_form
from hwprofiles.calibration.proof.forced import without_looks
from hwprofiles.calibration.several.timing import device_of, once, timed

LAYERS_OF_STAGE: Final = 2
LARGE: Final = ModelConfig("staged", 2048, 32_000, (Layer(Gqa(16, 4, 128), Moe(8, 2, Ffn(2048))),))
TINY: Final = ModelConfig("staged", 64, 64, (Layer(Gqa(2, 1, 32), Moe(4, 2, Ffn(16))),))
DENSE: Final = ModelConfig("dense", 4096, 32_000, (Layer(Gqa(32, 8, 128), Ffn(14_336)),) * 8)
TINY_DENSE: Final = ModelConfig("dense", 64, 64, (Layer(Gqa(2, 1, 32), Ffn(128)),) * 2)
TOKENS, TINY_TOKENS = 4096, 8


def pipeline_rows(
    place: Rank, done: Collection[str], documents: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """documents: schedules of as many ranks, as `moesim schedule NAME --pp P --micro-batches M --json` prints them."""
    device = device_of(place)
    for document in documents:
        order = read_order(document)
        name = f"pipeline {order.name} {order.num_stages} stages {order.num_micro_batches} micro-batches"
        if name in done:
            continue
        form = TINY if place.is_tiny else LARGE
        layers = form.layers * (LAYERS_OF_STAGE * order.num_stages)
        config = ModelConfig(form.name, form.hidden_size, form.vocab_size, layers)
        formats = numerics("bf16", device, "library")
        stages = build_stages(config, formats, order, place.rank, device=device)
        for stage in stages.values():
            without_looks(stage)
        tokens = TINY_TOKENS if place.is_tiny else TOKENS
        shape = (order.num_micro_batches, 1, tokens + 1)
        draw = torch.Generator().manual_seed(0)
        batches = list(torch.randint(config.vocab_size, shape, generator=draw).to(device))
        pipeline = Pipeline(order, stages, message_form(config, formats, batches[0], device))
        found = timed(place, once(lambda held=pipeline, given=batches: held.step(given)))  # type: ignore[misc]
        yield {
            "name": name, "way": order.name, "stages": order.num_stages, "micro_batches": order.num_micro_batches,
            "tokens": tokens, **found,
        }  # fmt: skip
        del pipeline, stages


def sharded_rows(place: Rank, done: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """A dense model whose layers are gathered where they run (torch's fully_shard), again backward or not."""
    device, config = device_of(place), TINY_DENSE if place.is_tiny else DENSE
    tokens = TINY_TOKENS if place.is_tiny else TOKENS
    mesh = init_device_mesh(place.device, (place.world,))
    draw = torch.Generator().manual_seed(place.rank)
    batch = torch.randint(config.vocab_size, (1, tokens + 1), generator=draw).to(device)
    for reshards, way in ((True, "gathered again"), (False, "kept gathered")):
        if (name := f"sharded, {way}") in done:
            continue
        model = Model(config, numerics("bf16", device, "library"), device=device)
        for part in model.parts:
            fully_shard(part, mesh=mesh, reshard_after_forward=reshards)
        fully_shard(model, mesh=mesh, reshard_after_forward=reshards)
        found = timed(place, _step(model, batch), ("forward", "backward"))
        yield {"name": name, "way": way, "tokens": tokens, "micro_batches": 1, **found}
        del model


def _step(model: Model, batch: torch.Tensor) -> Any:
    def step(mark: Callable[[], Any]) -> list[Any]:
        model.zero_grad(set_to_none=True)
        begin = mark()
        loss = model(batch).total()
        forward = mark()
        loss.backward()
        return [begin, forward, mark()]

    return step
