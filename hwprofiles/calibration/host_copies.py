"""Bytes a second between GPUs and their host's memory, one way, both ways, and by all GPUs at once.

    python -m hwprofiles.calibration.host_copies -o FILE.json

Runs on all NVIDIA GPUs of a host, from one process, with torch. Host memory is page-locked. Rates are medians over CALLS copies
of SIZE_BYTES; of several GPUs at once what each reaches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from hwprofiles.calibration.all_gpus import software_facts
from hwprofiles.calibration.command import write_json
from hwprofiles.units import MEBI, MILLI

SIZE_BYTES, CALLS = 512 * MEBI, 8
WAYS = (("to_host",), ("to_device",), ("to_host", "to_device"))


def rates(gpus: Sequence[int], ways: Sequence[str]) -> dict[str, float]:
    """Bytes/s of each way, the mean of the GPUs, all of them copying at once."""
    import torch

    streams: list[tuple[str, Any, Any, Any]] = []
    for gpu in gpus:
        for way in ways:
            device = torch.empty(SIZE_BYTES, dtype=torch.uint8, device=torch.device("cuda", gpu))
            host = torch.empty(SIZE_BYTES, dtype=torch.uint8, pin_memory=True)
            pair = (host, device) if way == "to_host" else (device, host)
            streams.append((way, torch.cuda.Stream(torch.device("cuda", gpu)), *pair))
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(CALLS + 1):
        marks = []
        for way, stream, target, source in streams:
            with torch.cuda.stream(stream):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record(stream)
                target.copy_(source, non_blocking=True)
                end.record(stream)
            marks.append((way, begin, end))
        for way, begin, end in marks:
            end.synchronize()
            if number:
                found[way].append(SIZE_BYTES / (begin.elapsed_time(end) * MILLI))
    return {way: median(each) for way, each in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all GPUs of the host and writes the JSON file."""
    parser = argparse.ArgumentParser(description="Rates of copies between GPUs and their host.")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    given = parser.parse_args(arguments)
    import torch

    rows = []
    count = torch.cuda.device_count()
    for gpus in sorted({1, 2, count} & set(range(1, count + 1))):
        for ways in WAYS:
            rows.append({"gpus": gpus, "ways": " ".join(ways), **rates(range(gpus), ways)})
            print(json.dumps(rows[-1]), flush=True)
    result = {**software_facts("cuda"), "num_gpus": count, "size_bytes": SIZE_BYTES, "rows": rows}
    write_json(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
