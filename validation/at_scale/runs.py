"""The variants of a published run that differ in kernels, and what each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator import load_scenario, simulate_run
from simulator.results.document import to_document
from validation.at_scale.stacks import at_the_limit, with_library_products, with_own_kernels

PRESET: Final = "deepseek-v3"
BASE: Final = "h800-deepseek-2024"
"""Kernels of the training's own trace, and what else of its machines was published."""
MEASURED: Final = "h100-measured"
"""Of an H100: the H800's chip; only the links differ."""
NO_WAITING: Final = ("mechanisms.kernel_gaps=false", "mechanisms.sm_partition=false")


@dataclass(frozen=True)
class Variant:
    """stack: makes the folder, None: the preset's own. overrides: as --set takes them."""

    name: str
    what: str
    stack: Callable[[Path], Path] | None = None
    overrides: tuple[str, ...] = ()


def _own(folder: Path) -> Path:
    return with_own_kernels(BASE, MEASURED, folder)


def _library(folder: Path) -> Path:
    return with_library_products(BASE, MEASURED, folder)


def _limit(folder: Path) -> Path:
    return at_the_limit(BASE, folder)


VARIANTS: Final = (
    Variant("training", "kernels of the training's trace of 2024"),
    Variant(
        "library",
        "cuBLAS's products by blocks, a launch an expert, the rest as in training",
        _library,
        ("kernels.grouped_gemm=loop",),
    ),
    Variant("own", "this project's products and their casts, the rest as in training", _own, ("kernels.gemm=moesim",)),
    Variant("limit", "every kernel at the chip's ceilings, within the board's watts", _limit),
    Variant(
        "limit-alone",
        "the same without a limit of watts, gaps between kernels and SMs for communication",
        _limit,
        (*NO_WAITING, "mechanisms.power=false"),
    ),
)

COLUMNS: Final = (
    "variant", "what", "step_s", "low_s", "high_s", "gpu_hours", "cost_usd", "mfu", "bubble_s", "exposed_comm_s", "mean_w",
    "gemm_s", "expert_gemm_s", "attention_s", "memory_bound_s", "fits",
)  # fmt: skip
SHOWN: Final = ("gemm", "expert_gemm", "attention", "memory_bound")
"""Categories of a step's seconds that are kernels."""


def run(variant: Variant, folder: Path) -> dict[str, Any]:
    """A row of COLUMNS. folder: where its stack may be written. Raises InputError."""
    overrides = list(variant.overrides)
    if variant.stack is not None:
        overrides.append(f"stack={variant.stack(folder / f'h800-{variant.name}')}")
    document = to_document(simulate_run(load_scenario(PRESET, overrides)))
    return {"variant": variant.name, "what": variant.what, **_figures(document)}


def _figures(document: Mapping[str, Any]) -> dict[str, Any]:
    step, totals = document["step"], document["totals"]
    seconds = {entry["category"]: entry["seconds"] for entry in step["by_category"]}
    return {
        "step_s": step["step_s"], "low_s": step["interval"]["low"], "high_s": step["interval"]["high"],
        "gpu_hours": totals["gpu_hours"]["value"], "cost_usd": totals["cost_usd"]["value"],
        "mfu": step["mfu"]["bf16_dense_causal"], "bubble_s": step["bubble_s"], "exposed_comm_s": step["exposed_comm_s"],
        "mean_w": (step.get("power") or {}).get("mean_w", ""), "fits": document["memory"]["fits"],
        **{f"{name}_s": seconds.get(name, 0.0) for name in SHOWN},
    }  # fmt: skip


def rows(folder: Path, names: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Of all variants, or of some."""
    for variant in VARIANTS:
        if not names or variant.name in names:
            yield run(variant, folder)
