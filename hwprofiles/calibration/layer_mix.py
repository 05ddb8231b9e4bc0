"""How far a layer's kernels slow down from the first moments of load to sustained load, and how alike the chips of a host are.

    python -m hwprofiles.calibration.layer_mix -o FILE.json [--seconds 20] [--spread]

Runs on all NVIDIA GPUs of a host at the same time, a process each, with torch. One pass is the forward and backward of one
layer of DeepSeek-V3's sizes at 4,096 tokens: FP8 GEMMs, attention, memory-bound kernels, each class timed by CUDA events.
After 6 s idle the chip is cool and under its power limit; 4 passes (0.1 s) and 8 passes (0.2 s) are its speed in a kernel
benchmark, blocks of 60 passes for --seconds its speed in training. --spread instead holds one kernel at a time (BF16 GEMM, FP8
GEMM, copy): its rate per chip over --seconds (8) behind 5 s of the same load, twice.

Limits: no communication beside; random numbers; passes back to back, without a pipeline's waits, in which a chip cools.
CUDA_VISIBLE_DEVICES must not be set: GPUs are numbered as nvidia-smi does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from statistics import median, median_high
from threading import BrokenBarrierError
from typing import Any, NamedTuple

from hwprofiles.calibration.layer_kernels import Call, attention_calls, gemm_calls, memory_calls, spread_cases
from hwprofiles.calibration.measuring import device_facts, query_gpu
from hwprofiles.units import MEGA, MILLI

IDLE_S, BURSTS, BLOCK = 6.0, (4, 8), 60
"""Seconds without load before each burst; passes of the bursts, and of a block of the continuous load."""
SETTLED_S = 4.5
"""Blocks that begin later into the load count as sustained; the seconds before still warm the chip."""
WARM_UP_S, ROUNDS = 5.0, 2
"""Of --spread."""
START_TIMEOUT_S = 600.0
"""How long a GPU's process waits for those of the others."""
CLASSES = ("gemm", "attention", "memory")


class Reading(NamedTuple):
    """What nvidia-smi reports: SM clock (now), power (an average over a second), temperature."""

    sm_clock_hz: float
    power_w: float
    temperature_c: float


@dataclass(frozen=True)
class Sample:
    """Some passes in a row. state: burst_4, burst_8 or load; begin_s: into the load; medians over the passes by class."""

    state: str
    begin_s: float
    gemm_s: float
    attention_s: float
    memory_s: float
    reading: Reading

    @property
    def columns(self) -> dict[str, float]:
        """As the columns of hwprofiles/measurements/hopper-layer-mix-*.csv."""
        times = {f"{name}_s": getattr(self, f"{name}_s") for name in CLASSES}
        return {**times, "total_s": sum(times.values()), **self.reading._asdict()}


def parse_reading(line: str) -> Reading:
    """Of a line "MHz, W, C" without units. Raises ValueError if it is anything else."""
    clock_mhz, power_w, temperature_c = (float(value) for value in line.split(", "))
    return Reading(clock_mhz * MEGA, power_w, temperature_c)


def bursts_and_load(
    observe: Callable[[str, float, int], Sample],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sample]:
    """The bursts, each after an idle time except the first (the caller idles), then blocks until `seconds` of load."""
    for place, count in enumerate(BURSTS):
        if place:
            sleep(IDLE_S)
        yield observe(f"burst_{count}", 0.0, count)
    begin = clock()
    while (elapsed_s := clock() - begin) < seconds:
        yield observe("load", elapsed_s, BLOCK)


