"""Reads measured GEMMs and attention calls from tables of public benchmarks: CSV files of one folder, other columns ignored.

aiconfigurator_gemm.csv    gpu, framework, dtype, m, n, k, latency_ms: github.com/ai-dynamo/aiconfigurator (095f58a),
                           systems/data/*/gemm/*/*/gemm_perf.parquet; framework as "SGLang 0.5.14"
deepgemm_h800_dense.csv    version (initial | apr-2025), M, N, K, tflops, speedup_vs_cutlass36: the tables of
                           github.com/deepseek-ai/DeepGEMM README.md at a6d97a1 (initial) and a9967bc (apr-2025)
deepgemm_h800_wgrad.csv    groups, M, N, K (of a group), tflops, note: DeepGEMM#95; rows of its rerun (#107)
                           say H200 in the note
kernel_measured.csv        kernel (attention), implementation, pass (fwd | bwd), batch, seq, heads_q, heads_kv, head_dim_qk,
                           head_dim_v, mask (causal | none | causal window N), dtype, gpu, time_us:
                           github.com/NVIDIA/cudnn-frontend (3929da2) benchmark/sdpa_benchmark_training/results, and
                           aiconfigurator's context attention tables
aiconfigurator_nccl.csv    gpu, op, gpus, message_elems (of two bytes, of the whole tensor), latency_ms: aiconfigurator
                           (095f58a), systems/data/*/comm/nccl/*/nccl_perf.parquet
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hwprofiles.calibration.gemm_fit import GemmPoint
from hwprofiles.calibration.ring_fit import EXCHANGE, MIN_BYTES, RingPoint
from hwprofiles.collectives.ring_formula import RING_LIKE
from hwprofiles.kernels.gemm_formula import GemmSize
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.units import MICRO, MILLI, TERA

OWN = "own measurement"
MEASUREMENTS = Path(__file__).parents[1] / "measurements"
OWN_NCCL = "h200x8-nccl-2026-11-27.csv"

QUANTISE_BYTES_PER_ELEMENT = 3.0
"""An activation is read in BF16 and written in FP8 before the timed GEMM of the inference frameworks."""

DEEPGEMM_GROUPED: tuple[tuple[int, int, int, int, float, float], ...] = (
    (4, 8192, 4096, 7168, 1297.0, 1.2),
    (4, 8192, 7168, 2048, 1099.0, 1.2),
    (8, 4096, 4096, 7168, 1288.0, 1.2),
    (8, 4096, 7168, 2048, 1093.0, 1.1),
    (1, 1024, 4096, 7168, 1233.0, 1.2),
    (1, 1024, 7168, 2048, 925.0, 1.2),
    (2, 512, 4096, 7168, 1040.0, 1.2),
    (2, 512, 7168, 2048, 916.0, 1.2),
    (4, 256, 4096, 7168, 932.0, 1.1),
    (4, 256, 7168, 2048, 815.0, 1.2),
)
"""groups, m a group, n, k, TFLOP/s, speed-up over tuned CUTLASS 3.6: DeepGEMM README at a6d97a1 (2025-02-25), H800;
four of the contiguous layout (training), six of the masked one."""


@dataclass(frozen=True, slots=True)
class AttentionPoint:
    """A measured attention call: shape and seconds; source: who measured it."""

    shape: KernelShape
    seconds: float
    source: str = ""


def _rows(folder: Path, name: str) -> Iterator[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def framework_gemms(
    folder: Path, gpu: str, frameworks: Sequence[str], table_dtype: str, dtype: str, quantises: bool
) -> list[GemmPoint]:
    """Dense GEMMs timed inside inference frameworks (aiconfigurator_gemm.csv). gpu: a part of the device name."""
    points = []
    for row in _rows(folder, "aiconfigurator_gemm.csv"):
        if gpu in row["gpu"] and row["dtype"] == table_dtype and row["framework"].split()[0] in frameworks:
            m, n, k = int(row["m"]), int(row["n"]), int(row["k"])
            extra = QUANTISE_BYTES_PER_ELEMENT * m * k if quantises else 0.0
            size = GemmSize(m, n, k, 1, "fprop", dtype)
            points.append(GemmPoint(size, float(row["latency_ms"]) * MILLI, extra))
    return points


def deepgemm(folder: Path, version: str, *, cutlass: bool) -> list[GemmPoint]:
    """FP8 GEMMs of a DeepGEMM release on H800 (deepgemm_h800_dense.csv; of the first release also its grouped ones).

    cutlass: the times of the tuned CUTLASS 3.6 kernels instead, that is times the printed speed-up (rounded to 0.1).
    """
    points = []
    for row in _rows(folder, "deepgemm_h800_dense.csv"):
        if row["version"] == version:
            size = GemmSize(int(row["M"]), int(row["N"]), int(row["K"]), 1, "fprop", "fp8-block")
            speed_up = float(row["speedup_vs_cutlass36"]) if cutlass else 1.0
            points.append(GemmPoint(size, size.flop / (float(row["tflops"]) * TERA) * speed_up))
    for groups, rows, n, k, tflops, speed_up in DEEPGEMM_GROUPED if version == "initial" else ():
        size = GemmSize(groups * rows, n, k, groups, "fprop", "fp8-block")
        points.append(GemmPoint(size, size.flop / (tflops * TERA) * (speed_up if cutlass else 1.0)))
    return points


def deepgemm_wgrad(folder: Path, *, rerun_on_h200: bool) -> list[GemmPoint]:
    """FP8 weight gradients with FP32 accumulation: DeepGEMM#95, or its rerun on H200 (#107)."""
    points = []
    for row in _rows(folder, "deepgemm_h800_wgrad.csv"):
        if ("H200" in row["note"]) == rerun_on_h200:
            groups = int(row["groups"])
            size = GemmSize(int(row["M"]), int(row["N"]), int(row["K"]) * groups, groups, "wgrad", "fp8-block")
            points.append(GemmPoint(size, size.flop / (float(row["tflops"]) * TERA)))
    return points


