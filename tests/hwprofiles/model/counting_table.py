"""`python -m tests.hwprofiles.model.counting_table` prints the table of docs/model.md, section Counting; runs of its cases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from hwprofiles.calibration.counting.flop import Pass, Products
from hwprofiles.calibration.counting.kept import Allocated, Kept, saved_by, total_bytes
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import Gemms, numerics
from hwprofiles.units import MEGA
from tests.hwprofiles.model.counting_cases import BATCH, CASES, SEQ, VOCAB, kept_bytes

PASSES: tuple[Pass, ...] = ("F", "I", "W", "R")
BY_NAME = {case.name: case for case in CASES}
HEAD = (
    "| configuration | forward | backward | again | kept: torch | simulator | more |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
)


@dataclass(frozen=True)
class Run:
    """Of one forward and backward: the products, what autograd kept between them, and all bytes that lived then."""

    products: Products
    kept: list[Kept]
    living: int


@cache
def run(name: str, recipe: str = "bf16", gemms: Gemms = "library") -> Run:
    """Of a case by name, in a recipe."""
    case = BY_NAME[name]
    config = ModelConfig.of(case.values)
    model = Model(config, numerics(recipe, gemms=gemms), recompute=case.recompute)
    for layer in model.layers:
        layer.attention.tables(SEQ, torch.device("cpu"))  # rope's, made once a process and not a micro-batch's
    tokens = torch.randint(VOCAB, (BATCH, SEQ + 1 + config.num_mtp), generator=torch.Generator().manual_seed(1))
    with Products(model) as products:
        with Allocated() as allocated, saved_by(model, (tokens,)) as saved:
            loss = model(tokens).total()
        kept, living = saved.kept(), allocated.living_bytes()
        loss.backward()
    return Run(products, kept, living)


def table() -> list[str]:
    """Lines of Markdown: FLOP of all products of layers by pass, in millions; kept bytes."""
    return [*HEAD, *(_row(name) for name in BY_NAME)]


def _row(name: str) -> str:
    measured, expected = run(name), sum(size for _, size in kept_bytes(BY_NAME[name]))
    forward, inputs, weights, again = (measured.products.flop(phase) / MEGA for phase in PASSES)
    flop = (f"{each:,.1f}" for each in (forward, inputs + weights, again))
    kept = total_bytes(measured.kept)
    return f"| {name} | {' | '.join(flop)} | {kept:,} | {expected:,} | {kept / expected - 1:.1%} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(*table(), sep="\n")
