"""How fast a layer's kernels run over minutes, beside held SMs, and behind idle times of different lengths.

    python -m hwprofiles.calibration.steady_power -o FILE.json [--seconds 330] [--index 0]

One NVIDIA GPU with torch. One pass is that of layer_kernels: forward and backward of one layer of DeepSeek-V3's sizes at 4,096
tokens, each class of kernels timed by CUDA events. Three loads, each behind REST_S of rest: passes back to back (`full`); the
same beside HELD_SMS SMs that blocks without work hold, so that GEMMs and attention have the grid that dispatch leaves them
(`beside`); passes for four times as long as the idle time that follows, for each of IDLE_S (`idle_…`), all with the same share
of idle time: where the board's limit acts on a mean over a longer time than the idle one, they are alike.

NVML is read by a thread of its own. Limits: random numbers; nothing is sent; blocks that hold SMs move no data.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hwprofiles.calibration.command import Parser, check_output, guarded, write_json
from hwprofiles.calibration.layer_kernels import attention_calls, gemm_calls, memory_calls
from hwprofiles.calibration.measuring import device_facts
from hwprofiles.calibration.nvml import Nvml, PowerReading
from hwprofiles.units import KIBI, MILLI

REST_S, PASSES, HELD_SMS, SHARED_BYTES = 6.0, 4, 20, 200 * KIBI
"""Rest before a load; passes of a block; SMs held; shared memory of a holding block, beside which no GEMM's finds room."""
IDLE_S, BUSY_OVER_IDLE = (0.03, 0.1, 0.3, 1.0, 3.0), 4.0
SHARES = {"full": 0.2, "beside": 0.4, "idle": 0.4}
"""Of the given seconds; all idle times share the last."""
READ_S = 0.05
SOURCE = r"""
extern "C" __global__ void hold(volatile int* stop) {
  extern __shared__ char shared[];
  if (threadIdx.x == 0) while (!*stop) __nanosleep(20000);
  __syncthreads();
}
"""
CLASSES = ("gemm", "attention", "memory")


@dataclass(frozen=True)
class Block:
    """Passes in a row, medians of their seconds by class. begin_s: into the load; burst_s: into the time without idle."""

    load: str
    begin_s: float
    burst_s: float
    passes: int
    gemm_s: float
    attention_s: float
    memory_s: float


@dataclass(frozen=True)
class Sample:
    """What NVML said at a moment of the whole measurement's clock."""

    at_s: float
    energy_j: float
    sm_clock_hz: float
    temperature_c: float


class Sampler:
    """Reads NVML every READ_S until it is stopped."""

    def __init__(self, read: Callable[[], PowerReading], begin: float) -> None:
        self.samples: list[Sample] = []
        self._read, self._begin, self._over = read, begin, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[Sample]:
        self._over.set()
        self._thread.join()
        return self.samples

    def _run(self) -> None:
        while not self._over.wait(READ_S):
            reading = self._read()
            self.samples.append(Sample(time.monotonic() - self._begin, *reading))


Launch = Callable[[int], Callable[[], tuple[float, float, float]]]
"""Passes → what waits for them and gives medians of a pass's seconds by class."""


def continuous(launch: Launch, load: str, seconds: float) -> Iterator[Block]:
    """Blocks without a break: two are queued at any time."""
    begin, queue = time.monotonic(), [launch(PASSES)]
    while (at := time.monotonic() - begin) < seconds:
        queue.append(launch(PASSES))
        yield Block(load, at, at, PASSES, *queue.pop(0)())
    queue.pop()()


def interrupted(launch: Launch, idle_s: float, seconds: float) -> Iterator[Block]:
    """Bursts of BUSY_OVER_IDLE times the idle time that follows each."""
    begin, load = time.monotonic(), f"idle_{idle_s:g}"
    while (at := time.monotonic() - begin) < seconds:
        for block in continuous(launch, load, BUSY_OVER_IDLE * idle_s):
            yield Block(load, at + block.begin_s, block.burst_s, block.passes, *_times(block))
        time.sleep(idle_s)


