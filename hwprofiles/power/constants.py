"""The constants of a GPU's power: `power.*` of its stack, else as stacks/transfer has them for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from hwprofiles.kernels.parameters import Range, StackLike, find, need
from hwprofiles.kernels.shape import PEAK_OF_DTYPE, KernelShape
from hwprofiles.power.model import Chip
from hwprofiles.schema import Gpu
from hwprofiles.stack_records import Stack
from hwprofiles.transfer import build_stack
from hwprofiles.units import PICO

ENERGY_OF_PEAK: Mapping[str, str] = {"fp8": "fp8", "fp4": "fp8"}
"""Peak of a GEMM's format → format whose energy a FLOP it takes, at equal share of its own peak; else bf16."""
OWN_ENERGY = ("fp8-block",)
"""Formats with an energy of their own: sums in blocks of 128 leave the tensor core."""
KEYS = (
    "idle_share", "beta", "reference_speed", "loop_share", "window_s", "warm_speed", "gemm.bf16.pj_per_flop",
    "gemm.fp8.pj_per_flop", "gemm.fp8-block.pj_per_flop",
    "attention_fwd.pj_per_flop", "attention_bwd.pj_per_flop", "memory.pj_per_byte", "link.pj_per_byte",
)  # fmt: skip
"""What a stack may state, behind `power.`."""


@dataclass(frozen=True)
class PowerConstants:
    """tdp_w: the board's limit; usual_w: of the chip's usual board, on which rates and shares were measured, at least tdp_w;
    by_key: key of KEYS → its range; peaks: FLOP/s by format, of the datasheet.
    """

    tdp_w: float
    usual_w: float
    by_key: Mapping[str, Range]
    peaks: Mapping[str, float]

    def value(self, key: str) -> float:
        """The value of a key."""
        return self.by_key[key].value

    def chip(self, limit_w: float) -> Chip:
        """The chip under a limit. Waiting power is a share of its usual board's, whatever the limit."""
        return Chip(
            self.value("idle_share") * self.usual_w,
            self.value("beta"),
            self.value("reference_speed"),
            limit_w,
            self.value("warm_speed"),
        )

    def flop_j(self, shape: KernelShape, flop: float) -> float:
        """Energy of a kernel's FLOP at the reference speed; 0 of what memory bounds."""
        if shape.bound == "memory" or not flop:
            return 0.0
        if shape.bound == "attention":
            return self.value(f"{shape.op}.pj_per_flop") * PICO * flop
        peak = PEAK_OF_DTYPE[shape.dtype]
        like = shape.dtype if shape.dtype in OWN_ENERGY else ENERGY_OF_PEAK.get(peak, "bf16")
        known = self.peaks.get(PEAK_OF_DTYPE[like])
        ratio = known / self.peaks.get(peak, known) if known else 1.0
        return self.value(f"gemm.{like}.pj_per_flop") * ratio * PICO * flop

    def byte_j(self, num_bytes: float) -> float:
        """Energy of bytes moved in device memory."""
        return self.value("memory.pj_per_byte") * PICO * num_bytes

    def sent_j(self, num_bytes: float) -> float:
        """Energy of bytes that a GPU sends to others: link, SMs that copy, and device memory at both ends of the way."""
        return self.value("link.pj_per_byte") * PICO * num_bytes

    def at(self, key: str, value: float) -> PowerConstants:
        """The constants with one of them elsewhere in its range; "energy": all energies times `value`."""
        keys = [each for each in KEYS if "pj_per" in each] if key == "energy" else [key]
        changed = {each: _exactly(self.value(each) * value if key == "energy" else value) for each in keys}
        return PowerConstants(self.tdp_w, self.usual_w, {**self.by_key, **changed}, self.peaks)

    def energy_range(self) -> tuple[float, float]:
        """Ends of the energy of a FLOP over its value: of the format and kernel that is known least."""
        flops = [self.by_key[key] for key in KEYS if "pj_per_flop" in key]
        return min(each.low / each.value for each in flops), max(each.high / each.value for each in flops)


def power_constants(stack: StackLike, gpu: Gpu) -> PowerConstants:
    """Of the stack, each key that it lacks as it transfers to the GPU."""
    found = {key: find(stack, f"power.{key}") for key in KEYS}
    if None in found.values():
        transferred = _transferred(gpu.model_dump_json())
        found = {key: own or need(transferred, f"power.{key}") for key, own in found.items()}
    ranges = {key: own for key, own in found.items() if own is not None}
    return PowerConstants(
        gpu.tdp_w, gpu.usual_tdp_w or gpu.tdp_w, ranges, {str(name): peak for name, peak in gpu.peak_flop_per_s.items()}
    )


@lru_cache(maxsize=64)
def _transferred(gpu: str) -> Stack:
    """What all GPUs' tables give this one, by its record as JSON: thousands of records are weighed, for every step anew."""
    return build_stack("transfer", Gpu.model_validate_json(gpu))


def _exactly(value: float) -> Range:
    return Range(value, value, value)
