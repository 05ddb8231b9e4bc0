"""Expert-parallel layers and models of all ranks: plain and with two micro-batches overlapped, even and skewed loads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.machine.ranks import Rank
from hwprofiles.calibration.model.config import Ffn, Gqa, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.router import Routing
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel import overlap
from hwprofiles.calibration.parallel.expert_dispatch import Dispatching, ExpertDispatch
from hwprofiles.calibration.parallel.groups import expert_group
from hwprofiles.calibration.parallel.wire import Wire
from hwprofiles.calibration.proof.forced import experts_of, without_looks
from hwprofiles.calibration.several.timing import device_of, once, timed
from hwprofiles.proof_cases.sizes import even, skewed

WIRES: Final[tuple[Wire, ...]] = ("bf16", "fp8")
LOADS: Final = ("even", "skewed")


@dataclass(frozen=True)
class Sizes:
    """experts: of a rank; tokens: of a rank's micro-batch."""

    hidden: int
    tokens: int
    experts: int
    moe: Moe
    attention: Mla | Gqa
    layers: int = 4
    micro_batches: int = 4
    vocabulary: int = 8192


LARGE: Final = Sizes(4096, 4096, 16, Moe(1, 8, Ffn(1536), num_shared=1), Gqa(32, 8, 128))
TINY: Final = Sizes(64, 8, 4, Moe(1, 2, Ffn(16), num_shared=1), Gqa(2, 1, 32), layers=2, micro_batches=2, vocabulary=64)


class Sent(ExpertDispatch):
    """ExpertDispatch with loads that are given: the router's choice is not looked at."""

    def __init__(self, group: Any, wire: Wire, experts: Tensor) -> None:
        super().__init__(group, wire)
        self.experts = experts

    def start_dispatch(self, x: Tensor, routing: Routing) -> Dispatching:
        return super().start_dispatch(x, replace(routing, experts=self.experts))


def _sizes(place: Rank) -> Sizes:
    return TINY if place.is_tiny else LARGE


def _config(place: Rank, sizes: Sizes) -> ModelConfig:
    moe = replace(sizes.moe, num_experts=sizes.experts * place.world)
    return ModelConfig("several", sizes.hidden, sizes.vocabulary, (Layer(sizes.attention, moe),) * sizes.layers)


def _dispatcher(place: Rank, sizes: Sizes, wire: Wire, load: str) -> Sent:
    num_experts, rows = sizes.experts * place.world, sizes.tokens * sizes.moe.top_k
    counts = even(rows, num_experts) if load == "even" else skewed(rows, num_experts, sizes.tokens)
    return Sent(expert_group(num_experts, place.world), wire, experts_of(counts, sizes.tokens).to(device_of(place)))


def layer_rows(place: Rank, done: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """One layer of experts: forward, backward."""
    sizes, device = _sizes(place), device_of(place)
    config = _config(place, sizes)
    moe = config.layers[0].ffn
    assert isinstance(moe, Moe)
    draw = torch.Generator().manual_seed(place.rank)
    x = torch.randn(1, sizes.tokens, sizes.hidden, generator=draw).bfloat16().to(device)
    formats = numerics("bf16", device, "library")
    for wire, load in product(WIRES, LOADS):
        if (name := f"layer {wire} {load}") in done:
            continue
        with torch.device(device):
            layer = MoeLayer(moe, sizes.hidden, formats, dispatcher=_dispatcher(place, sizes, wire, load))
        initialise(layer, config.init_std, seed=1)
        without_looks(layer)
        step = _passes(layer, x.detach().requires_grad_(), torch.randn_like(x))
        found = timed(place, step, ("forward", "backward"))
        yield {"name": name, "way": "layer", "wire": wire, "load": load, "tokens": sizes.tokens, **found}
        del layer, step


def _passes(layer: MoeLayer, x: Tensor, grad: Tensor) -> Any:
    weights = [weight for weight in layer.parameters() if weight.requires_grad]

    def step(mark: Callable[[], Any]) -> list[Any]:
        begin = mark()
        out = layer(x)
        forward = mark()
        torch.autograd.grad(out, (x, *weights), grad, allow_unused=True)
        return [begin, forward, mark()]

    return step


def model_rows(place: Rank, done: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """A model of a few such layers: a step of several micro-batches one behind another, and two at a time."""
    sizes, device = _sizes(place), device_of(place)
    config = _config(place, sizes)
    shape = (sizes.micro_batches, 1, sizes.tokens + 1)
    tokens = torch.randint(sizes.vocabulary, shape, generator=torch.Generator().manual_seed(place.rank)).to(device)
    for wire, load in product(WIRES, LOADS):
        dispatcher = _dispatcher(place, sizes, wire, load)
        model = Model(config, numerics("bf16", device, "library"), dispatcher=dispatcher, device=device)
        without_looks(model)
        for way, call in _ways(model, tokens).items():
            if (name := f"model {wire} {load} {way}") not in done:
                found = timed(place, once(call))
                yield {
                    "name": name, "way": way, "wire": wire, "load": load, "tokens": sizes.tokens,
                    "micro_batches": sizes.micro_batches, **found,
                }  # fmt: skip
        del model


def _ways(model: Model, tokens: Tensor) -> dict[str, Callable[[], None]]:
    def plain() -> None:
        model.zero_grad(set_to_none=True)
        for batch in tokens:
            model(batch).total().backward()

    def paired() -> None:
        model.zero_grad(set_to_none=True)
        overlap.train(model, tokens)

    return {"plain": plain, "paired": paired}