def _times(block: Block) -> tuple[float, float, float]:
    return block.gemm_s, block.attention_s, block.memory_s


class Holder:
    """Holds SMs with resident blocks on a stream of its own."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._kernel = torch.cuda._compile_kernel(SOURCE, "hold")
        self._kernel.set_shared_memory_config(SHARED_BYTES)
        self._stop = torch.zeros(1, dtype=torch.int32, device="cuda")
        self._one = torch.ones(1, dtype=torch.int32).pin_memory()
        self._held, self._copies = torch.cuda.Stream(), torch.cuda.Stream()

    def start(self) -> None:
        self._torch.cuda.synchronize()
        self._kernel((HELD_SMS, 1, 1), (32, 1, 1), [self._stop], shared_mem=SHARED_BYTES, stream=self._held)
        time.sleep(10 * MILLI)

    def stop(self) -> None:
        with self._torch.cuda.stream(self._copies):
            self._stop.copy_(self._one, non_blocking=True)
        self._copies.synchronize()
        self._held.synchronize()
        self._stop.zero_()


def passes_of(device: Any) -> Launch:
    """Launches passes on a stream of its own."""
    import torch

    groups = gemm_calls(device)[0], attention_calls(device), memory_calls(device)
    side = torch.cuda.Stream()

    def launch(count: int) -> Callable[[], tuple[float, float, float]]:
        rounds = []
        with torch.cuda.stream(side):
            for _ in range(count):
                events = [torch.cuda.Event(enable_timing=True) for _ in range(len(groups) + 1)]
                for event, group in zip(events, groups, strict=False):
                    event.record(side)
                    for call in group:
                        call()
                events[-1].record(side)
                rounds.append(events)

        def wait() -> tuple[float, float, float]:
            rounds[-1][-1].synchronize()
            found = [MILLI * median(e[at].elapsed_time(e[at + 1]) for e in rounds) for at in range(len(groups))]
            return found[0], found[1], found[2]

        return wait

    torch.cuda.synchronize()  # what the calls read is there before another stream reads it
    launch(2)()
    return launch


def measure(launch: Launch, holder: Any, seconds: float, begin: float) -> Iterator[dict[str, Any]]:
    """All loads: name, when each began and ended on the measurement's clock, and its blocks."""
    plain: list[tuple[str, Callable[[], Iterator[Block]]]] = [
        ("full", lambda: continuous(launch, "full", SHARES["full"] * seconds)),
        ("beside", lambda: continuous(launch, "beside", SHARES["beside"] * seconds)),
    ]
    each = SHARES["idle"] * seconds / len(IDLE_S)
    plain += [(f"idle_{idle:g}", lambda idle=idle: interrupted(launch, idle, each)) for idle in IDLE_S]  # type: ignore[misc]
    for name, blocks in plain:
        time.sleep(REST_S)
        if name == "beside":
            holder.start()
        from_s = time.monotonic() - begin
        try:
            found = [asdict(block) for block in blocks()]
        finally:
            if name == "beside":
                holder.stop()
        print(name, len(found), file=sys.stderr, flush=True)
        yield {"load": name, "from_s": from_s, "to_s": time.monotonic() - begin, "blocks": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures one GPU and writes the JSON file."""
    parser = Parser(description="A layer's kernels over minutes, beside held SMs and behind idle times.")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--seconds", type=float, default=330.0)
    parser.add_argument("--index", type=int, default=0)
    given = parser.parse_args(arguments)
    check_output(given.out)
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_MODULE_LOADING="EAGER")
    import torch

    torch.cuda.set_device(given.index)
    torch.manual_seed(0)
    launch, holder, begin = passes_of(torch.device("cuda", given.index)), Holder(), time.monotonic()
    sampler = Sampler(Nvml(given.index).read, begin)
    loads = list(measure(launch, holder, given.seconds, begin))
    samples = [asdict(sample) for sample in sampler.stop()]
    write_json(given.out, {**device_facts(given.index), "loads": loads, "samples": samples})
    return 0


if __name__ == "__main__":
    sys.exit(guarded("steady_power", main))
