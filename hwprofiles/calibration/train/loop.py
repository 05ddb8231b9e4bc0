"""One run: micro-batches, AdamW with warm-up, and after each step the update of the bias; records losses and loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.optimizer import AdamW, clip
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.calibration.numerics.recipes import Gemms, numerics
from hwprofiles.calibration.train.figures import Record
from hwprofiles.calibration.train.settings import Run, Training
from hwprofiles.calibration.train.text import Windows, language_reference

Loads = tuple[tuple[int, ...], ...]
"""[layer][expert] of a step."""
Tell = Callable[[int, float, float, Sequence[Sequence[int]]], None]
"""Is told of each step: its number from 1, main and MTP loss, loads by layer and expert."""


def formats(run: Run, device: torch.device) -> Numerics:
    """On a GPU its own formats, on a CPU emulated ones. Raises CalibrationError where the GPU has not what the run needs."""
    by_device: Gemms = "library" if device.type == "cuda" else "emulated"
    made = numerics(run.recipe, device, "own" if run.gemms == "own" else by_device)
    if isinstance(made, Fp8):
        made.adds_gradients = run.gemms == "own"
    return made


def train(config: ModelConfig, run: Run, training: Training, device: torch.device, tell: Tell) -> Record:
    """Trains a fresh model. The same arguments, device and threads give the same record.

    Raises CalibrationError: a recipe that the device has not, a loss that is not finite.
    """
    balancing = Balancing(run.rule, bias_rate=training.bias_rate, sequence_weight=training.sequence_weight)
    model = Model(config, formats(run, device), balancing=balancing, seed=training.seed, device=device)
    optimizer = AdamW(model.parameters())
    windows = Windows(language_reference(), training.seq_len + 1 + config.num_mtp, training.seed)
    moes = [module for module in model.modules() if isinstance(module, MoeLayer)]
    for moe in moes:
        moe.loss_scale = 1.0 / training.micro_batches
    steps: list[tuple[float, float, Loads]] = []
    for step in range(training.steps):
        main, mtp = _gradients(model, windows, training, device)
        if not main + mtp < float("inf"):
            raise CalibrationError(f"the loss of step {step + 1} is {main}: this run has diverged")
        clip(optimizer.parameters, training.clip)
        optimizer.step(training.rate(step))
        optimizer.zero_grad()
        loads = _balance(moes)
        steps.append((main, mtp, loads))
        tell(step + 1, *steps[-1])
    mains, mtps, all_loads = zip(*steps, strict=True)
    return Record(mains, mtps, all_loads)


def _gradients(model: Model, windows: Windows, training: Training, device: torch.device) -> tuple[float, float]:
    """Adds a step's gradients up; mean main and MTP loss of its micro-batches."""
    total = torch.zeros(2, dtype=torch.float64)
    for _ in range(training.micro_batches):
        losses = model(windows.take(training.sequences).to(device))
        (losses.total(training.mtp_weight) / training.micro_batches).backward()
        total += torch.stack([losses.main, torch.stack(losses.mtp).mean()]).detach().double().cpu()
    main, mtp = (total / training.micro_batches).tolist()
    return main, mtp


def _balance(moes: Sequence[MoeLayer]) -> Loads:
    """Moves every layer's bias by the loads of the step that has ended, and gives these loads."""
    taken = [moe.take_loads() for moe in moes]
    for moe, loads in zip(moes, taken, strict=True):
        moe.update_bias(loads)
    return tuple(tuple(loads.tolist()) for loads in taken)
