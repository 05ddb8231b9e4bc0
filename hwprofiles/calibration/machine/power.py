"""What the GPU draws: each heavy class of kernels alone and with 15, 30 and 60 % of true idle time, and mixes to judge by.

A point is a rest of a second and a load of nine, of which the last five count (power_sweep.observe): watts are the board's
energy counter over the time, idle time is time in which nothing is queued, busy time is between CUDA events. All classes at all
idle times would take four minutes; what is cut: BF16 GEMMs have all three idle times, FP8 GEMMs one, as a FLOP's energy goes
with the speed alike; attention and copies have none, and their energies follow from the point alone. Random numbers.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, Final

from hwprofiles.calibration import power_sweep
from hwprofiles.calibration.machine.part import Emit, Size, told
from hwprofiles.calibration.measuring import driver_number, query_gpu
from hwprofiles.calibration.power_kernels import PowerKernel
from hwprofiles.calibration.power_sweep import BIG, Chip, CudaChip, PowerCase, PowerRow, observe, still

TABLE: Final = "power.csv"
COLUMNS: Final = ("name", *(each for each in power_sweep.COLUMNS if each != "case"), "idle_share", "limit_w", "usual_w")
"""idle_share: of the settled time; limit_w, usual_w: the board's limit, and as it was delivered."""
REST_S, LOAD_S, STILL_S = 1.0, 9.0, 4.0
"""Of a point's ten seconds; and of the one without load."""
IDLE: Final = (0.15, 0.3, 0.6)
BF16, FP8, COPY = f"bf16_gemm {BIG}", f"fp8_gemm {BIG}", "copy 256 MiB"
REST: Final = "rest"
BLIND: Final = "mix "
"""Start of the names of cases that judge the fit and are not in it."""


def cases(names: Collection[str]) -> tuple[PowerCase, ...]:
    """Of the kernels that there are, the most telling first."""
    attention = (("attention_fwd", 1), ("attention_bwd", 1))
    planned = (
        PowerCase(BF16, ((BF16, 1),)),
        PowerCase(COPY, ((COPY, 1),)),
        *(PowerCase(f"{BF16} idle {share:g}", ((BF16, 1),), duty=1.0 - share) for share in IDLE),
        PowerCase(FP8, ((FP8, 1),)),
        *(PowerCase(name, ((name, 1),)) for name, _ in attention),
        PowerCase(f"{FP8} idle 0.3", ((FP8, 1),), duty=0.7),
        PowerCase(f"{BLIND}layer bf16", ((BF16, 3), *attention, (COPY, 3))),
        PowerCase(f"{BLIND}layer fp8 idle 0.25", ((FP8, 3), *attention, (COPY, 6)), duty=0.75),
    )
    return tuple(case for case in planned if {name for name, _ in case.parts} <= set(names))


def seconds(size: Size) -> float:
    """About so long."""
    return 2 * STILL_S + 11 * (REST_S + LOAD_S) if size == "full" else 0.0


def measure(device: Any, size: Size, emit: Emit, done: Collection[str] = ()) -> tuple[str, ...]:
    """Rows of power.csv: about two minutes; none in a quick run, on a CPU, or where NVML does not answer."""
    if size != "full":
        return (f"power: no part of a {size} run; a full one takes two minutes for it",)
    try:
        chip, limits = chip_of(device)
        chip.read()
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        what = "the driver's library (NVML) tells no energy and clock of this GPU, or the kernels do not run"
        return (f"power: {what}: {told(error)}",)
    return sweep(chip, chip.kernels, limits, emit, done)


def chip_of(device: Any) -> tuple[CudaChip, tuple[float, float]]:
    """The GPU, and the board's limit now and as delivered.

    Raises OSError, RuntimeError, ValueError or SubprocessError: its driver does not answer.
    """
    import torch

    index, number = torch.device(device).index or 0, driver_number(device)
    now, delivered = query_gpu(number, "power.limit,power.default_limit").split(", ")
    limits = float(now), float(delivered if delivered[:1].isdigit() else now)
    return CudaChip(index, number), limits


def sweep(
    chip: Chip, kernels: Mapping[str, PowerKernel], limits: tuple[float, float], emit: Emit,
    done: Collection[str] = (),
    load_s: float = LOAD_S,
) -> tuple[str, ...]:  # fmt: skip
    """All cases of these kernels, those that fail named with the reason; none behind a counter that stands still."""
    left_out: list[str] = []

    def told_row(row: PowerRow, share: float) -> None:
        columns = asdict(row)
        emit({"name": columns.pop("case"), **columns, "idle_share": share, "limit_w": limits[0], "usual_w": limits[1]})

    if REST not in done:
        told_row(still(chip, REST, STILL_S, chip.sleep), 1.0)
    for case in cases(kernels):
        if case.name in done:
            continue
        try:
            chip.finish(chip.launch(case, 2))
            row = observe(chip, case, kernels, load_s, REST_S)
        except (OSError, RuntimeError) as error:
            left_out.append(f"power: {case.name}: {told(error)}")
            continue
        if not row.watts > 0:
            left_out.append(f"power: {case.name}: the board's energy counter stands still; no watts")
            break
        told_row(row, 1.0 - row.duty)
    return tuple(left_out)
