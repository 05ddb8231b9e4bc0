"""Runs a measurement on all GPUs of the host, a process each, and hands its rows over; a dead or hung process ends it.

Rank 0 appends its rows to a file, a line of JSON each, which this process follows: what was measured is kept whatever happens
next. Where no row came for `silence_s`, or a process died, all are ended and the reason is told.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hwprofiles.calibration.machine.part import Emit, told

START_S: Final = 90.0
"""More silence than later: processes load torch and meet."""
POLL_S: Final = 0.2
Work = Callable[["Rank"], Iterator[Mapping[str, Any]]]
"""What each process does; only the rows of rank 0 count. A function of a module, or a partial of one: processes load it."""


@dataclass(frozen=True)
class Rank:
    """A process among all. device: cuda or cpu; is_tiny: sizes to try the program."""

    rank: int
    world: int
    device: str
    is_tiny: bool


def run(
    work: Work, world: int, device: str, emit: Emit, *, is_tiny: bool, silence_s: float, start_s: float = START_S
) -> str | None:  # fmt: skip
    """None: all done; else why it ended early. emit: takes the rows."""
    import torch

    with TemporaryDirectory() as folder:
        rows, meeting = Path(folder, "rows"), Path(folder, "meeting")
        rows.touch()
        seen, heard = 0, time.monotonic()
        context = torch.multiprocessing.spawn(
            _process, (work, str(rows), str(meeting), world, device, is_tiny, silence_s), nprocs=world, join=False
        )
        try:
            while True:
                ended = context.join(timeout=POLL_S)
                lines = rows.read_text(encoding="utf-8").split("\n")[:-1]
                for line in lines[seen:]:
                    emit(json.loads(line))
                if len(lines) > seen:
                    seen, heard = len(lines), time.monotonic()
                if ended:
                    return None
                allowed = silence_s + (0.0 if seen else start_s)
                if time.monotonic() - heard > allowed:
                    return f"a process hung: no row for {allowed:g} s, behind {seen} rows"
        except Exception as error:  # a process died: its own error, whatever it was
            for line in rows.read_text(encoding="utf-8").split("\n")[:-1][seen:]:
                emit(json.loads(line))
            return f"a process died: {told(_last_line(error))}"
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()
                process.join()


def _last_line(error: Exception) -> Exception:
    """What a process raised is the last line of what spawn tells of it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return type(error)(*error.args) if not lines else RuntimeError(lines[-1])


def _process(
    rank: int, work: Work, rows: str, meeting: str, world: int, device: str, is_tiny: bool, silence_s: float
) -> None:
    """One process."""
    import torch
    import torch.distributed as dist

    os.environ["NCCL_NVLS_ENABLE"] = "0"
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world,
        timeout=timedelta(seconds=max(silence_s, 1.0)),
    )  # fmt: skip
    torch.manual_seed(rank)
    with Path(rows).open("a", encoding="utf-8") as file:
        for row in work(Rank(rank, world, device, is_tiny)):
            if rank == 0:
                file.write(json.dumps(dict(row)) + "\n")
                file.flush()
    dist.destroy_process_group()
