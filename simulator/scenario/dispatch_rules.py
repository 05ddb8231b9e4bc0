"""What stands against a dispatcher, and what of its keys does not act."""

from __future__ import annotations

from collections.abc import Iterator

from hwprofiles.schema import Gpu
from simulator.scenario import derived
from simulator.scenario.dispatchers import DISPATCHERS
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem


def dispatcher_problems(scenario: Scenario, gpu: Gpu) -> Iterator[FieldProblem]:
    """A library that the GPU cannot run."""
    if scenario.model.moe is None or scenario.moe.dispatcher not in DISPATCHERS:
        return
    families = derived.dispatcher(scenario).families
    if families and gpu.family not in families:
        able = (
            name for name in DISPATCHERS if not DISPATCHERS[name].families or gpu.family in DISPATCHERS[name].families
        )
        text = f"{scenario.moe.dispatcher} runs on GPUs of {' and '.join(families)}, but {gpu.name} is of {gpu.family}"
        yield "moe.dispatcher", f"{text}; use {', '.join(able)}"


def dispatcher_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys without meaning where no token leaves its GPU, and number formats that a library does not send."""
    if scenario.model.moe is None or scenario.moe.dispatcher not in DISPATCHERS:
        return
    if scenario.parallel.ep == 1:
        if scenario.is_given("moe.dispatcher"):
            yield "moe.dispatcher", "has no meaning with ep 1: every GPU has all experts"
        return
    if derived.dispatcher(scenario).sends_fp8:
        return
    for key in ("dispatch_dtype", "combine_dtype"):
        if getattr(scenario.moe, key) == "fp8":
            text = f"fp8, which {scenario.moe.dispatcher} ({derived.dispatcher(scenario).what}) is not known to send"
            yield f"moe.{key}", f"{text}; it is computed as if it did; bf16 is usual"
