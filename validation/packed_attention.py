"""python -m validation.packed_attention: attention inside packed documents on an H200, predicted beside measured.

The measurement (hwprofiles/measurements/h200-packed-attention-2026-11-27.csv, our own; nothing was fitted to it) times
FlashAttention-2 for sequences of different lengths, each call alone behind a rest: its launch by the host stands between the
two marks, as long whatever the call computes. Told twice:

    call        a call as measured, launch included
    difference  that of two calls with the same documents that differ in heads alone: the launch falls out
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, median

from hwprofiles.kernels.shape import Document
from simulator.step.pricing import KernelPrices
from simulator.workload import counting as c
from simulator.workload.op import Pass
from validation.context_parallel import COLUMN, PASS_NAME, PASSES, Size, prepared

MEASURED = Path(__file__).parents[1] / "hwprofiles" / "measurements" / "h200-packed-attention-2026-11-27.csv"


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


def differences(found: Sequence[Call]) -> Iterator[Call]:
    """Of calls with the same documents and head size the one with more heads less the one with fewer."""
    for more in found:
        for less in found:
            same = (less.documents, less.head_dim, less.phase) == (more.documents, more.head_dim, more.phase)
            if same and less.heads < more.heads:
                yield Call(
                    more.heads - less.heads, more.head_dim, more.documents, more.phase,
                    more.measured_s - less.measured_s, more.predicted_s - less.predicted_s,
                )  # fmt: skip


def launch_s(found: Sequence[Call]) -> float:
    """Measured less predicted of calls that are predicted below 0.2 ms: the host's launch, on the median."""
    return median(each.measured_s - each.predicted_s for each in found if each.predicted_s < 2e-4)


def main() -> int:
    """Prints a line a pass, sequence and group of documents: number of rows, mean and largest error."""
    found = list(calls())
    print("of,pass,tokens,mean_length,rows,mean,largest")
    for of, each in (("call", found), ("difference", list(differences(found)))):
        groups: dict[tuple[str, int, int], list[float]] = {}
        for call in each:
            groups.setdefault((PASS_NAME[call.phase], call.tokens, round(call.mean_length)), []).append(call.error)
        for (phase, tokens, length), errors in sorted(groups.items()):
            print(f"{of},{phase},{tokens},{length},{len(errors)},{mean(errors):+.3f},{max(errors, key=abs):+.3f}")
    for phase in PASSES:
        print(f"# launch, {PASS_NAME[phase]}: {launch_s([each for each in found if each.phase == phase]):.2e} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
