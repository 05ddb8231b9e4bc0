"""`python -m tests.hwprofiles.model.counting_table` prints the table of docs/model.md, section Counting; runs of its cases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from hwprofiles.calibration.counting.flop import Pass, Products
from hwprofiles.calibration.counting.kept import Allocated, Kept, saved_by, total_bytes
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.blockwise import EmulatedBlockwise
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.numerics import Numerics, Plain
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.units import MEGA
from tests.hwprofiles.model.counting_cases import BATCH, CASES, FP8_CASES, SEQ, VOCAB, Case, kept_bytes

PASSES: tuple[Pass, ...] = ("F", "I", "W", "R")
BY_NAME = {case.name: case for case in CASES}
FP8_BY_NAME = {case.name: case for case in FP8_CASES}
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
def run(name: str) -> Run:
    """Of a case by name, in native BF16."""
    return _run(BY_NAME[name], numerics("bf16", gemms="library"))


@cache
def run_fp8(name: str) -> Run:
    """Of an FP8 case by name: products emulated, all other tensors in native BF16, as on a GPU."""
    return _run(FP8_BY_NAME[name], Fp8("fp8-blockwise", EmulatedBlockwise(), Plain("bf16", torch.bfloat16)))


def _run(case: Case, formats: Numerics) -> Run:
    config = ModelConfig.of(case.values)
    model = Model(config, formats, recompute=case.recompute)
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
