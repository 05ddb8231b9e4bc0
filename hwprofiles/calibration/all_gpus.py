"""A program that measures with all NVIDIA GPUs of a host, a process each: how they start, meet, and write one JSON file.

On CPUs two processes of gloo stand for the GPUs, only to try a program.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwprofiles.calibration.command import write_json
from hwprofiles.calibration.measuring import device_facts

CPU_PROCESSES = 2


@dataclass(frozen=True)
class Place:
    """A process among all: its rank and their number, cuda or cpu, and whether sizes are tiny, to try the program."""

    rank: int
    world: int
    device: str
    is_quick: bool


Measure = Callable[[Place], dict[str, Any]]
"""What each process does; the file has what rank 0's gives. A function of a module, or a partial of one: processes load it."""


def options(description: str) -> argparse.ArgumentParser:
    """The options of such a program."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the program")
    return parser


def run_on_all(given: argparse.Namespace, measure: Measure) -> None:
    """Starts the processes. given: of `options`."""
    import torch

    world = torch.cuda.device_count() if given.device == "cuda" else CPU_PROCESSES
    with TemporaryDirectory() as folder:
        place = (world, given.device, given.quick)
        args = (measure, str(given.out), str(Path(folder) / "meeting"), place)
        torch.multiprocessing.spawn(_worker, args, nprocs=world)


def _worker(rank: int, measure: Measure, out: str, meeting: str, place: tuple[int, str, bool]) -> None:
    """One process; rank 0 writes the file. meeting: path of a file by which the processes find each other."""
    import torch
    import torch.distributed as dist

    os.environ["NCCL_NVLS_ENABLE"] = "0"
    own = Place(rank, *place)
    if own.device == "cuda":
        torch.cuda.set_device(rank)
    backend = "nccl" if own.device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=own.world)
    torch.manual_seed(rank)
    result = {**software_facts(own.device), "num_gpus": own.world, **measure(own)}
    if rank == 0:
        write_json(Path(out), result)
    dist.destroy_process_group()


def software_facts(device: str) -> dict[str, Any]:
    """The GPU and its driver, versions of torch and NCCL."""
    import torch

    if device != "cuda":
        return {"gpu": "none", "torch": torch.__version__}
    return {**device_facts(0), "nccl": ".".join(map(str, torch.cuda.nccl.version()))}


def main(description: str, measure: Measure, arguments: Sequence[str] | None) -> int:
    """A program without options of its own. Returns its exit code."""
    run_on_all(options(description).parse_args(arguments), measure)
    return 0