def grouped_layers(folder: Path) -> list[tuple[int, int, int, int, float]]:
    """rows, n, k, experts, seconds of forward and both gradients of torch._grouped_mm in BF16 on B200 (kernel_measured.csv)."""
    return [
        (*(int(float(row[name])) for name in ("m", "n", "k", "groups")), float(row["time_us"]) * MICRO)  # type: ignore[misc]
        for row in _rows(folder, "kernel_measured.csv")
        if (row["kernel"], row["pass"], row["dtype"]) == ("grouped_gemm", "fwd+bwd", "bf16")
        and row["gpu"].endswith("B200")
    ]


def attention_calls(
    folder: Path,
    gpu: str,
    implementation: str,
    direction: str,
    table_dtypes: Sequence[str],
    head_dim_qk: int,
    dtype: str,
) -> list[AttentionPoint]:
    """Causal attention calls (kernel_measured.csv). gpu, implementation: parts of its names; direction fwd | bwd."""
    calls = all_attention_calls(folder, gpu, implementation, direction, table_dtypes, dtype)
    return [
        call for call in calls
        if call.shape.causal and not call.shape.flop and call.shape.head_dim_qk == head_dim_qk
    ]  # fmt: skip


def all_attention_calls(
    folder: Path,
    gpu: str,
    implementation: str,
    direction: str,
    table_dtypes: Sequence[str],
    dtype: str,
    library: str = "",
) -> list[AttentionPoint]:
    """Attention calls of every mask, window and head size. library: of the shapes, as hwprofiles.kernels names it."""
    return [
        AttentionPoint(_attention_shape(row, direction, dtype, library), float(row["time_us"]) * MICRO, row["note"])
        for row in _rows(folder, "kernel_measured.csv")
        if row["kernel"] == "attention" and row["gpu"].endswith(gpu) and implementation in row["implementation"]
        and row["pass"] == direction and row["dtype"] in table_dtypes and row["time_us"]
    ]  # fmt: skip


