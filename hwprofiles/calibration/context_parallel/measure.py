"""Times of attention over a cut sequence, and of its parts alone, on all GPUs of a host.

    python -m hwprofiles.calibration.context_parallel.measure -o FILE.json [--device cuda|cpu] [--quick]

A process a GPU, torch; on CPUs with gloo and tiny sizes, only to try the program. Medians of CUDA events in seconds, of the
slowest rank, after a barrier a call. Rows:
    whole         forward and backward of each way, size and group of 2, 4, … GPUs; with its largest difference from attention
                  on one device where the sequence is short enough for that
    core          the library's attention of the shapes that the ways run, with nothing beside
    message       what the ways send, alone

Limits: one host and its NVLink, NVLink multicast off; projections and rope are not part of it; a call begins when all ranks
have ended the one before, so that launches are exposed where the kernels are short.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from hwprofiles.calibration import all_gpus
from hwprofiles.calibration.all_gpus import Place
from hwprofiles.calibration.collectives_beside import Clock, slowest
from hwprofiles.calibration.context_parallel import core
from hwprofiles.calibration.context_parallel.ways import WAYS, Group, hop, part, to_heads, to_tokens
from hwprofiles.calibration.measuring import random_bf16

WARM_UP, CALLS = 3, 9
CHECKED_TOKENS = 16_384
"""Up to this length the whole attention is computed on each device too."""


@dataclass(frozen=True)
class Size:
    """Heads, key heads, head size and tokens of a whole sequence."""

    heads: int
    kv_heads: int
    head_dim: int
    tokens: int


SIZES = (
    *(Size(32, 8, 128, tokens) for tokens in (8192, 16_384, 32_768, 65_536, 131_072)),
    *(Size(8, 8, 128, tokens) for tokens in (8192, 32_768)),
    *(Size(64, 8, 64, tokens) for tokens in (16_384, 65_536)),
)
TINY = (Size(8, 4, 16, 64),)


def seconds(call: Callable[[], Any], clock: Clock, device: str) -> float:
    """Median of CALLS calls on the slowest rank, all ranks beginning each together."""
    import torch.distributed as dist

    taken = []
    for number in range(WARM_UP + CALLS):
        dist.barrier()
        begin = clock.mark(None)
        call()
        end = clock.mark(None)
        clock.wait()
        if number >= WARM_UP:
            taken.append(clock.seconds(begin, end))
    return slowest(median(taken), device)


def tensors(size: Size, device: str) -> tuple[Any, Any, Any, Any]:
    """q, k, v and the output's gradient of a whole sequence, the same on every rank."""
    import torch

    torch.manual_seed(1)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    q, grad = (random_bf16(device, 1, size.heads, size.tokens, size.head_dim).to(dtype) for _ in range(2))
    k, v = (random_bf16(device, 1, size.kv_heads, size.tokens, size.head_dim).to(dtype) for _ in range(2))
    return q, k, v, grad


def difference(found: Sequence[Any], whole: Sequence[Any], way: str, group: Group) -> float:
    """The largest relative error (of norms) of a rank's output and gradients."""
    errors = []
    for own, of_all in zip(found, whole, strict=True):
        expected = part(of_all, group.rank, group.size, is_zigzag=WAYS[way].is_zigzag).double()
        errors.append(float((own.double() - expected).norm() / expected.norm()))
    return max(errors)


def whole_rows(size: Size, group: Group, device: str, clock: Clock) -> Iterator[dict[str, Any]]:
    """Every way: seconds forward and backward."""
    q, k, v, grad = tensors(size, device)
    expected: list[Any] | None = None
    if size.tokens <= CHECKED_TOKENS:
        found = core.forward(q, k, v, is_causal=True)
        grads = core.backward(grad, q, k, v, found.out, found.lse, found.rest, is_causal=True)
        expected = [found.out, *grads]
    for name, way in WAYS.items():
        own = [part(x, group.rank, group.size, is_zigzag=way.is_zigzag) for x in (q, k, v, grad)]
        out, saved = way.forward(own[0], own[1], own[2], group)
        row: dict[str, Any] = {"part": "whole", "name": name, **vars(size), "ranks": group.size}
        if expected is not None:
            gradients = way.backward(own[3], saved, group)
            row["error"] = slowest(difference([out, *gradients], expected, name, group), device)
        row["forward_s"] = seconds(partial(way.forward, own[0], own[1], own[2], group), clock, device)
        row["backward_s"] = seconds(partial(way.backward, own[3], saved, group), clock, device)
        yield row


