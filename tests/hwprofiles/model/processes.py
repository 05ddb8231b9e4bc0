"""A function on several processes that talk by gloo, for tests. torch is imported once; each process is forked from it."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "hwprofiles.calibration.parallel.stages", "pytest",
    "torch.fx.experimental.symbolic_shapes", "torch._dynamo",  # what torch imports at a first backward, or checkpoint
])  # fmt: skip
WAIT_S = 240.0


def run_ranks(function: Callable[..., Any], world: int, folder: Path, *args: Any) -> list[Any]:
    """function(rank, *args) on each of `world` ranks of the default group; what each gave, by rank.

    function: of a module's top level; what it takes and gives can be pickled (send tensors as lists, or by files in `folder`).
    Raises AssertionError with the traceback of a rank that failed.
    """
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(world)]
    processes = [
        CONTEXT.Process(target=_rank, args=(function, rank, world, str(folder / "rendezvous"), pipes[rank][1], args))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for _, write in pipes:
        write.close()
    try:
        results = [
            read.recv() if read.poll(WAIT_S) else ("failed", f"no answer in {WAIT_S:.0f} s") for read, _ in pipes
        ]
    finally:
        for process in processes:
            process.join(5)
            process.kill()
            process.join()
    failures = [f"rank {rank}: {value}" for rank, (state, value) in enumerate(results) if state == "failed"]
    assert not failures, "\n".join(failures)
    return [value for _, value in results]


def _rank(function: Callable[..., Any], rank: int, world: int, store: str, pipe: Any, args: tuple[Any, ...]) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        pipe.send(("done", function(rank, *args)))
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))
    finally:
        dist.destroy_process_group()