def own_attention_calls(gpu: str, library: str, direction: str) -> list[AttentionPoint]:
    """The same of our own GPU (hwprofiles/measurements/<gpu>-kernel-rates-*.csv): the faster of the first launches, which the
    host delays where they are short, and of the loop, which the power limit slows where it is long.

    cuDNN's calls of values as wide as 192-wide keys are left out: other kernels, which no model asks for.
    """
    fastest: dict[KernelShape, float] = {}
    for path in sorted(MEASUREMENTS.glob(f"{gpu}-kernel-rates-*.csv")):
        for row in _rows(path.parent, path.name):
            if (row["op"], row["library"]) != (f"attention_{direction}", library) or not row["seconds"]:
                continue
            qk, v = int(row["head_dim_qk"]), int(row["head_dim_v"])
            if library == "cudnn" and qk == v > 128 and qk < 256:
                continue
            shape = KernelShape(
                op=row["op"], batch=int(row["batch"]), seq=int(row["seq"]), heads=int(row["heads"]),
                kv_heads=int(row["kv_heads"]), head_dim_qk=qk, head_dim_v=v, causal=row["causal"] == "true", library=library,
            )  # fmt: skip
            fastest[shape] = min(fastest.get(shape, math.inf), float(row["seconds"]))
    return [AttentionPoint(shape, seconds, OWN) for shape, seconds in fastest.items()]


def _attention_shape(row: dict[str, str], direction: str, dtype: str, library: str) -> KernelShape:
    heads, dim = int(float(row["heads_q"])), int(float(row["head_dim_qk"]))
    shape = KernelShape(
        op=f"attention_{direction}", dtype=dtype, batch=int(float(row["batch"])), seq=int(float(row["seq"])),
        heads=heads, kv_heads=int(float(row["heads_kv"] or heads)), head_dim_qk=dim,
        head_dim_v=int(float(row["head_dim_v"] or dim)), causal=row["mask"] != "none", library=library,
    )  # fmt: skip
    kind, _, window = row["mask"].partition(" window ")
    if kind != "causal" or not window or int(window) >= shape.seq:
        return shape
    share = (shape.seq - int(window) / 2) * int(window) / (shape.seq**2 / 2)
    return replace(shape, flop=share * shape.attention_flop)


NCCL_DEVICES = (("H100", "h100"), ("GB200", "gb200"), ("B200", "b200"), ("A100", "a100"))
"""Part of a device's name in the table → GPU; the first that fits."""
HAS_SWITCH = ("h100", "b200", "gb200")
"""GPUs whose NVLink switch adds up (NVLink SHARP): Hopper and later."""


def nccl_rings(folder: Path) -> list[RingPoint]:
    """All-gathers, reduce-scatters and all-reduces of NCCL inside a node (aiconfigurator_nccl.csv), from MIN_BYTES on."""
    return [point for point in _nccl(folder) if point.op != EXCHANGE]


def nccl_exchanges(folder: Path) -> list[RingPoint]:
    """All-to-alls of the same table, of more GPUs than RING_LIKE. What is on GB200 is of two."""
    return [point for point in _nccl(folder) if point.op == EXCHANGE and point.ranks > RING_LIKE]


def _nccl(folder: Path) -> Iterator[RingPoint]:
    for row in _rows(folder, "aiconfigurator_nccl.csv"):
        num_bytes = 2 * int(row["message_elems"])
        if num_bytes < MIN_BYTES:
            continue
        gpu = next(name for part, name in NCCL_DEVICES if part in row["gpu"])
        seconds = float(row["latency_ms"]) * MILLI
        yield RingPoint(gpu, row["op"], int(row["gpus"]), num_bytes, seconds, gpu in HAS_SWITCH)


def own_rings() -> list[RingPoint]:
    """The same of our own H200s (hwprofiles/measurements), whose switch was kept from adding up; a point a run."""
    return [
        RingPoint("h200", row["op"], int(row["ranks"]), int(row["bytes"]), float(row["seconds"]), has_switch=False)
        for row in _rows(MEASUREMENTS, OWN_NCCL) if int(row["bytes"]) >= MIN_BYTES
    ]  # fmt: skip