def core_shapes(size: Size, ranks: int) -> Iterator[tuple[str, int, int, int, int, bool]]:
    """(name, heads, key heads, queries, keys, is causal) of the attention calls of a middle rank."""
    own, half = size.tokens // ranks, size.tokens // ranks // 2
    yield "a2a", size.heads // ranks, max(1, size.kv_heads // ranks), size.tokens, size.tokens, True
    yield "ring_first", size.heads, size.kv_heads, own, own, True
    yield "ring_half_keys", size.heads, size.kv_heads, own, half, False
    yield "ring_half_queries", size.heads, size.kv_heads, half, own, False
    yield "all_gather_front", size.heads, size.kv_heads, half, half * ranks // 2, True
    yield "all_gather_back", size.heads, size.kv_heads, half, half * (3 * ranks // 2 + 1), True


def core_rows(size: Size, group: Group, device: str, clock: Clock) -> Iterator[dict[str, Any]]:
    """The attention calls alone."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    for name, heads, kv_heads, queries, keys, is_causal in core_shapes(size, group.size):
        q, grad = (random_bf16(device, 1, heads, queries, size.head_dim).to(dtype) for _ in range(2))
        k, v = (random_bf16(device, 1, kv_heads, keys, size.head_dim).to(dtype) for _ in range(2))
        ahead = partial(core.forward, q, k, v, is_causal=is_causal)
        found = ahead()
        back = partial(core.backward, grad, q, k, v, found.out, found.lse, found.rest, is_causal=is_causal)
        row = {"part": "core", "name": name, **vars(size), "ranks": group.size}
        row |= {
            "call_heads": heads,
            "call_kv_heads": kv_heads,
            "queries": queries,
            "keys": keys,
            "is_causal": is_causal,
        }
        yield {**row, "forward_s": seconds(ahead, clock, device), "backward_s": seconds(back, clock, device)}


def message_rows(size: Size, group: Group, device: str, clock: Clock) -> Iterator[dict[str, Any]]:
    """What is sent, alone: bytes a rank."""
    import torch
    import torch.distributed as dist

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    own = size.tokens // group.size
    q = random_bf16(device, 1, size.heads, own, size.head_dim).to(dtype)
    k = random_bf16(device, 1, size.kv_heads, own, size.head_dim).to(dtype)
    kv = torch.stack([k, k])
    gathered, received = kv.new_empty((group.size, *kv.shape)), torch.empty_like(q)

    def sent_on() -> None:
        for wait in hop(kv, group)[1]:
            wait.wait()

    calls: dict[str, tuple[int, Callable[[], Any]]] = {
        "all_to_all_q": (q.nbytes, partial(dist.all_to_all_single, received, q, group=group.handle)),
        "q_to_heads": (q.nbytes, partial(to_heads, q, group)),
        "o_to_tokens": (q.nbytes, partial(to_tokens, to_heads(q, group), group)),
        "k_to_heads": (k.nbytes, partial(to_heads, k, group)),
        "all_gather_kv": (
            gathered.nbytes,
            partial(dist.all_gather_into_tensor, gathered.flatten(0, 1), kv, group=group.handle),
        ),
        "reduce_scatter_kv": (
            gathered.nbytes,
            partial(dist.reduce_scatter_tensor, kv, gathered.flatten(0, 1), group=group.handle),
        ),
        "hop_kv": (kv.nbytes, sent_on),
    }
    for name, (num_bytes, call) in calls.items():
        row = {"part": "message", "name": name, **vars(size), "ranks": group.size, "bytes": num_bytes}
        yield {**row, "forward_s": seconds(call, clock, device)}


def rows(rank: int, world: int, device: str, sizes: Sequence[Size]) -> list[dict[str, Any]]:
    """All rows; ranks outside a group wait for those inside."""
    import torch.distributed as dist

    clock, found, ranks = Clock(device), [], 2
    while ranks <= world:
        handle = dist.new_group(list(range(ranks)))
        everyone = [dist.new_group([r + i for i in range(ranks)]) for r in range(ranks, world, ranks)]
        for size in sizes:
            mine = handle if rank < ranks else everyone[rank // ranks - 1]
            group = Group(mine, rank % ranks, ranks)
            for make in (whole_rows, core_rows, message_rows):
                found += list(make(size, group, device, clock))
        ranks *= 2
    return found


def measured(place: Place) -> dict[str, Any]:
    """All rows."""
    return {"rows": rows(place.rank, place.world, place.device, TINY if place.is_quick else SIZES)}


main = partial(all_gpus.main, "Times attention over a sequence that is cut over GPUs.", measured)
"""Measures on all GPUs and writes the JSON file; takes the arguments, None: the command line's."""


if __name__ == "__main__":
    sys.exit(main(None))
