"""Does a pipeline schedule give what plain training gives? Executes its document with a small model, a process a rank.

    moesim schedule dualpipe --pp 4 --micro-batches 8 --json | python -m hwprofiles.calibration.parallel.execute -

The model has a dense layer, MoE layers and a multi-token-prediction module, a layer a stage, in float64. Exit code 1 where
losses or gradients differ from those of one process, 2 for a document that cannot be executed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from hwprofiles.calibration.command import Parser, guarded
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import Ffn, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel.messages import traffic_of
from hwprofiles.calibration.parallel.order import Order, read_order
from hwprofiles.calibration.parallel.pipeline import Pipeline
from hwprofiles.calibration.parallel.stages import build_stages, message_form
from hwprofiles.problem import Problem

TOLERANCE: Final = 1e-10
"""Of a loss, and of a gradient against its largest entry: float64 has 2e-16, and sums are in another order."""
SHAPE: Final = (2, 16)
"""Sequences of a micro-batch, tokens of a sequence."""
WAIT_S: Final = 60.0
_ATTENTION: Final = Mla(4, 16, 16, 8, 4, 8)
_MOE: Final = Moe(8, 2, Ffn(24), num_shared=1, num_groups=4, max_groups=2, score="sigmoid", has_bias=True)


def config_of(order: Order) -> ModelConfig:
    """A model with a layer a stage, two at least."""
    layers = (Layer(_ATTENTION, Ffn(64)), *[Layer(_ATTENTION, _MOE)] * max(1, order.num_stages - 1))
    return ModelConfig("executed", 32, 64, layers, num_mtp=1, init_std=0.1)


def micro_batches(order: Order, config: ModelConfig, device: torch.device) -> list[Tensor]:
    """Tokens, the same on every rank."""
    shape = (order.num_micro_batches, SHAPE[0], SHAPE[1] + 1 + config.num_mtp)
    return list(torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(0)).to(device))


def plain(
    config: ModelConfig, batches: Sequence[Tensor], device: torch.device
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of the micro-batches and gradients of their mean, by one process."""
    model = Model(config, numerics("float64", device), device=device)
    for module in model.modules():
        if isinstance(module, MoeLayer):
            module.loss_scale = 1 / len(batches)
    losses = []
    for tokens in batches:
        loss = model(tokens).total()
        (loss / len(batches)).backward()
        losses.append(loss.item())
    return losses, {name: each.grad for name, each in model.named_parameters()}


def compare(document: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """One rank's part; what it gives is the same on every rank."""
    order = read_order(document)
    config, rank = config_of(order), dist.get_rank()
    batches = micro_batches(order, config, device)
    formats = numerics("float64", device)
    stages = build_stages(config, formats, order, rank, device=device)
    pipeline = Pipeline(order, stages, message_form(config, formats, batches[0], device), timeout_s=WAIT_S)
    step = pipeline.step(batches)
    losses, gradients = plain(config, batches, device)
    found = {name: each.grad for stage in stages.values() for name, each in stage.named_parameters()}
    numbers = torch.zeros(order.num_ranks, 2, dtype=torch.float64, device=device)
    numbers[rank, 0] = step.most_in_flight
    numbers[rank, 1] = max((_apart(grad, gradients[name]) for name, grad in found.items()), default=0.0)
    dist.all_reduce(numbers)
    loss_apart = max(abs(ours / theirs - 1) for ours, theirs in zip(step.losses, losses, strict=True))
    gradients_apart = float(numbers[:, 1].max())
    return {
        "schedule": order.name, "pp": order.num_ranks, "stages": order.num_stages,
        "micro_batches": order.num_micro_batches, "device": device.type, "loss": step.loss,
        "loss_plain": sum(losses) / len(losses), "loss_apart": loss_apart, "gradients_apart": gradients_apart,
        "most_in_flight": [int(count) for count in numbers[:, 0].tolist()],
        "is_equal": max(loss_apart, gradients_apart) < TOLERANCE,
    }  # fmt: skip


def _apart(grad: Tensor, plain_grad: Tensor) -> float:
    return float((grad - plain_grad).abs().max() / plain_grad.abs().max().clamp_min(1e-30))


def worker(rank: int, document: Mapping[str, Any], kind: str, folder: str) -> None:
    """One rank; the first writes the result into the folder, by which the processes find each other."""
    os.environ["NCCL_NVLS_ENABLE"] = "0"
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=document["pp"])
    try:
        result = compare(document, device)
        if rank == 0:
            Path(folder, "result.json").write_text(json.dumps(result), encoding="utf-8")
    finally:
        dist.destroy_process_group()


def execute(document: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Starts the processes. Raises CalibrationError: a document that cannot be executed, fewer GPUs than ranks."""
    order = read_order(document)
    traffic_of(order)
    if kind == "cuda" and torch.cuda.device_count() < order.num_ranks:
        message = f"is cuda, with {torch.cuda.device_count()} GPUs for {order.num_ranks} ranks; use --device cpu"
        raise CalibrationError([Problem("", "--device", message)])
    with TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            worker, (document, kind, folder), nprocs=order.num_ranks, start_method="forkserver"
        )
        result: dict[str, Any] = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
    return result


def words(result: Mapping[str, Any]) -> str:
    """The result in three lines."""
    held = ", ".join(map(str, result["most_in_flight"]))
    return (
        f"{result['schedule']}: {result['pp']} ranks, {result['stages']} stages, {result['micro_batches']} micro-batches\n"
        f"loss {result['loss']:.6f}, on one process {result['loss_plain']:.6f}; gradients apart by "
        f"{result['gradients_apart']:.1e} of the largest entry: {'equal' if result['is_equal'] else 'NOT EQUAL'}\n"
        f"micro-batches of a stage kept at once, by rank: {held}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 where results differ, 2 for input that cannot be executed."""
    return guarded("execute", partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.parallel.execute", description="Executes a pipeline schedule."
    )
    parser.add_argument(
        "schedule", help="JSON of `moesim schedule NAME --pp P --micro-batches M --json`; -: standard input"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: as many GPUs as ranks, by NCCL")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    given = parser.parse_args(argv)
    result = execute(_read(given.schedule), given.device)
    print(json.dumps(result) if given.json else words(result))
    return 0 if result["is_equal"] else 1


def _read(name: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError([Problem(name, "", f"cannot be read: {error.strerror}")]) from error
    except (ValueError, RecursionError) as error:
        raise CalibrationError([Problem(name, "", f"is not JSON: {error}")]) from error


if __name__ == "__main__":
    sys.exit(main())
