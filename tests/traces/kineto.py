"""Small traces made by hand: events as the profiler writes them, times in microseconds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Event = dict[str, Any]
REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
"""Public traces and tables, which are not part of the repository."""
GEMM, ADD, GATHER = (
    "nvjet_sm90_tst_64x64_TNT",
    "void at::native::vectorized_elementwise_kernel<4>",
    "ncclDevKernel_AllGather_RING_LL",
)
H200 = {"id": 0, "name": "NVIDIA H200", "computeMajor": 9, "numSms": 132}


def kernel(
    name: str, start: float, dur: float, *, stream: int = 7, device: int = 0, number: int = 0, op: int = -1,
    cat: str = "kernel", **args: object,
) -> Event:  # fmt: skip
    given = {"device": device, "stream": stream, "correlation": number, "External id": op, **args}
    return {"ph": "X", "cat": cat, "name": name, "pid": device, "tid": stream, "ts": start, "dur": dur, "args": given}


def launch(number: int, start: float, dur: float = 1.0, pid: int = 100) -> Event:
    args = {"correlation": number, "cbid": 211}
    return {
        "ph": "X",
        "cat": "cuda_runtime",
        "name": "cudaLaunchKernel",
        "pid": pid,
        "tid": pid,
        "ts": start,
        "dur": dur,
        "args": args,
    }


def operator(
    number: int, name: str, dims: Sequence[Any] = (), types: Sequence[str] = (), values: Sequence[str] = ()
) -> Event:
    args: dict[str, Any] = {"External id": number}
    if dims:
        args |= {"Input Dims": dims, "Input type": types, "Concrete Inputs": values}
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 100, "tid": 100, "ts": 0.0, "dur": 1.0, "args": args}


def step(number: int, start: float, end: float, pid: int = 100) -> Event:
    return {
        "ph": "X",
        "cat": "user_annotation",
        "name": f"ProfilerStep#{number}",
        "pid": pid,
        "tid": pid,
        "ts": start,
        "dur": end - start,
    }


def document(events: Sequence[Event], **head: object) -> dict[str, Any]:
    return {"schemaVersion": 1, "deviceProperties": [H200], **head, "traceEvents": list(events), "traceName": "t"}


def write(path: Path, events: Sequence[Event], **head: object) -> Path:
    text = json.dumps(document(events, **head)).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path
