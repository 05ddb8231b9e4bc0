"""Grouped GEMMs of experts in BF16, three passes, as one launch and as a loop of launches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.kernels.shape import LOOP

Counts = tuple[int, ...]
"""Rows of each expert."""

WEIGHTS: Final = ((4096, 7168), (7168, 2048), (3072, 4096), (4096, 1536), (1536, 2048), (2048, 768), (2816, 2048))
"""(n, k) of an expert's layers: DeepSeek-V3's two, Qwen3-235B-A22B's two, Qwen3-30B-A3B's two, DeepSeek-V2-Lite's first."""
LOADS: Final = (
    (4, 512), (4, 2048), (4, 8192), (8, 128), (8, 1024), (8, 4096), (16, 64), (16, 512), (16, 2048), (32, 32), (32, 256),
    (32, 1024), (64, 64), (64, 512), (128, 16), (128, 128), (128, 256),
)  # fmt: skip
"""Experts, mean rows of each."""
LOADS_OF_A_WEIGHT: Final = 6
"""Which of LOADS turns from weight to weight."""
QUICK_WEIGHTS: Final = ((7168, 2048), (1536, 2048))
QUICK_LOADS: Final = ((8, 1024), (32, 256))
SMALL_WEIGHTS: Final = ((128, 64),)
SMALL_LOADS: Final = ((4, 48),)
ALIGNED: Final = 16
"""Rows of an expert are a multiple of it: FP8 operands of a wgrad must be."""
UNEVEN_FROM: Final = 64
"""Mean rows from which every second load of a weight is uneven: falling as 1 / (1 + i / 2)."""
MOST_NUMBERS: Final = 2**31
"""Of all experts' weights: what makes FP8 of more takes a GPU's memory."""
LOOPED: Final = 4
"""Weights whose loops are timed."""
MAX_LOOPED: Final = 32
"""Experts up to which the loop is timed: longer ones are launches and nothing else."""


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Every weight with some loads, even and uneven; some also as a loop. Gradients of every second load are candidates."""
    for number, (n, k, counts, looped) in enumerate(expert_loads(size)):
        for variant in PASSES:
            level = number % 2 if variant == "dgrad" and size == "full" else 0
            yield replace(grouped_case(device, variant, n, k, counts), level=level)
            if looped:
                level = int(variant == "dgrad" and size == "full")
                yield replace(grouped_case(device, variant, n, k, counts, LOOP), level=level)


def expert_loads(size: Size) -> Iterator[tuple[int, int, Counts, bool]]:
    """Weight (n, k), rows of each expert, whether the loop is timed as well."""
    weights = {"full": WEIGHTS, "quick": QUICK_WEIGHTS, "cpu": SMALL_WEIGHTS}[size]
    for idx, (n, k) in enumerate(weights):
        for number, (groups, mean) in enumerate(_loads(idx, size)):
            if groups * n * k > MOST_NUMBERS:
                continue
            is_uneven = number % 2 == 1 and mean >= UNEVEN_FROM
            counts = uneven_loads(groups, mean) if is_uneven else (mean,) * groups
            is_looped = groups <= MAX_LOOPED and number % 2 == 0 and idx < LOOPED
            yield n, k, counts, is_looped


def _loads(idx: int, size: Size) -> tuple[tuple[int, int], ...]:
    if size != "full":
        return QUICK_LOADS if size == "quick" else SMALL_LOADS
    step = len(LOADS) / LOADS_OF_A_WEIGHT
    return tuple(LOADS[place] for place in sorted({int(idx + number * step) % len(LOADS) for number in range(6)}))


def uneven_loads(groups: int, mean: int) -> Counts:
    """Rows of each expert, their sum groups * mean, falling as 1 / (1 + i / 2), multiples of ALIGNED."""
    total = groups * mean
    weights = [1.0 / (1.0 + idx / 2.0) for idx in range(groups)]
    counts = [int(total * weight / sum(weights)) // ALIGNED * ALIGNED for weight in weights]
    return (counts[0] + total - sum(counts), *counts[1:])


def grouped_case(device: Any, variant: str, n: int, k: int, counts: Counts, name: str = "grouped") -> RateCase:
    """A pass of experts' layers k → n; name: grouped, or LOOP."""
    make = partial(PASSES[variant], device, n, k, counts, name == LOOP)
    return expert_case(variant, "bf16", name, n, k, counts, 2.0, make)


