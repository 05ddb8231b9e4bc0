"""Watts, clock and speed of one NVIDIA GPU under kernels alone, in mixes, and with idle time between them.

    python -m hwprofiles.calibration.power_sweep --out FILE.csv [--index 0] [--seconds 8] [--date 2026-11-27]

Writes FILE.csv, one row a case, and FILE.yaml: GPU, driver, power limit, torch, what the columns are. Each case is a round of
kernels that is repeated behind a rest: its first rounds one by one, then blocks without a break for --seconds. Idle time is
true: the host sleeps while nothing is queued, and the busy time of a round is that between CUDA events around its launches.
Watts are the board's energy counter over the settled part of the load. `spin` is one waiting kernel, `rest` none.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from hwprofiles.calibration.command import Parser, check_output, guarded, write_table
from hwprofiles.calibration.measuring import Clock, device_facts
from hwprofiles.calibration.nvml import Nvml, PowerReading
from hwprofiles.calibration.power_kernels import PowerKernel, power_kernels
from hwprofiles.units import MEGA, MILLI

REST_S, FIRST_ROUNDS, BLOCK_S, BURST_S = 2.0, 6, 0.04, 0.01
"""Rest before a case; its rounds timed one by one; length of a block; least busy time between two idle times."""
SETTLED_SHARE = 0.55
"""Of the load's seconds: its end, over which the power controller has come to rest."""
MOMENTS = {"at_0p05_s": 0.05, "at_0p2_s": 0.2, "at_0p5_s": 0.5}
"""Seconds into the load, of whose block the row holds the mean."""
DUTIES = (0.9, 0.8, 0.65, 0.5)
BIG = "8192x8192x8192"


@dataclass(frozen=True)
class PowerCase:
    """A round: kernel → launches; idle_s, or the share of the time that is busy (1: never idle)."""

    name: str
    parts: tuple[tuple[str, int], ...]
    idle_s: float = 0.0
    duty: float = 1.0


@dataclass(frozen=True)
class Block:
    """Rounds in a row: begin into the load, seconds a round with its idle time, and those that it was busy."""

    begin_s: float
    round_s: float
    busy_s: float


@dataclass(frozen=True)
class PowerRow:
    """A line of the CSV. parts: kernel*launches + …; flop, bytes_moved, *_s: of a round; means over the settled load."""

    case: str
    parts: str
    flop: float
    bytes_moved: float
    duty: float
    first_s: float
    at_0p05_s: float
    at_0p2_s: float
    at_0p5_s: float
    sustained_s: float
    busy_s: float
    watts: float
    sm_mhz: float
    temperature_c: float


COLUMNS = {
    "case": "name; spin: one kernel that waits on one SM; rest: nothing queued, behind the load of the other cases",
    "parts": "kernels of a round and launches of each",
    "flop": "of a round",
    "bytes_moved": "read and written once, of a round",
    "duty": "share of the settled time between the CUDA events around a round's launches",
    "first_s": f"shortest of the first {FIRST_ROUNDS} rounds after a rest of {REST_S:g} s, without idle time",
    "at_0p05_s": "a round in the block that runs 0.05 s into the load, with its idle time; at_0p2_s, at_0p5_s alike",
    "at_0p2_s": "see at_0p05_s",
    "at_0p5_s": "see at_0p05_s",
    "sustained_s": f"a round with its idle time, mean over the last {100 * SETTLED_SHARE:.0f} % of the load",
    "busy_s": "the part of it between the events",
    "watts": f"the board's energy counter over those {100 * SETTLED_SHARE:.0f} %, by the time",
    "sm_mhz": "SM clock, mean of the readings there",
    "temperature_c": "of the GPU, likewise",
}


