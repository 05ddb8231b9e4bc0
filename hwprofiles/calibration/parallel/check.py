"""Does an expert group give what one device gives, and what do dispatch, combine and the overlap of two micro-batches take?

    python -m hwprofiles.calibration.parallel.check -o FILE.json [--device cuda|cpu] [--small]

Runs on all GPUs of a host, a process each, by NCCL; on a CPU two processes by gloo, a rehearsal. Times are in seconds, of the
slowest rank, medians. One host's GPUs are called nodes of fewer ranks too: what that costs in copies and kernels is real, the
wire is NVLink. Exit code 1 where results differ by more than the formats do.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
import torch.distributed as dist
import torch.multiprocessing

from hwprofiles.calibration.command import Parser, check_output, guarded, write_json
from hwprofiles.calibration.measuring import device_facts
from hwprofiles.calibration.model.config import Ffn, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.router import Routing
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.device import cpu_or_gpu
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel import overlap
from hwprofiles.calibration.parallel.comparing import comparisons, node_sizes
from hwprofiles.calibration.parallel.expert_dispatch import ExpertDispatch
from hwprofiles.calibration.parallel.groups import expert_group
from hwprofiles.calibration.parallel.layout import plan
from hwprofiles.calibration.parallel.wire import Wire


@dataclass(frozen=True)
class Sizes:
    """What is measured. compared_*: of the layer that is compared; tokens: of a rank's micro-batch; experts: of a rank."""

    compared_hidden: int
    compared_tokens: int
    compared: Moe
    hidden: int
    tokens: int
    experts: int
    attention: Mla
    moe: Moe
    vocabulary: int
    layers: int = 3
    micro_batches: int = 4
    warm_up: int = 3
    calls: int = 15


LARGE: Final = Sizes(
    1024, 512, Moe(64, 8, Ffn(512), num_shared=1, score="sigmoid", has_bias=True), 7168, 4096, 16,
    Mla(128, 1536, 512, 128, 64, 128), Moe(1, 8, Ffn(2048), num_shared=1, score="sigmoid", has_bias=True), 8192,
)  # fmt: skip
"""DeepSeek-V3's layer (report 4.2) and micro-batch, with fewer experts a rank than memory allows, and no limit of nodes."""
SMALL: Final = Sizes(
    128, 6, Moe(8, 3, Ffn(16), num_shared=1, score="sigmoid", has_bias=True), 128, 8, 4, Mla(2, 8, 8, 4, 4, 8),
    Moe(1, 2, Ffn(8), num_shared=1, score="sigmoid", has_bias=True), 32, layers=2, micro_batches=2, warm_up=1, calls=2,
)  # fmt: skip


