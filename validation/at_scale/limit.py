"""A GPU's ceilings as a stack's constants: no kernel of these operators and formats can be faster on it.

A kernel takes the greater of its FLOP over the datasheet's dense peak of its format and its bytes, each operand and result
once, over the memory's bandwidth; nothing to be launched, no tile that is not full, no wave that is not. Beside a collective
it keeps all of its rate. Peaks are the datasheet's, at its boost clock: what the board's watts leave of it works out the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hwprofiles.kernels.shape import PEAK_OF_DTYPE
from hwprofiles.schema import Gpu
from hwprofiles.units import PICO, TERA

NOTHING_S: Final = PICO
"""Of what takes no time: constants are above 0."""
ENDLESS: Final = TERA * TERA
"""Bytes/s of what never binds."""
SHARP: Final = 60.0
"""Exponent of a maximum: within 2 % of it where two terms are equal."""
TILE: Final = {"bm_min": 1.0, "bm_max": 1.0, "bn_max": 16.0, "bn_step": 16.0}
"""Of a GEMM: so small that every size fills its tiles and waves."""
GEMM: Final[Mapping[str, tuple[float, str]]] = {
    "t0_s": (NOTHING_S, "s"), "t_tile_s": (NOTHING_S, "s"), "st_bytes_per_s": (ENDLESS, "bytes/s"),
    "l2_bytes_per_s": (ENDLESS, "bytes/s"), "eta": (1.0, "1"), "ecap": (1.0, "1"), "eb": (1.0, "1"), "p": (SHARP, "1"),
    "residual": (1.0, "1"), **{name: (size, "elements") for name, size in TILE.items()},
}  # fmt: skip
ATTENTION: Final[Mapping[str, tuple[float, str]]] = {
    "t0_s": (NOTHING_S, "s"), "c_tokens": (0.0, "tokens"), "rate_share": (1.0, "1"), "softmax_clocks": (0.0, "clocks"),
    "tail": (0.0, "1"), "residual": (1.0, "1"),
}  # fmt: skip
MEMORY: Final[Mapping[str, tuple[float, str]]] = {"default": (1.0, "1"), "launch_floor_s": (NOTHING_S, "s")}
BESIDE: Final = ("overlap.{}.ratio", "overlap.collective.{}.ratio")
KINDS: Final = ("gemm.", "attention.", "memory.", "overlap.")
"""Beginnings of the keys that it has in the place of a stack's."""


def ceilings(gpu: Gpu) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Key → parameter, of the formats that the GPU has."""
    for dtype, core in PEAK_OF_DTYPE.items():
        if core in gpu.peak_flop_per_s:
            yield from (_entry(gpu, f"gemm.{dtype}.{name}", *given) for name, given in GEMM.items())
    for way in ("fwd", "bwd"):
        yield from (_entry(gpu, f"attention.bf16.{way}.{name}", *given) for name, given in ATTENTION.items())
    yield from (_entry(gpu, f"memory.{name}", *given) for name, given in MEMORY.items())
    for kind in ("gemm", "attention", "memory"):
        yield from (_entry(gpu, key.format(kind), 1.0, "1") for key in BESIDE)


def _entry(gpu: Gpu, key: str, value: float, unit: str) -> tuple[str, Mapping[str, Any]]:
    where = f"hwprofiles/gpus/{gpu.name}.yaml"
    source = {"kind": "datasheet", "where": where, "note": "a ceiling: validation/at_scale/limit.py"}
    return key, {"value": value, "low": value, "high": value, "unit": unit, "basis": "transferred", "source": source}
