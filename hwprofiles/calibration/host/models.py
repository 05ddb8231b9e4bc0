"""Small models whose layers are alike: what a layer of each kind takes the host, among others, forward and backward.

Their functions call what those of a large model call, on tensors so small that the device is never behind. Loads of experts are
forced and routers do not look for NaN, so that the host waits for nothing. Gradients are dropped before each sample. Models
take turns: a host is slower for some seconds and faster for others (what else runs on a core makes it 1.5 times as slow), and
so all models see the same of it; for the same reason their seconds are means of the middle half, which nearly add up.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from statistics import fmean, median
from typing import Final

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.host.core import WARM_UP, HostRow, synchronise
from hwprofiles.calibration.measuring import sleep
from hwprofiles.calibration.model.config import Ffn, Gqa, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.proof.forced import forced, without_looks
from hwprofiles.hosts.torch_model import CHUNK, CHUNKS, FEW_EXPERTS, LAYERS, MANY_EXPERTS, RECIPES
from hwprofiles.proof_cases.sizes import even

CALL: Final = "torch_model"
HIDDEN: Final = 512
VOCABULARY: Final = 256
WAIT_S: Final = 0.05
"""As long as a step's backward keeps the device, about: what a core holds of the code is another thread's by then."""

_GQA: Final = Gqa(8, 2, 64)
_LATENT: Final = Mla(8, 0, 128, 64, 32, 64)
_DENSE: Final = Ffn(1024)
_EXPERTS: Final = Moe(num_experts=FEW_EXPERTS, top_k=4, expert=Ffn(256))
_SHARED: Final = replace(_EXPERTS, num_shared=1)
_ALONE: Final = ("rmsnorm", "swiglu", "mla_up_proj")


@dataclass(frozen=True)
class Small:
    """A model of alike layers. chunks: of its tokens; recompute: its modules; is_fresh: weights are new in each sample;
    waits: the host waits for the device before.
    """

    layer: Layer
    chunks: int = 1
    recompute: tuple[str, ...] = field(default=())
    is_fresh: bool = False
    waits: bool = False


SMALL: Final[Mapping[str, Small]] = {
    "one": Small(Layer(_GQA, _DENSE)),
    "one_longer": Small(Layer(_GQA, _DENSE), chunks=CHUNKS),
    "waited": Small(Layer(_GQA, _DENSE), waits=True),
    "dense": Small(Layer(_GQA, _DENSE)),
    "weight": Small(Layer(_GQA, _DENSE), is_fresh=True),
    "experts": Small(Layer(_GQA, _EXPERTS)),
    "more_experts": Small(Layer(_GQA, replace(_EXPERTS, num_experts=MANY_EXPERTS))),
    "shared": Small(Layer(_GQA, _SHARED)),
    "again": Small(Layer(_GQA, _SHARED), recompute=("layer",)),
    "latent_q": Small(Layer(replace(_LATENT, q_lora_rank=256), _DENSE)),
    "latent": Small(Layer(_LATENT, _DENSE)),
    "qk_norm": Small(Layer(replace(_GQA, qk_norm=True), _DENSE)),
    "biased": Small(Layer(_GQA, replace(_EXPERTS, score="sigmoid", has_bias=True))),
    "parts_again": Small(Layer(_GQA, _SHARED), recompute=_ALONE),
}
"""Small model of hwprofiles/hosts/torch_model.py → what it is of, in the order of its worth."""


def names(recipe: str) -> tuple[str, ...]:
    """Small models of a recipe."""
    return tuple(name for name, small in SMALL.items() if not small.is_fresh or recipe != "bf16")


class Turns:
    """Every small model of these recipes, as far as the device has them, a sample each in a round."""

    def __init__(self, device: torch.device, recipes: Iterable[str] = RECIPES) -> None:
        self.runs = [
            _Run(name, SMALL[name], recipe, device)
            for recipe in recipes
            if _has(recipe, device)
            for name in names(recipe)
        ]
        self.found: list[list[tuple[float, float, float, float]]] = [[] for _ in self.runs]
        for run in self.runs:
            for _ in range(WARM_UP):
                run.sample()

    def round(self) -> None:
        """A sample of each."""
        for run, found in zip(self.runs, self.found, strict=True):
            found.append(run.sample())

    def rows(self) -> Iterator[HostRow]:
        """Of every model, forward and backward, behind at least one round."""
        for run, found in zip(self.runs, self.found, strict=True):
            for phase, issue, wait in (("forward", 0, 1), ("backward", 2, 3)):
                mean, low, high = trimmed([each[issue] for each in found])
                waited = median(each[wait] for each in found)
                yield HostRow(CALL, f"{run.name} {run.recipe}", phase, 1, mean, low, high, waited, 0.0, 0.0)


def rows(device: torch.device, samples: int) -> Iterator[HostRow]:
    """Of every small model in each recipe that the device has, so many samples one behind another."""
    turns = Turns(device)
    for _ in range(samples):
        turns.round()
    yield from turns.rows()


def trimmed(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the middle half, and the ends of the middle 80 %."""
    ordered, tenth, quarter = sorted(seconds), len(seconds) // 10, len(seconds) // 4
    return fmean(ordered[quarter : len(ordered) - quarter]), ordered[tenth], ordered[-1 - tenth]


def _has(recipe: str, device: torch.device) -> bool:
    """Whether the device has a recipe's products; a CPU emulates all."""
    try:
        numerics(recipe, device, "library" if device.type == "cuda" else "auto")
    except CalibrationError:
        return False
    return True


@dataclass
class _Run:
    """A small model, built when it first runs."""

    name: str
    small: Small
    recipe: str
    device: torch.device

    @cached_property
    def built(self) -> tuple[Model, Tensor]:
        """The model and its tokens."""
        formats, length = numerics(self.recipe, self.device), CHUNK * self.small.chunks
        config = ModelConfig(CALL, HIDDEN, VOCABULARY, layers=(self.small.layer,) * LAYERS[self.name])
        model = Model(config, formats, recompute=self.small.recompute, device=self.device)
        for part in model.modules():
            if isinstance(part, MoeLayer):
                rows = even(length * part.config.top_k, part.config.num_experts)
                part.dispatcher = forced(rows, length, formats, self.device)
        without_looks(model)
        generator = torch.Generator().manual_seed(0)
        return model, torch.randint(VOCABULARY, (1, length + 1), generator=generator).to(self.device)

    def ready(self) -> None:
        """Before a forward."""
        weights = list(self.built[0].parameters())
        for weight in weights:
            weight.grad = None
        if self.small.is_fresh:
            increment_version(weights)
        if self.small.waits and self.device.type == "cuda":
            sleep(WAIT_S)

    def forward(self) -> Tensor:
        """The loss."""
        model, tokens = self.built
        loss: Tensor = model(tokens).total() / 1
        return loss

    def sample(self) -> tuple[float, float, float, float]:
        """Seconds until a forward has been issued, and until the device has done it then; of a backward likewise."""
        self.ready()
        gc.collect(0)
        gc.disable()
        synchronise(self.device)
        moments = [time.perf_counter()]
        loss = self.forward()
        self._mark(moments)
        loss.backward()
        self._mark(moments)
        gc.enable()
        a, b, c, d = (after - before for before, after in pairwise(moments))
        return a, b, c, d

    def _mark(self, moments: list[float]) -> None:
        """Now, and when the device is done."""
        moments.append(time.perf_counter())
        synchronise(self.device)
        moments.append(time.perf_counter())
