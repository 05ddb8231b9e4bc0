"""Times of attention inside documents that are packed into one sequence, by torch's flash kernels.

    python -m hwprofiles.calibration.packed_attention -o FILE.csv [--index 0] [--date 2026-11-27]

Runs on one NVIDIA GPU with torch. Documents are drawn once a case from a log-normal law (seed 0), cut at the sequence's end,
and stated in the row; each case also as one document, whose time the datasheet's formulas know. Writes FILE.csv and FILE.yaml.
Seconds of a call: medians of CALLS groups, each behind a rest; a group is as many calls as take about GROUP_S, queued behind
one more, so that no launch stands between its two marks.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from hwprofiles.calibration.command import Parser, check_output, guarded, write_table
from hwprofiles.calibration.measuring import Clock, device_facts, random_bf16

WARM_UP, CALLS, REST_S = 3, 15, 0.02
GROUP_S, MOST_CALLS = 0.01, 40
"""Seconds of a group of calls, and most of them."""
HEADS = ((32, 8, 128), (8, 2, 128), (16, 16, 64))
"""Heads, key heads, head size."""
SEQUENCES = (8192, 32_768)
MEANS = (250, 1000, 4000)
CVS = (0.0, 1.5)
"""Coefficient of variation of the documents' lengths; 0: all equal."""


@dataclass(frozen=True)
class PackedRow:
    """A line of the CSV."""

    heads: int
    kv_heads: int
    head_dim: int
    tokens: int
    documents: str
    forward_s: float
    backward_s: float
    error: float


COLUMNS = {
    "heads": "query heads; so kv_heads, head_dim (of queries, keys and values)",
    "kv_heads": "see heads",
    "head_dim": "see heads",
    "tokens": "of the sequence",
    "documents": "their lengths in order, joined by spaces; one: a whole causal sequence",
    "forward_s": "median of a call",
    "backward_s": "median of a call",
    "error": "largest relative difference (of norms) of output and gradients from a call a document; empty: not computed",
}


def lengths(tokens: int, mean: int, cv: float) -> list[int]:
    """Documents one behind another until the sequence is full, the last one cut."""
    draw = random.Random(0)  # noqa: S311
    sigma = math.sqrt(math.log(1.0 + cv * cv))
    mu = math.log(mean) - sigma * sigma / 2.0
    found: list[int] = []
    while (left := tokens - sum(found)) > 0:
        found.append(min(left, max(1, round(draw.lognormvariate(mu, sigma)))))
    return found


Attention = tuple[Callable[[], Any], Callable[[], Any], Callable[[], tuple[Any, ...]]]


def packed(q: Any, k: Any, v: Any, grad: Any, documents: Sequence[int]) -> Attention:
    """Forward, backward, and (output, gradients) of (tokens, heads, size) tensors."""
    import torch

    ends = torch.tensor([0, *accumulate(documents)], dtype=torch.int32, device=q.device)
    longest = max(documents)
    forward = partial(torch.ops.aten._flash_attention_forward, q, k, v, ends, ends, longest, longest, 0.0, True, False)
    out, lse, state, unused, _ = forward()
    backward = partial(
        torch.ops.aten._flash_attention_backward,
        grad, q, k, v, out, lse, ends, ends, longest, longest, 0.0, True, state, unused,
    )  # fmt: skip
    return forward, backward, lambda: (forward()[0], *backward()[:3])


def error(tensors: Sequence[Any], documents: Sequence[int], found: Sequence[Any]) -> float:
    """The largest relative difference of norms from a call a document."""
    import torch

    starts, (q, k, v, grad) = [0, *accumulate(documents)], tensors
    apart = [
        packed(
            q[at : at + n].contiguous(),
            k[at : at + n].contiguous(),
            v[at : at + n].contiguous(),
            grad[at : at + n].contiguous(),
            (n,),
        )[2]()
        for at, n in zip(starts[:-1], documents, strict=True)
    ]
    errors = []
    for idx, whole in enumerate(found):
        expected = torch.cat([each[idx] for each in apart]).double()
        errors.append(float((whole.double() - expected).norm() / expected.norm()))
    return max(errors)


def seconds(call: Callable[[], Any], clock: Clock) -> float:
    """Of a call: median of CALLS groups, each behind a rest and one call more."""
    taken, size = [], 1
    for number in range(WARM_UP + CALLS):
        time.sleep(REST_S)
        call()
        begin = clock.mark()
        for _ in range(size):
            call()
        end = clock.mark()
        between = clock.between(begin, end) / size
        size = max(1, min(MOST_CALLS, math.ceil(GROUP_S / between)))
        if number >= WARM_UP:
            taken.append(between)
    return median(taken)


def rows(device: Any) -> Iterator[PackedRow]:
    """All cases."""
    clock = Clock(device)
    for heads, kv_heads, size in HEADS:
        for tokens in SEQUENCES:
            cases = [[tokens], *(lengths(tokens, mean, cv) for mean in MEANS for cv in CVS)]
            for documents in cases:
                q, grad = (random_bf16(device, tokens, heads, size) for _ in range(2))
                k, v = (random_bf16(device, tokens, kv_heads, size) for _ in range(2))
                forward, backward, both = packed(q, k, v, grad, documents)
                apart = error((q, k, v, grad), documents, both()) if 1 < len(documents) <= 64 else float("nan")
                yield PackedRow(
                    heads, kv_heads, size, tokens, " ".join(map(str, documents)),
                    seconds(forward, clock), seconds(backward, clock), apart,
                )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 for what cannot be measured."""
    return guarded("packed_attention", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m hwprofiles.calibration.packed_attention", description="Times of packed attention.")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="of the measurement")
    given = parser.parse_args(arguments)
    check_output(given.out)
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_MODULE_LOADING="EAGER")
    import torch

    if torch.cuda.device_count() <= given.index:
        parser.error(f"--index {given.index}: torch finds {torch.cuda.device_count()} GPUs")
    torch.manual_seed(0)
    found = []
    for row in rows(torch.device("cuda", given.index)):
        found.append(row)
        print(
            row.heads,
            row.tokens,
            row.documents.count(" ") + 1,
            f"{row.forward_s:.3e} {row.backward_s:.3e} {row.error:.1e}",
            flush=True,
        )
    facts = {name: value for name, value in device_facts(given.index).items() if name != "index"}
    facts |= {"made_by": "python -m hwprofiles.calibration.packed_attention", "date": given.date}
    write_table(given.out, found, facts, COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
