"""Starts processes of one test on gloo, from a process that has torch loaded already: a fork takes a fraction of a start.

    python -m tests.hwprofiles.model.parallel_start MODULE FOLDER RANKS…

Of each number of ranks every process calls MODULE's `check(rank, ranks)`, in groups one after another; what rank 0 returns is
written to FOLDER/RANKS.json.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

Check = Callable[[int, int], dict[str, Any]]


def _process(check: Check, folder: Path, rank: int, ranks: int) -> None:
    store = dist.FileStore(str(folder / f"store{ranks}"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=60))
    result = check(rank, ranks)
    if rank == 0:
        (folder / f"{ranks}.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


def start(check: Check, folder: Path, ranks: int) -> None:
    """Runs the check on so many processes; raises RuntimeError where one fails."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_process, args=(check, folder, rank, ranks)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.exitcode is None:
            process.kill()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"exit codes {[process.exitcode for process in processes]} of {ranks} ranks")


if __name__ == "__main__":
    torch.set_num_threads(1)
    module, into, *sizes = sys.argv[1:]
    for size in sizes:
        start(import_module(module).check, Path(into), int(size))