class Chip(Protocol):
    """What a measurement needs of a device."""

    def now(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...
    def read(self) -> PowerReading: ...
    def launch(self, case: PowerCase, rounds: int) -> Any: ...
    def finish(self, launched: Any) -> float: ...


def cases(names: Sequence[str]) -> list[PowerCase]:
    """Every kernel alone; GEMMs with idle time; mixes of what there is."""
    have = set(names)
    alone = [PowerCase(name, ((name, 1),)) for name in names]
    bf16, fp8, copy = f"bf16_gemm {BIG}", f"fp8_gemm {BIG}", "copy 256 MiB"
    duty = [PowerCase(f"duty {share} {bf16}", ((bf16, 1),), duty=share) for share in DUTIES]
    duty += [PowerCase(f"duty {share} {fp8}", ((fp8, 1),), duty=share) for share in (0.8, 0.5)]
    attention = (("attention_fwd", 1), ("attention_bwd", 1))
    mixes = [
        PowerCase("mix gemm + copy x4", ((bf16, 1), (copy, 4))),
        PowerCase("mix gemm x2 + copy x2", ((bf16, 2), (copy, 2))),
        PowerCase("mix gemm x4 + copy", ((bf16, 4), (copy, 1))),
        PowerCase("mix gemm x2 + idle", ((bf16, 2),), idle_s=0.8 * MILLI),
        PowerCase("mix layer bf16", ((bf16, 3), *attention, (copy, 3))),
        PowerCase("mix layer fp8", ((fp8, 3), *attention, (copy, 6))),
        PowerCase("mix layer fp8 duty 0.75", ((fp8, 3), *attention, (copy, 6)), duty=0.75),
    ]
    return [case for case in chain(alone, duty, mixes) if have >= {name for name, _ in case.parts}]


def observe(
    chip: Chip, case: PowerCase, kernels: Mapping[str, PowerKernel], seconds: float, rest_s: float = REST_S
) -> PowerRow:
    """One case: a rest, the first rounds, the load."""
    chip.sleep(rest_s)
    first_s = min(chip.finish(chip.launch(case, 1)) for _ in range(FIRST_ROUNDS))
    waits = case.duty < 1.0 or case.idle_s > 0.0
    load = _idle_load if waits else _full_load
    blocks: list[Block] = []
    readings: list[tuple[float, PowerReading]] = []
    begin = chip.now()
    for block in load(chip, case, first_s, seconds):
        blocks.append(block)
        readings.append((chip.now() - begin, chip.read()))
    settled_from = (1.0 - SETTLED_SHARE) * seconds
    settled = [block for block in blocks if block.begin_s >= settled_from]
    read = [(at, reading) for at, reading in readings if at >= settled_from]
    if len(settled) < 2 or len(read) < 2:
        raise RuntimeError(f"{case.name}: {seconds:g} s of load hold too few blocks")
    (from_s, start), (to_s, end) = read[0], read[-1]
    round_s, busy_s = fmean(b.round_s for b in settled), fmean(b.busy_s for b in settled)
    amount = [(kernels[name], count) for name, count in case.parts]
    return PowerRow(
        case=case.name,
        parts=" + ".join(f"{name}*{count}" for name, count in case.parts),
        flop=sum(kernel.flop * count for kernel, count in amount),
        bytes_moved=sum(kernel.bytes_moved * count for kernel, count in amount),
        duty=busy_s / round_s,
        first_s=first_s,
        **{column: _at(blocks, moment) for column, moment in MOMENTS.items()},
        sustained_s=round_s,
        busy_s=busy_s,
        watts=(end.energy_j - start.energy_j) / (to_s - from_s),
        sm_mhz=fmean(reading.sm_clock_hz for _, reading in read) / MEGA,
        temperature_c=fmean(reading.temperature_c for _, reading in read),
    )


def _full_load(chip: Chip, case: PowerCase, round_s: float, seconds: float) -> Iterator[Block]:
    """Blocks without a break: two are queued at any time, so that the GPU never waits for the host."""
    count = max(1, round(BLOCK_S / round_s))
    begin, begin_s = chip.now(), 0.0
    queue = [chip.launch(case, count)]
    while chip.now() - begin < seconds:
        queue.append(chip.launch(case, count))
        block_s = chip.finish(queue.pop(0))
        yield Block(begin_s, block_s / count, block_s / count)
        begin_s += block_s
    chip.finish(queue.pop())


def _idle_load(chip: Chip, case: PowerCase, round_s: float, seconds: float) -> Iterator[Block]:
    """Rounds with sleep between them; several at once where one is short, unless the idle time is given in seconds."""
    count = max(1, round(BURST_S / round_s)) if case.duty < 1.0 else 1
    per_block = max(1, round(BLOCK_S * case.duty / (count * round_s)))
    begin = chip.now()
    while (at_s := chip.now() - begin) < seconds:
        busy_s = 0.0
        for _ in range(per_block):
            burst_s = chip.finish(chip.launch(case, count))
            busy_s += burst_s
            chip.sleep(case.idle_s or burst_s * (1.0 / case.duty - 1.0))
        rounds = per_block * count
        yield Block(at_s, (chip.now() - begin - at_s) / rounds, busy_s / rounds)


def _at(blocks: Sequence[Block], moment: float) -> float:
    """Seconds of a round in the block that runs at a moment of the load."""
    return [block for block in blocks if block.begin_s <= moment][-1].round_s


def still(chip: Chip, name: str, seconds: float, wait: Callable[[float], None]) -> PowerRow:
    """Watts while nothing is computed. wait: lets so many seconds pass."""
    wait(0.5 * seconds)
    start, from_s = chip.read(), chip.now()
    wait(0.5 * seconds)
    end, to_s = chip.read(), chip.now()
    watts = (end.energy_j - start.energy_j) / (to_s - from_s)
    return PowerRow(
        case=name, parts="", flop=0.0, bytes_moved=0.0, duty=0.0, first_s=0.0, at_0p05_s=0.0, at_0p2_s=0.0,
        at_0p5_s=0.0, sustained_s=0.0, busy_s=0.0,
        watts=watts, sm_mhz=end.sm_clock_hz / MEGA, temperature_c=end.temperature_c,
    )  # fmt: skip


class CudaChip:
    """Chip of torch and NVML."""

    def __init__(self, index: int, number: int | None = None) -> None:
        """index: as torch counts; number: as nvidia-smi does, None: the same."""
        import torch

        torch.cuda.set_device(index)
        torch.manual_seed(0)
        self.torch, self.nvml = torch, Nvml(index if number is None else number)
        device = torch.device("cuda", index)
        self.kernels: Mapping[str, PowerKernel] = power_kernels(device)
        self.clock = Clock(device)
        self.now, self.sleep, self.read = time.perf_counter, time.sleep, self.nvml.read

    def launch(self, case: PowerCase, rounds: int) -> Any:
        """Queues rounds between two events."""
        calls = [self.kernels[name].call for name, count in case.parts for _ in range(count)]
        begin = self.clock.mark()
        for call in calls * rounds:
            call()
        return begin, self.clock.mark()

    def finish(self, launched: Any) -> float:
        """Waits for what was launched together; its seconds."""
        return self.clock.between(*launched)

    def spin(self, seconds: float) -> None:
        """One kernel that waits, launched again until the seconds are over."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self.torch.cuda._sleep(int(20 * MEGA))
            self.torch.cuda.synchronize()


def measure(index: int, seconds: float) -> list[PowerRow]:
    """All cases on one GPU."""
    chip = CudaChip(index)
    planned = cases(list(chip.kernels))
    for case in planned[: len(chip.kernels)]:
        chip.finish(chip.launch(case, 3))
    rows = [still(chip, "rest", seconds, chip.sleep), still(chip, "spin", seconds, chip.spin)]
    for case in planned:
        rows.append(observe(chip, case, chip.kernels, seconds))
        print(json.dumps(asdict(rows[-1])), flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 for what cannot be measured."""
    return guarded("power_sweep", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.power_sweep", description="Watts, clock and speed of one NVIDIA GPU."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load, each case")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="of the measurement")
    given = parser.parse_args(arguments)
    check_output(given.out)
    if not 1.0 <= given.seconds < float("inf"):
        parser.error(f"--seconds {given.seconds:g}: must be at least 1")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        parser.error("CUDA_VISIBLE_DEVICES is set; GPUs are numbered as nvidia-smi does, unset it")
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_MODULE_LOADING="EAGER")
    import torch

    if torch.cuda.device_count() <= given.index:
        parser.error(f"--index {given.index}: torch finds {torch.cuda.device_count()} GPUs")
    facts = {name: value for name, value in device_facts(given.index).items() if name != "index"}
    how = f"each case alone for {given.seconds:g} s on random numbers, after {REST_S:g} s of rest, nothing else on the GPU"
    program = "python -m hwprofiles.calibration.power_sweep"
    facts |= {"made_by": program, "date": given.date, "note": how}
    write_table(given.out, measure(given.index, given.seconds), facts, COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
