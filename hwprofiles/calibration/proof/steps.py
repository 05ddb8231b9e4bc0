"""Times training steps of whole models, eager and by a CUDA graph."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.host.models import trimmed
from hwprofiles.calibration.measuring import Clock
from hwprofiles.calibration.model.config import ModelConfig, Moe
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.optimizer import AdamW
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.proof.forced import forced, without_looks
from hwprofiles.calibration.proof.layers import SEED, formats_of
from hwprofiles.proof_cases.sizes import even, in_words
from hwprofiles.proof_cases.step_cases import StepCase

CALLS: Final = 15
WARM_UP: Final = 3
PARTS: Final = ("forward", "backward", "optimizer", "step")
COLUMNS: Final[Mapping[str, str]] = {
    "name": "of the steps in hwprofiles/proof_cases/step_cases.py",
    "model": "its name there",
    "recipe": "number formats (hwprofiles/calibration/numerics), own: by this project's products",
    "issue": "eager: the host launches every kernel; graph: one CUDA graph holds forward, backward and optimizer",
    "micro_batches": "of a step", "sequences": "of a micro-batch", "tokens": "of a sequence, those that are read",
    "recompute": "modules that the backward computes again",
    "parameters": "of the model",
    "forward_s": "of all micro-batches, mean of the middle half by CUDA events; of a graph the whole step alone is timed",
    "forward_low_s": "low end of the middle 80 %",
    "forward_high_s": "its high end",
    "backward_s": "of all micro-batches, modules computed again included",
    "backward_low_s": "low end",
    "backward_high_s": "high end",
    "optimizer_s": "AdamW of every parameter, gradients dropped",
    "optimizer_low_s": "low end",
    "optimizer_high_s": "high end",
    "step_s": "from the first forward to the optimizer's end",
    "step_low_s": "low end",
    "step_high_s": "high end",
    "step_median_s": "of all of them",
    "calls": "timed, behind 3",
    "peak_bytes": "most memory that torch had allocated during the steps",
    "start_bytes": "what it had allocated between two steps",
    "clock_hz": "of the SMs at the end",
    "note": "why there is no time",
}  # fmt: skip


@dataclass
class Training:
    """A model, its optimizer and the tokens of a step's micro-batches."""

    model: Model
    optimizer: AdamW
    batches: list[Tensor]

    def forward(self, tokens: Tensor) -> Tensor:
        """The loss of a micro-batch, its share of the step's."""
        return self.model(tokens).total() / len(self.batches)

    def update(self) -> None:
        """The optimizer; gradients are dropped."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def step(self, mark: Callable[[], Any]) -> list[Any]:
        """One step; moments before the first forward, behind each forward and backward, and behind the optimizer."""
        moments = [mark()]
        for tokens in self.batches:
            loss = self.forward(tokens)
            moments.append(mark())
            loss.backward()
            moments.append(mark())
        self.update()
        return [*moments, mark()]


def build(case: StepCase, device: torch.device) -> Training:
    """First weights, random tokens, even loads; nothing in a step waits for the GPU. Raises as `layers.build`."""
    config, formats = ModelConfig.of(case.values), formats_of(case.recipe, device, case.products)
    if isinstance(formats, Fp8):  # as training has it: nothing here looks at gradients
        formats.adds_gradients = case.products == "own"
    model = Model(config, formats, recompute=case.recompute, device=device)
    tokens = case.tokens * case.sequences
    for part in model.modules():
        if isinstance(part, MoeLayer):
            part.dispatcher = _even(part.config, tokens, formats, device)
            part.loss_scale = 1 / case.micro_batches
    without_looks(model)
    generator = torch.Generator().manual_seed(SEED)
    shape = (case.micro_batches, case.sequences, case.tokens + 1 + config.num_mtp)
    batches = list(torch.randint(config.vocab_size, shape, generator=generator).to(device))
    return Training(model, AdamW(model.parameters()), batches)


def _even(config: Moe, tokens: int, formats: Any, device: torch.device) -> Any:
    return forced(even(tokens * config.top_k, config.num_experts), tokens, formats, device)


def row_of(case: StepCase, device: torch.device, clock_hz: Any) -> Mapping[str, Any]:
    """One row. Raises CalibrationError, or what torch raises: no memory, an operation that no graph holds."""
    calls, warm_up = (CALLS, WARM_UP) if device.type == "cuda" else (2, 1)
    beside = _allocated(device) or 0
    training, clock = build(case, device), Clock(device)
    is_cuda = device.type == "cuda"
    if case.issue == "graph":
        spans, peak, start = _by_graph(training, clock, calls, warm_up)
    else:
        for _ in range(warm_up):
            training.step(clock.mark)
        start = _allocated(device)
        if is_cuda:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        spans = []
        for _ in range(calls):
            with without_collection():
                spans.append(_parts(training.step(clock.mark), clock))
        peak = torch.cuda.max_memory_allocated(device) if is_cuda else ""
    row: dict[str, Any] = {
        "name": case.name, "model": case.values["name"], "recipe": in_words(case.recipe, case.products), "issue": case.issue,
        "micro_batches": case.micro_batches, "sequences": case.sequences, "tokens": case.tokens,
        "recompute": "+".join(case.recompute), "parameters": sum(p.numel() for p in training.model.parameters()),
        "calls": calls, "peak_bytes": peak and peak - beside, "start_bytes": start and start - beside, "clock_hz": clock_hz(),
    }  # fmt: skip
    for part in PARTS:
        if found := [span[part] for span in spans if part in span]:
            row |= dict(zip((f"{part}_s", f"{part}_low_s", f"{part}_high_s"), trimmed(found), strict=True))
    return {**row, "step_median_s": median(span["step"] for span in spans)}


@contextmanager
def without_collection() -> Iterator[None]:
    """Within, Python looks for no garbage; before, it does: as training programs have it, and as the host's calls are timed."""
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _allocated(device: torch.device) -> Any:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else ""


def _parts(moments: list[Any], clock: Clock) -> dict[str, float]:
    between = [clock.between(before, behind) for before, behind in pairwise(moments)]
    return {
        "forward": sum(between[0:-1:2]), "backward": sum(between[1:-1:2]), "optimizer": between[-1],
        "step": clock.between(moments[0], moments[-1]),
    }  # fmt: skip


def _by_graph(training: Training, clock: Clock, calls: int, warm_up: int) -> tuple[list[dict[str, float]], Any, Any]:
    """(seconds of steps, peak bytes, bytes at the start). Without a GPU the steps run as they are: a rehearsal."""
    device = clock.device
    if device.type != "cuda":
        return [{"step": _parts(training.step(clock.mark), clock)["step"]} for _ in range(calls)], "", ""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(warm_up):
            training.step(lambda: None)
    torch.cuda.current_stream(device).wait_stream(side)
    torch.cuda.synchronize(device)
    start = _allocated(device)
    torch.cuda.empty_cache()  # a graph has memory of its own
    torch.cuda.reset_peak_memory_stats(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training.step(lambda: None)
    spans = []
    for number in range(warm_up + calls):
        begin = clock.mark()
        graph.replay()
        seconds = clock.between(begin, clock.mark())
        spans += [{"step": seconds}] if number >= warm_up else []
    peak = torch.cuda.max_memory_allocated(device)
    graph.reset()
    return spans, peak, start
