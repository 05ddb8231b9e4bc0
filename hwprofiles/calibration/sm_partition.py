"""What kernels lose beside communication kernels: seconds alone, and beside blocks that hold SMs and move no data.

    python -m hwprofiles.calibration.sm_partition -o FILE.json

Runs on one NVIDIA GPU with torch and cupy (which the extra [calibrate] does not bring); sizes are DeepSeek-V3's for one
micro-batch of 4,096 tokens. Times are medians of
CUDA events around one call, in seconds; every case is timed alone, beside each of HELD_SMS, and alone again, because the
clock drifts with the chip's temperature and power.

Limits: the holding blocks take shared memory and hardly a thread or register, so that kernels without shared memory (copies,
element-wise ones) still find room on the held SMs: their ratio of 1 says that the held SMs cost no bandwidth, not that the
kernel ran on the others alone. Real communication kernels move data besides.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from hwprofiles.calibration.measuring import Case, device_facts, gemm_case, query_gpu, random_bf16, streaming_cases
from hwprofiles.units import KIBI, MEBI, MEGA, MILLI

TOKENS, HIDDEN, VOCABULARY, HEADS = 4096, 7168, 129280, 128
"""Of DeepSeek-V3: a micro-batch of one sequence, and the model's widths."""
HELD_SMS = (8, 20, 32)
SHARED_BYTES = 200 * KIBI
"""Of a holding block: one fits an SM of 228 KiB, and no block of a GEMM or attention kernel fits beside it."""
SOURCE = r"""
extern "C" __global__ void hold(volatile int* stop) {
  extern __shared__ char shared[];
  if (threadIdx.x == 0) {
    const long long begin = clock64();
    while (!*stop && clock64() - begin < 8000000000LL) __nanosleep(20000);
  }
  __syncthreads();
}
"""
"""Waits for a flag in device memory (polling the host's disturbs every kernel beside it); gives up after seconds."""

Seconds = float


class Holder:
    """Holds SMs with resident blocks, on a stream of its own."""

    def __init__(self) -> None:
        import cupy
        import numpy

        self._cupy = cupy
        self._kernel = cupy.RawKernel(SOURCE, "hold")
        self._kernel.max_dynamic_shared_size_bytes = SHARED_BYTES
        self._stop = cupy.zeros(1, dtype=cupy.int32)
        self._pinned = cupy.cuda.alloc_pinned_memory(64)
        numpy.frombuffer(self._pinned, dtype=numpy.int32, count=1)[0] = 1
        self._held, self._copies = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))

    @contextmanager
    def holding(self, num_sms: int) -> Iterator[None]:
        """`num_sms` SMs are held inside."""
        self._stop.fill(0)
        self._cupy.cuda.Device().synchronize()
        with self._held:
            self._kernel((num_sms,), (32,), (self._stop,), shared_mem=SHARED_BYTES)
        time.sleep(10 * MILLI)
        try:
            yield
        finally:
            self._cupy.cuda.runtime.memcpyAsync(self._stop.data.ptr, self._pinned.ptr, 4, 1, self._copies.ptr)
            self._copies.synchronize()
            self._held.synchronize()


def timed(call: Callable[[], Any], repetitions: int, warm_up: int, stream: Any) -> Sequence[Seconds]:
    """Seconds of each call, ascending; on a stream that does not wait for the holding one."""
    import torch

    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repetitions)]
    with torch.cuda.stream(stream):
        for _ in range(warm_up):
            call()
        for begin, end in events:
            begin.record()
            call()
            end.record()
    stream.synchronize()
    return sorted(begin.elapsed_time(end) * MILLI for begin, end in events)


