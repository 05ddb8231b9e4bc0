"""Kernels of some layers and of an optimizer step, to look at: `python -m hwprofiles.calibration.proof profile -o FILE.csv`."""

from __future__ import annotations

import csv
import gc
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from hwprofiles.calibration.command import write_whole
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.optimizer import AdamW
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.proof.kernels_seen import seen
from hwprofiles.calibration.proof.layers import build
from hwprofiles.calibration.proof.weights_alone import WeightsAlone
from hwprofiles.proof_cases.layer_cases import BOTH, LayerCase, development, small
from hwprofiles.proof_cases.sizes import gqa, mla, model, moe

COLUMNS: Final = ("configuration", "pass", "order", "kernel", "operator", "count", "microseconds")
WARM_UP: Final = 2
Row = tuple[str, str, int, str, str, int, str]


def profile_all(device: torch.device, out: Path, say: Callable[[str], None]) -> int:
    """Writes the table, again behind every configuration, so that what was seen stays. Exit code 0.

    A configuration that fails is a row that says why.
    """
    rows: list[Row] = []
    cases: Sequence[LayerCase] = list(small() if device.type == "cpu" else development())
    works: list[tuple[str, Callable[[], Iterator[Row]]]] = [(case.name, _layer(case, device)) for case in cases]
    works += [(f"step {recipe}", _step(recipe, device)) for recipe in BOTH]
    for name, work in works:
        say(name)
        try:
            rows += list(work())
        except (RuntimeError, CalibrationError) as wrong:
            rows.append((name, "failed", 0, "", " ".join(str(wrong).split())[:300], 0, "0"))
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _write(out, rows)
    return 0


def _write(out: Path, rows: Sequence[Row]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    write_whole(out, table.getvalue())


def _rows(name: str, phase: str, call: Callable[[], Any], device: torch.device) -> Iterator[Row]:
    for order, one in enumerate(seen(call, device)):
        yield name, phase, order, one.kernel, one.operator, one.count, f"{one.us:.2f}"


def _layer(case: LayerCase, device: torch.device) -> Callable[[], Iterator[Row]]:
    def work() -> Iterator[Row]:
        built = build(case, device)
        for phase, frozen in (("F", False), ("B", False), ("I", True)):
            built.freeze(frozen)
            for _ in range(WARM_UP):
                built.backward(built.forward())
            if phase == "F":
                yield from _rows(case.name, phase, built.forward, device)
                continue
            out = built.forward()
            yield from _rows(case.name, phase, lambda kept=out: built.backward(kept), device)  # type: ignore[misc]
        alone = WeightsAlone(built.module, built.forward)
        for _ in range(WARM_UP):
            grads = alone.forward()
            alone.backward(grads)
        grads = alone.forward()
        yield from _rows(case.name, "W", lambda: alone.backward(grads), device)

    return work


def _step(recipe: str, device: torch.device) -> Callable[[], Iterator[Row]]:
    """A whole model with everything in it: forward, backward, a second backward that adds, optimizer."""

    def work() -> Iterator[Row]:
        config, tokens = _model(device), 64 if device.type == "cpu" else 2048
        net = Model(config, numerics(recipe, device), device=device)
        optimizer = AdamW(net.parameters())
        given = torch.randint(config.vocab_size, (1, tokens + 1 + config.num_mtp)).to(device)
        for _ in range(WARM_UP):
            net(given).total().backward()
            optimizer.step()
            optimizer.zero_grad()
        kept: list[Any] = []
        name = f"step {recipe}"
        for micro in ("first", "second"):
            yield from _rows(name, f"F {micro}", lambda: kept.append(net(given).total()), device)
            yield from _rows(name, f"B {micro}", lambda: kept.pop().backward(), device)
        yield from _rows(name, "optimizer", optimizer.step, device)
        optimizer.zero_grad()

    return work


def _model(device: torch.device) -> ModelConfig:
    if device.type == "cpu":
        values = model(
            "tiny", 128, gqa(4, 2, 32), layers=2, dense=1, dense_width=128, experts=moe(4, 2, 128, shared=1), vocab=256,
            num_mtp=1,
        )  # fmt: skip
    else:
        values = model(
            "small", 1280, mla(10, 512), layers=2, dense=1, dense_width=3584,
            experts=moe(16, 4, 768, shared=1, score="sigmoid"), vocab=32_000, num_mtp=1,
        )  # fmt: skip
    return ModelConfig.of(values)
