"""What holds while a kernel is timed: SMs that another kernel takes, a limit that the library keeps to, launches beside it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Final

import torch

from hwprofiles.calibration.rates.case import Call
from hwprofiles.units import GIBI, MILLI

THREADS: Final = 1024
KEPT: Final = 58
"""Numbers that each thread of a holding block keeps in registers; with a few more of its own they are 64 for each of 1,024
threads: all registers of an SM (65,536 on every NVIDIA GPU since Volta), so that no block of another kernel fits beside it."""
MOVED_BYTES: Final = int(GIBI)
"""That a moving kernel reads, and writes, in one sweep: more than caches hold."""
WIDE_BYTES: Final = 16
"""Of a thread's load."""
HOLD: Final = r"""extern "C" __global__ void __launch_bounds__(1024) hold(const float* numbers, int* stop, int* gave_up) {
  float kept[58];
  #pragma unroll
  for (int i = 0; i < 58; ++i) kept[i] = ((volatile const float*)numbers)[i * 1024 + threadIdx.x];
  if (threadIdx.x == 0) {
    const long long begin = clock64();
    while (!*(volatile int*)stop && clock64() - begin < 8000000000LL) __nanosleep(20000);
    if (!*(volatile int*)stop) *gave_up = 1;
  }
  __syncthreads();
  float sum = 0.0f;
  #pragma unroll
  for (int i = 0; i < 58; ++i) sum += kept[i] * kept[57 - i] + kept[i];
  if (sum == -1.0f) *gave_up = 2;
}
"""
"""Waits for a flag in device memory (polling the host's disturbs every kernel beside it); gives up after seconds."""
MOVE: Final = r"""extern "C" __global__ void __launch_bounds__(1024) move(
    const float4* from, float4* to, int count, int* stop, int* gave_up) {
  const long long begin = clock64();
  do {
    for (int i = blockIdx.x * 1024 + threadIdx.x; i < count; i += gridDim.x * 1024) to[i] = from[i];
    if (clock64() - begin > 8000000000LL) { *gave_up = 1; break; }
  } while (!*(volatile int*)stop);
}
"""
"""Copies all of it, and again until the flag is set: at least once."""


class Resident:
    """A kernel that stays on some SMs, on a stream of its own. Raises RuntimeError, or what it is a kind of, without NVRTC.

    source, name: of the kernel, whose last arguments are the flags `stop` and `gave_up`; operands: those in front of them.
    """

    def __init__(self, source: str, name: str, operands: Sequence[Any]) -> None:
        _allow_no_toolkit()
        self._kernel, self._operands = torch.cuda._compile_kernel(source, name), list(operands)
        self._stop, self._gave_up = (torch.zeros(1, dtype=torch.int32, device="cuda") for _ in range(2))
        self._set, self._one = torch.ones_like(self._stop), torch.ones(1, dtype=torch.int32).pin_memory()
        self._stream, self._copies = torch.cuda.Stream(), torch.cuda.Stream()
        torch.cuda._sleep(1)
        with self.running(
            1
        ):  # what is loaded on first use waits for the device, and so would kernels beside the held SMs
            pass

    def once(self, num_sms: int) -> Call:
        """The kernel with its flag set, on the current stream."""
        return partial(self._launch, num_sms, self._set)

    @contextmanager
    def running(self, num_sms: int) -> Iterator[None]:
        """It is on `num_sms` SMs inside. Raises RuntimeError where that took so long that it let them go."""
        self._stop.zero_()
        self._gave_up.zero_()
        torch.cuda.synchronize()
        self._launch(num_sms, self._stop, self._stream)
        time.sleep(5 * MILLI)
        try:
            yield
        finally:
            with torch.cuda.stream(self._copies):
                self._stop.copy_(self._one, non_blocking=True)
            self._copies.synchronize()
            self._stream.synchronize()
        if int(self._gave_up):
            raise RuntimeError("the kernel that holds SMs let them go before the time was taken")

    def _launch(self, num_sms: int, flag: Any, stream: Any = None) -> None:
        args = [*self._operands, flag, self._gave_up]
        self._kernel(grid=(num_sms, 1, 1), block=(THREADS, 1, 1), args=args, stream=stream)


def _allow_no_toolkit() -> None:
    """torch names the toolkit's headers to the compiler, which this kernel does not read, and raises where there is none."""
    from torch.utils import cpp_extension

    if cpp_extension.CUDA_HOME is None:
        cpp_extension.CUDA_HOME = sys.prefix


@cache
def holder() -> Resident:
    """One for the process: it is compiled once."""
    return Resident(HOLD, "hold", [torch.zeros(KEPT * THREADS, device="cuda")])


@cache
def mover() -> Resident:
    """The same of the kernel that copies memory."""
    buffers = [torch.zeros(MOVED_BYTES, dtype=torch.uint8, device="cuda") for _ in range(2)]
    return Resident(MOVE, "move", [*buffers, MOVED_BYTES // WIDE_BYTES])


@contextmanager
def held(num_sms: int) -> Iterator[None]:
    """So many SMs are held by another kernel, which moves nothing."""
    with holder().running(num_sms):
        yield


@contextmanager
def moving(num_sms: int) -> Iterator[None]:
    """A block on each of so many SMs copies memory."""
    with mover().running(num_sms):
        yield


@contextmanager
def limited(num_sms: int) -> Iterator[None]:
    """Library products leave so many SMs free: by their grid, as torch's setting asks of cuBLASLt."""
    chosen = torch.backends.cuda.preferred_blas_library()
    torch.backends.cuda.preferred_blas_library("cublaslt")
    torch._C._set_sm_carveout_experimental(num_sms)
    try:
        yield
    finally:
        torch._C._set_sm_carveout_experimental(None)
        torch.backends.cuda.preferred_blas_library(chosen)


@contextmanager
def beside(call: Call, count: int) -> Iterator[None]:
    """`count` launches of another kernel run on a stream of their own. Raises RuntimeError where they ended first."""
    stream, end = torch.cuda.Stream(), torch.cuda.Event()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(count):
            call()
        end.record()
    try:
        yield
        if end.query():
            raise RuntimeError("the kernels beside this one ended before the time was taken")
    finally:
        stream.synchronize()