def summarise(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """State → column → median over its samples; `sustained` are the load's from SETTLED_S on. ValueError if one has none."""
    states = {f"burst_{count}": [sample for sample in samples if sample.state == f"burst_{count}"] for count in BURSTS}
    states["sustained"] = [sample for sample in samples if sample.state == "load" and sample.begin_s >= SETTLED_S]
    if empty := [state for state, members in states.items() if not members]:
        raise ValueError(f"no sample of {', '.join(empty)}")
    return {
        state: {column: median(sample.columns[column] for sample in members) for column in members[0].columns}
        for state, members in states.items()
    }


def slowdowns(states: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Class → burst → sustained time / time in that burst."""
    sustained = states["sustained"]
    return {
        name: {
            burst: sustained[f"{name}_s"] / times[f"{name}_s"]
            for burst, times in states.items()
            if burst != "sustained"
        }
        for name in CLASSES
    }


def measure_mix(index: int, seconds: float) -> dict[str, Any]:
    """Samples of one GPU, their summary and slow-downs; starts together with the other GPUs' processes."""
    import torch

    device = _use(index)
    gemms, num_block_scaled = gemm_calls(device)
    groups = (gemms, attention_calls(device), memory_calls(device))
    side = torch.cuda.Stream()

    def run_pass() -> list[Any]:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(len(groups) + 1)]
        for event, group in zip(events, groups, strict=False):
            event.record()
            for call in group:
                call()
        events[-1].record()
        return events

    def observe(state: str, begin_s: float, count: int) -> Sample:
        with torch.cuda.stream(side):
            passes = [run_pass() for _ in range(count)]
        side.synchronize()
        gemm_s, attention_s, memory_s = (
            MILLI * median_high(events[place].elapsed_time(events[place + 1]) for events in passes)
            for place in range(len(groups))
        )
        return Sample(state, begin_s, gemm_s, attention_s, memory_s, read_gpu(index))

    for _ in range(3):
        run_pass()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        for _ in range(2):
            run_pass()
    side.synchronize()
    time.sleep(IDLE_S)
    _wait_for_all()
    samples = list(bursts_and_load(observe, seconds))
    states = summarise(samples)
    return {
        **device_facts(index),
        "num_gemms_block_scaled": num_block_scaled,
        "num_gemms_scaled_per_tensor": len(gemms) - num_block_scaled,
        "states": states,
        "slowdowns": slowdowns(states),
        "samples": [{"state": sample.state, "begin_s": sample.begin_s, **sample.columns} for sample in samples],
    }


def measure_spread(index: int, seconds: float) -> dict[str, Any]:
    """Sustained rates of one GPU, one kernel at a time; starts together with the other GPUs' processes."""
    import torch

    cases = spread_cases(_use(index))
    for call, _, _ in cases.values():
        call()
    torch.cuda.synchronize()
    _wait_for_all()
    rows = []
    for turn in range(ROUNDS):
        for name, (call, amount, unit) in cases.items():
            _repeat(call, WARM_UP_S)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            count = _repeat(call, seconds)
            end.record()
            end.synchronize()
            rate = amount * count / (begin.elapsed_time(end) * MILLI)
            rows.append({"name": name, "round": turn, f"{unit}_per_s": rate, **read_gpu(index)._asdict()})
    return {**device_facts(index), "rows": rows}


def read_gpu(index: int) -> Reading:
    """Clock, power and temperature now."""
    return parse_reading(query_gpu(index, "clocks.sm,power.draw,temperature.gpu"))


def run_together(worker: Callable[[int, float], dict[str, Any]], num_gpus: int, seconds: float) -> list[dict[str, Any]]:
    """worker(index, seconds) in one process a GPU, all loaded at the same time. Raises what a failed one raised."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(num_gpus)
    with ProcessPoolExecutor(num_gpus, context, initializer=_share, initargs=(barrier,)) as pool:
        futures = [pool.submit(_abort_on_failure, worker, index, seconds) for index in range(num_gpus)]
        wait(futures)
        failures = [error for future in futures if (error := future.exception()) is not None]
        if failures:
            raise min(failures, key=lambda error: isinstance(error, BrokenBarrierError))
        return [future.result() for future in futures]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures on all GPUs and writes the JSON file."""
    parser = argparse.ArgumentParser(description="Times a layer's kernels in bursts and under sustained load.")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--seconds", type=float, help="of load (20); with --spread of each kernel (8)")
    parser.add_argument("--spread", action="store_true", help="one kernel at a time: how alike are the chips?")
    given = parser.parse_args(arguments)
    seconds = (8.0 if given.spread else 20.0) if given.seconds is None else given.seconds
    least_s = 1.0 if given.spread else 2 * SETTLED_S
    if not least_s <= seconds < float("inf"):
        parser.error(f"--seconds {seconds:g}: must be at least {least_s:g}")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        parser.error("CUDA_VISIBLE_DEVICES is set; GPUs are numbered as nvidia-smi does, unset it")
    # For the processes to come, before CUDA starts: the numbers of nvidia-smi, and no kernel loaded while others run.
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_MODULE_LOADING="EAGER")
    import torch

    num_gpus = torch.cuda.device_count()
    if num_gpus == 0:
        parser.error("no GPU that torch can use")
    measured = run_together(measure_spread if given.spread else measure_mix, num_gpus, seconds)
    result = {"mode": "spread" if given.spread else "mix", "seconds": seconds, "gpus": measured}
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


_start: Any = None
"""The barrier of all GPUs' processes, in each of them."""


def _share(barrier: Any) -> None:
    global _start
    _start = barrier


def _wait_for_all() -> None:
    _start.wait(START_TIMEOUT_S)


def _abort_on_failure(worker: Callable[[int, float], dict[str, Any]], index: int, seconds: float) -> dict[str, Any]:
    """Lets the others go, with BrokenBarrierError, when one fails before the start."""
    try:
        return worker(index, seconds)
    except BaseException:
        _start.abort()
        raise


def _use(index: int) -> Any:
    import torch

    torch.cuda.set_device(index)
    torch.manual_seed(0)
    return torch.device("cuda", index)


def _repeat(call: Call, seconds: float) -> int:
    """Calls for so many seconds, 50 at a time; how many."""
    import torch

    count, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        for _ in range(50):
            call()
        count += 50
        torch.cuda.synchronize()
    return count


if __name__ == "__main__":
    sys.exit(main())
