"""python -m validation.packed_attention: attention inside packed documents on an H200, predicted beside measured.

The measurement (hwprofiles/measurements/h200-packed-attention-2026-11-27.csv, our own; nothing was fitted to it) times queued
calls of FlashAttention-2 for sequences of different lengths. A line a pass, sequence and group of documents: mean and largest
error, and what the measured call takes longer than the predicted one for each block of rows on an SM.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean

from hwprofiles.kernels.shape import Document
from simulator.step.pricing import KernelPrices
from simulator.workload import counting as c
from simulator.workload.op import Pass
from validation.context_parallel import COLUMN, PASS_NAME, PASSES, Size, prepared

MEASURED = Path(__file__).parents[1] / "hwprofiles" / "measurements" / "h200-packed-attention-2026-11-27.csv"
BLOCK_ROWS = 128
"""Queries (forward) or keys (backward) of a block of FlashAttention-2."""


@dataclass(frozen=True)
class Call:
    """Seconds of one call. documents: their lengths."""

    heads: int
    head_dim: int
    documents: tuple[int, ...]
    phase: Pass
    measured_s: float
    predicted_s: float

    @property
    def tokens(self) -> int:
        """Of the sequence."""
        return sum(self.documents)

    @property
    def mean_length(self) -> float:
        """Tokens of a document."""
        return self.tokens / len(self.documents)

    @property
    def block_excess_s(self) -> float:
        """Seconds that each block of rows takes longer than predicted: measured less predicted, over an SM's blocks."""
        blocks = self.heads * sum(math.ceil(length / BLOCK_ROWS) for length in self.documents)
        return (self.measured_s - self.predicted_s) * kernels().gpu.num_sms / blocks

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.measured_s - 1.0


def calls(path: Path = MEASURED) -> Iterator[Call]:
    """All rows, forward and backward."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            heads, kv_heads, size = (int(row[key]) for key in ("heads", "kv_heads", "head_dim"))
            documents = tuple(map(int, row["documents"].split()))
            core = c.AttentionCore(heads, kv_heads, size, size, library="fa2")
            for phase in PASSES:
                op = c.attention("core", phase, 1, sum(documents), core, block=block_of(documents))
                seconds = kernels().seconds(op, "alone").seconds
                yield Call(heads, size, documents, phase, float(row[COLUMN[phase]]), seconds)


@cache
def kernels() -> KernelPrices:
    """Of an H200."""
    return prepared(Size(32, 8, 128, 8192, 2), "ring").kernels


def block_of(documents: Sequence[int]) -> c.Block | None:
    """What a call computes of these documents; None: one of them is a whole sequence."""
    if len(documents) == 1:
        return None
    tokens, pairs = sum(documents), sum(each * each / 2.0 for each in documents)
    of = tuple(Document(each, each, number, each / 2.0) for each, number in sorted(Counter(documents).items()))
    return c.Block(tokens, tokens, pairs, True, of)


def main() -> int:
    """Prints the table."""
    print("pass,tokens,mean_length,rows,mean,largest,block_excess_s")
    groups: dict[tuple[str, int, int], list[Call]] = {}
    for call in calls():
        groups.setdefault((PASS_NAME[call.phase], call.tokens, round(call.mean_length)), []).append(call)
    for (phase, tokens, length), rows in sorted(groups.items()):
        errors = [call.error for call in rows]
        excess_s = mean(call.block_excess_s for call in rows)
        line = f"{phase},{tokens},{length},{len(rows)},{mean(errors):+.3f},{max(errors, key=abs):+.3f}"
        print(f"{line},{excess_s:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