def measure(case: Case, holder: Holder, stream: Any) -> dict[str, Any]:
    """A row of the result: the case's work, and medians in seconds (of alone_s also the 10 and 90 % quantiles)."""
    alone = timed(case.call, case.repetitions, 10, stream)
    tenth = len(alone) // 10
    row: dict[str, Any] = {"name": case.name, "flop": case.flop, "bytes": case.bytes_moved}
    if case.gemm is not None:
        row |= dict(zip("mnk", case.gemm, strict=True))
    row |= {"alone_s": median(alone), "low": alone[tenth], "high": alone[-1 - tenth]}
    if not case.beside:
        return row
    for num_sms in HELD_SMS:
        with holder.holding(num_sms):
            row[f"beside_{num_sms}_s"] = median(timed(case.call, max(10, case.repetitions // 2), 3, stream))
    row["alone_again_s"] = median(timed(case.call, case.repetitions, 10, stream))
    return row


def gemm_cases() -> Iterator[Case]:
    """BF16 and per-tensor FP8 GEMMs of the head and of a layer, by cuBLAS, on random numbers."""
    import torch

    bf16 = torch.bfloat16
    x, w = _random(TOKENS, HIDDEN), _random(VOCABULARY, HIDDEN) * 0.02
    y = torch.empty(TOKENS, VOCABULARY, device="cuda", dtype=bf16)
    flop = 2.0 * TOKENS * HIDDEN * VOCABULARY
    for _ in range(200):  # seconds of full load, so that clock and temperature are a training run's
        torch.mm(x, w.t(), out=y)
    yield Case("head_fprop", lambda: torch.mm(x, w.t(), out=y), flop, gemm=(TOKENS, VOCABULARY, HIDDEN))
    dy, dx = _random(TOKENS, VOCABULARY), torch.empty_like(x)
    yield Case("head_dgrad", lambda: torch.mm(dy, w, out=dx), flop, gemm=(TOKENS, HIDDEN, VOCABULARY))
    dw = torch.empty_like(w)
    yield Case("head_wgrad", lambda: torch.mm(dy.t(), x, out=dw), flop, gemm=(VOCABULARY, HIDDEN, TOKENS))
    one, m = torch.ones((), device="cuda"), TOKENS
    for n, k in ((7168, 16384), (24576, 1536), (4096, 7168), (7168, 2048), (32768, 512), (2112, 7168)):
        yield gemm_case("cuda", "gemm_bf16", m, n, k)
    for n, k in ((7168, 16384), (24576, 1536), (4096, 7168), (7168, 2048)):
        a, b = (_random(rows, k).to(torch.float8_e4m3fn) for rows in (m, n))
        call = partial(torch._scaled_mm, a, b.t(), one, one, out_dtype=bf16)
        yield Case(f"gemm_fp8_{m}x{n}x{k}", call, 2.0 * m * n * k, gemm=(m, n, k))


def attention_cases() -> Iterator[Case]:
    """Causal attention of all heads over one sequence, forward and backward; FLOP of the causal half."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    for dim_qk, dim_v, backend in (
        (128, 128, SDPBackend.FLASH_ATTENTION),
        (192, 128, SDPBackend.CUDNN_ATTENTION),
        (128, 128, SDPBackend.CUDNN_ATTENTION),
    ):
        q, k, v = (_random(1, HEADS, TOKENS, dim).requires_grad_() for dim in (dim_qk, dim_qk, dim_v))

        label, pairs = f"{dim_qk}_{dim_v}_{backend.name}", 1.0 * HEADS * TOKENS * TOKENS
        forward = partial(scaled_dot_product_attention, q, k, v, is_causal=True)
        with sdpa_kernel(backend):  # stays chosen while the caller runs the cases
            with torch.no_grad():
                yield Case(f"attn_fwd_{label}", forward, pairs * (dim_qk + dim_v))
            out = forward()
            backward = partial(torch.autograd.grad, out, (q, k, v), torch.randn_like(out), retain_graph=True)
            yield Case(f"attn_bwd_{label}", backward, pairs * (3 * dim_qk + 2 * dim_v))


def memory_cases() -> Iterator[Case]:
    """Kernels bound by memory bandwidth; bytes read and written once."""
    import torch

    yield from streaming_cases("cuda", TOKENS, 32768, HIDDEN)
    octets = torch.zeros(16384, HIDDEN, device="cuda", dtype=torch.uint8)
    turned = torch.empty(HIDDEN, 16384, device="cuda", dtype=torch.uint8)
    yield Case("transpose_u8", lambda: turned.copy_(octets.t()), bytes_moved=2.0 * octets.nbytes, repetitions=60)


def loss_cases() -> Iterator[Case]:
    """Cross-entropy over the vocabulary, compiled; bytes: BF16 logits once forward, once more as gradient."""
    import torch

    labels = torch.randint(0, VOCABULARY, (TOKENS,), device="cuda")
    logits = _random(TOKENS, VOCABULARY)
    loss = torch.compile(lambda values, wanted: torch.nn.functional.cross_entropy(values.float(), wanted))
    size = 1.0 * logits.nbytes
    yield Case("cross_entropy_fwd_compiled", lambda: loss(logits, labels), bytes_moved=size, beside=False)
    logits.requires_grad_()

    def both() -> None:
        logits.grad = None
        loss(logits, labels).backward()

    yield Case("cross_entropy_fwd_bwd_compiled", both, bytes_moved=2 * size, beside=False)


def optimizer_cases() -> Iterator[Case]:
    """AdamW with BF16 moments, FP32 master weights and gradients and a BF16 copy of the weights, compiled."""
    import torch

    count = 256 * MEBI
    master, gradient = (torch.randn(count, device="cuda") for _ in range(2))
    first, second, weight = (torch.zeros(count, device="cuda", dtype=torch.bfloat16) for _ in range(3))

    def update(master: Any, gradient: Any, first: Any, second: Any, weight: Any) -> None:
        m = 0.9 * first.float() + 0.1 * gradient
        v = 0.95 * second.float() + 0.05 * gradient * gradient
        new = master * (1 - 2e-5) - 2e-4 * m / (v.sqrt() + 1e-8)
        for target, value in ((master, new), (first, m), (second, v), (weight, new)):
            target.copy_(value)

    compiled = torch.compile(update)
    size = count * (4.0 + 4 + 4 + 2 * 4 + 2)
    call = partial(compiled, master, gradient, first, second, weight)
    yield Case("adamw_bf16_moments", call, bytes_moved=size, repetitions=20, beside=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all cases and writes the JSON file; a line a case on standard error."""
    parser = argparse.ArgumentParser(description="Times kernels alone and beside held SMs.")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    out = parser.parse_args(arguments).out
    # Before CUDA starts: a kernel that is loaded on first use waits for the whole device, the holding blocks included.
    os.environ["CUDA_MODULE_LOADING"] = "EAGER"
    import torch

    torch.manual_seed(0)
    holder, stream, rows = Holder(), torch.cuda.Stream(), []
    for cases in (gemm_cases, attention_cases, memory_cases, loss_cases, optimizer_cases):
        for case in cases():
            rows.append(measure(case, holder, stream))
            print(case.name, rows[-1]["alone_s"], file=sys.stderr)
        torch.cuda.empty_cache()
    facts = {**device_facts(0), "max_sm_clock_hz": float(query_gpu(0, "clocks.max.sm")) * MEGA}
    out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


_random = partial(random_bf16, "cuda")


if __name__ == "__main__":
    sys.exit(main())