def timed(call: Callable[[], Any], device: torch.device, sizes: Sizes) -> float:
    """Median seconds of a call on the slowest rank; ranks begin together."""
    seconds = []
    for number in range(sizes.warm_up + sizes.calls):
        dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= sizes.warm_up:
            seconds.append(time.perf_counter() - begin)
    slowest = torch.tensor([median(seconds)], dtype=torch.float64, device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return float(slowest)


def transfers(sizes: Sizes, device: torch.device) -> Iterator[dict[str, Any]]:
    """Layout, dispatch (with it) and combine of random choices, for every size of node and format; copies and bytes a rank."""
    world, rank = dist.get_world_size(), dist.get_rank()
    num_experts = sizes.experts * world
    draw = torch.Generator().manual_seed(rank)
    experts = torch.rand(sizes.tokens, num_experts, generator=draw).topk(sizes.moe.top_k).indices.to(device)
    routing = Routing(experts, torch.rand(experts.shape, generator=draw).to(device), torch.empty(0, num_experts))
    x = torch.randn(sizes.tokens, sizes.hidden, generator=draw).bfloat16().to(device)
    for ranks_per_node in node_sizes(world):
        group = expert_group(num_experts, ranks_per_node)
        for wire in ("bf16", "fp8"):
            dispatcher = ExpertDispatch(group, wire)
            received = dispatcher.dispatch(x, routing)
            dispatcher.combine(received.rows, received)
            traffic = dispatcher.traffic
            yield {
                "ranks_per_node": ranks_per_node, "wire": wire, "tokens": traffic.tokens,
                "node_copies": traffic.node_copies, "rank_copies": traffic.rank_copies, "rows": len(received.rows),
                "bytes": {f"{way} {level}": sent for (way, level), sent in sorted(traffic.bytes_sent.items())},
                "layout_s": timed(partial(plan, experts, group), device, sizes),
                "dispatch_s": timed(partial(dispatcher.dispatch, x, routing), device, sizes),
                "combine_s": timed(partial(dispatcher.combine, received.rows, received), device, sizes),
            }  # fmt: skip


def steps(sizes: Sizes, device: torch.device, wire: Wire) -> dict[str, Any]:
    """A step of several micro-batches in BF16, one after another and overlapped: seconds a micro-batch, and the differences.

    All ranks are one node.
    """
    world, rank = dist.get_world_size(), dist.get_rank()
    moe = replace(sizes.moe, num_experts=sizes.experts * world)
    config = ModelConfig("check", sizes.hidden, sizes.vocabulary, (Layer(sizes.attention, moe),) * sizes.layers)
    dispatcher = ExpertDispatch(expert_group(moe.num_experts, world), wire)
    model = Model(config, numerics("bf16", device), dispatcher=dispatcher, device=device)
    draw = torch.Generator().manual_seed(rank)
    shape = (sizes.micro_batches, 1, sizes.tokens + 1)
    tokens = torch.randint(sizes.vocabulary, shape, generator=draw).to(device)

    def plain() -> None:
        for batch in tokens:
            model(batch).total().backward()

    def paired() -> None:
        overlap.train(model, tokens)

    def gradients(call: Callable[[], None]) -> torch.Tensor:
        model.zero_grad(set_to_none=True)
        call()
        return torch.stack([each.grad.double().norm() for each in model.parameters() if each.grad is not None])

    before, after = gradients(plain), gradients(paired)
    few = replace(sizes, warm_up=1, calls=max(2, sizes.calls // 3))
    seconds = {
        name: timed(call, device, few) / sizes.micro_batches for name, call in (("plain", plain), ("paired", paired))
    }
    return {
        "wire": wire, "layers": sizes.layers, "micro_batches": sizes.micro_batches,
        **{f"{name}_s": each for name, each in seconds.items()},
        "gradient_norms_apart": float(((before - after).abs() / before.clamp_min(1e-30)).max()),
        "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
    }  # fmt: skip


def measure(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """All of it; every rank takes part."""
    facts = device_facts(0) if device.type == "cuda" else {"gpu": "none", "torch": torch.__version__}
    facts.pop("index", None)
    return {
        **facts, "ranks": dist.get_world_size(), "hidden": sizes.hidden, "tokens": sizes.tokens,
        "experts_per_rank": sizes.experts, "top_k": sizes.moe.top_k,
        "equality": list(comparisons(sizes.compared, sizes.compared_hidden, sizes.compared_tokens, device)),
        "transfers": list(transfers(sizes, device)),
        "steps": [steps(sizes, device, wire) for wire in ("bf16", "fp8")],
    }  # fmt: skip


def worker(rank: int, world: int, kind: str, out: str, is_small: bool, meeting: str) -> None:
    """One rank; the first writes the file. meeting: path of a file by which the processes find each other."""
    os.environ["NCCL_NVLS_ENABLE"] = "0"
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=world)
    try:
        result = measure(device, SMALL if is_small else LARGE)
        if rank == 0:
            write_json(Path(out), result)
    finally:
        dist.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the JSON file. Exit code: 0, 1 where results differ, 2 for input or a device that cannot be."""
    return guarded("check", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.parallel.check",
        description="Compares and times experts on several GPUs.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="small sizes: a rehearsal")
    given = parser.parse_args(arguments)
    cpu_or_gpu(given.device)
    check_output(given.out)
    world = torch.cuda.device_count() if given.device == "cuda" else 2
    with TemporaryDirectory() as folder:
        asked = (world, given.device, str(given.out), given.small, str(Path(folder) / "meeting"))
        torch.multiprocessing.start_processes(worker, asked, nprocs=world, start_method="forkserver")
    rows = json.loads(given.out.read_text(encoding="utf-8"))["equality"]
    for row in rows:
        if not row["is_within"]:
            print(f"differs: {json.dumps(row)}", file=sys.stderr)
    return 0 if all(row["is_within"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
