"""The record of the GPU that was measured: the catalogue's, else one made of what the device says and of the best rates.

What is made so is no datasheet, and its sources say that: peaks are the best rates that were reached, so that shares of them
are of what this device was seen to do.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.calibrate.plan import seconds_of
from hwprofiles.catalog import gpu_of_device, load_gpu
from hwprofiles.kernels.shape import PEAK_OF_DTYPE
from hwprofiles.record_file import read_record
from hwprofiles.schema import Gpu
from hwprofiles.units import GIGA

NARROWER: Final = ("tf32", "bf16", "fp8", "fp4")
"""Formats whose peaks may not fall in this order."""
FAMILIES: Final = {8: "ampere", 9: "hopper", 10: "blackwell"}
"""Compute capability (major) → family."""
ASSUMED_W: Final = 100.0
"""Power limit where nothing tells it."""
DIGITS: Final = 3


def gpu_of(facts: Facts, device: Any, rows: Sequence[Mapping[str, Any]], asked: str | None) -> tuple[Gpu, bool]:
    """The GPU, and whether the catalogue has it. asked: its catalogue name, where the user gives one."""
    known = asked or gpu_of_device(facts.device)
    return (load_gpu(known), True) if known else (_made(facts, device, rows), False)


def _made(facts: Facts, device: Any, rows: Sequence[Mapping[str, Any]]) -> Gpu:
    told = {"kind": "datasheet", "where": "what the device reports of itself"}
    reached = {"kind": "measurement", "where": "points.csv", "note": "the best rate reached, not a data sheet's peak"}
    peaks = _peaks(rows)
    facts_of = _of_gpu(facts, device) if device.type == "cuda" else _of_processor()
    is_limited = facts.power_limit_w > 0.0
    record = {
        "name": slug(facts.device), "peak_flop_per_s": peaks, "hbm_bytes_per_s": _bandwidth(rows), **facts_of,
        "tdp_w": facts.power_limit_w or ASSUMED_W, "device_names": [facts.device],
        "sources": {
            **{name: told for name in facts_of if name != "vendor"},
            "peak_flop_per_s": reached, "hbm_bytes_per_s": reached, "device_names": told,
            "tdp_w": told if is_limited else {"kind": "assumed", "where": "nothing tells it; edit it", "note": ""},
        },
    }  # fmt: skip
    record["sources"].pop("family", None)
    return Gpu.model_validate(record)


def slug(name: str) -> str:
    """A device's name as the catalogue writes names."""
    text = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    return text[:60].strip("-.") or "device"


def _of_gpu(facts: Facts, device: Any) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(device)
    cache = getattr(properties, "L2_cache_size", 0)
    return {
        "vendor": facts.device.split()[0] or "unknown",
        "family": FAMILIES.get(properties.major, f"cc{properties.major}{properties.minor}"),
        "hbm_bytes": int(properties.total_memory), "device_bytes": int(properties.total_memory),
        "num_sms": int(properties.multi_processor_count),
        **({"l2_bytes": int(cache)} if cache else {}),
        **({"boost_clock_hz": facts.clock_hz} if facts.clock_hz else {}),
    }  # fmt: skip


def _of_processor() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"vendor": "processor", "family": "cpu", "hbm_bytes": memory, "num_sms": os.cpu_count() or 1}


def _peaks(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Format → best FLOP/s, rounded up; a narrower format at least as fast as a wider one."""
    best: dict[str, float] = {"bf16": GIGA}
    for row in rows:
        seconds, flop = seconds_of([row]), float(row.get("flop") or 0.0)
        name = PEAK_OF_DTYPE.get(str(row.get("dtype", "")))
        if name and flop and seconds > 0.0:
            best[name] = max(best.get(name, 0.0), flop / seconds)
    peaks: dict[str, float] = {}
    floor = GIGA
    for name in NARROWER:
        if name in best:
            floor = peaks[name] = max(floor, _rounded_up(best[name]))
    return peaks


def _bandwidth(rows: Sequence[Mapping[str, Any]]) -> float:
    """The best bytes/s of a kernel bound by memory."""
    rates = [float(row["bytes"]) / seconds_of([row]) for row in rows if row.get("bytes") and row.get("seconds")]
    return max([GIGA, *map(_rounded_up, rates)])


def _rounded_up(value: float) -> float:
    scale = 10.0 ** (math.floor(math.log10(value)) - DIGITS + 1)
    return math.ceil(value / scale) * scale


def edited(folder: Path, gpu: Gpu) -> Gpu | None:
    """The folder's gpu.yaml where somebody has corrected it; None where there is none or it is what `save` writes of this gpu.

    Raises CatalogError: it is no record of a GPU.
    """
    path = folder / "gpu.yaml"
    found = read_record(path, Gpu) if path.exists() else gpu
    return None if found == gpu else found


def save(gpu: Gpu, folder: Path) -> None:
    """gpu.yaml of a stack folder."""
    from hwprofiles.calibration.calibrate.writer import write_yaml

    heading = "A device that the catalogue does not know: what it reports, and the best rates measured on it."
    write_yaml(folder / "gpu.yaml", gpu.model_dump(mode="json", exclude_none=True), heading)