def expert_case(
    variant: str, dtype: str, name: str, n: int, k: int, counts: Counts, in_bytes: float, make: Any,
    out_bytes: float = 2.0,
) -> RateCase:  # fmt: skip
    """in_bytes, out_bytes: of a number of both operands and of the result."""
    rows, groups = sum(counts), len(counts)
    size = {"fprop": (rows, n, k), "dgrad": (rows, k, n), "wgrad": (n, k, rows)}[variant]
    cells = {
        "part": "grouped", "op": "grouped_gemm", "variant": variant, "dtype": dtype, "library": name,
        **dict(zip("mnk", size, strict=True)), "groups": groups, "loads": " ".join(map(str, counts)),
        "flop": 2.0 * rows * n * k,
    }  # fmt: skip
    numbers = {"x": rows * k, "y": rows * n, "w": groups * n * k}
    result = {"fprop": "y", "dgrad": "x", "wgrad": "w"}[variant]
    moved = sum(count * (out_bytes if which == result else in_bytes) for which, count in numbers.items())
    return RateCase(cells, make, moved, groups if name == LOOP else 3)


def ends(counts: Counts, device: Any) -> Any:
    """Behind each expert's last row, int32, on the device."""
    return torch.tensor(counts).cumsum(0).to(torch.int32).to(device)


def parts(counts: Counts) -> list[slice]:
    """Each expert's rows."""
    lasts = torch.tensor(counts).cumsum(0).tolist()
    return [slice(last - count, last) for count, last in zip(counts, lasts, strict=True)]


def one_by_one(calls: Sequence[Call]) -> None:
    """A loop of launches."""
    for call in calls:
        call()


def _by_rows(left: Any, weights: Any, counts: Counts, looped: bool) -> Call:
    """left (R, a) times its expert's (a, b) of weights (E, a, b)."""
    if not looped:
        return partial(torch._grouped_mm, left, weights, offs=ends(counts, left.device), out_dtype=torch.bfloat16)
    out = torch.empty(left.shape[0], weights.shape[2], device=left.device, dtype=torch.bfloat16)
    calls = [partial(torch.mm, left[part], weights[idx], out=out[part]) for idx, part in enumerate(parts(counts))]
    return partial(one_by_one, calls)


def _forward(device: Any, n: int, k: int, counts: Counts, looped: bool) -> Call:
    weights = random_bf16(device, len(counts), n, k).transpose(1, 2)
    return _by_rows(random_bf16(device, sum(counts), k), weights, counts, looped)


def _dgrad(device: Any, n: int, k: int, counts: Counts, looped: bool) -> Call:
    return _by_rows(random_bf16(device, sum(counts), n), random_bf16(device, len(counts), n, k), counts, looped)


def _wgrad(device: Any, n: int, k: int, counts: Counts, looped: bool) -> Call:
    """dw (E, n, k) in BF16 = dy (R, n).T @ x (R, k) of each expert; nothing is added to."""
    dy, x = random_bf16(device, sum(counts), n), random_bf16(device, sum(counts), k)
    if not looped:
        return partial(torch._grouped_mm, dy.t(), x, offs=ends(counts, device), out_dtype=torch.bfloat16)
    out = torch.empty(len(counts), n, k, device=device, dtype=torch.bfloat16)
    calls = [partial(torch.mm, dy[part].t(), x[part], out=out[idx]) for idx, part in enumerate(parts(counts))]
    return partial(one_by_one, calls)


PASSES: Final = {"fprop": _forward, "dgrad": _dgrad, "wgrad": _wgrad}
