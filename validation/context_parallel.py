"""python -m validation.context_parallel: attention over a cut sequence on 2 and 4 H200, predicted beside measured.

The measurement (hwprofiles/measurements/h200x4-context-parallel-2026-11-27.csv, our own; its .yaml says how) ran three ways of
context parallelism by a plain program of torch (hwprofiles/calibration/context_parallel/ways.py); nothing was fitted to it but
what a send and a receive reach (link.nvlink.p2p_bytes_per_s), to its `hop_kv` rows. Each way is predicted thrice:

    as modelled     operators and messages of workload/layers/context_parallel.py, which are Transformer Engine's
    as the program  what the program launches instead: one copy around an all-to-all, one gather of keys and values together and
                    none in the backward, outputs merged in FP32, one more hop of gradients that end where they began
    known cores     the same with the measured times of the attention calls: what is left is the mechanism's
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import fsum
from pathlib import Path
from statistics import mean
from typing import Any

from simulator import load_scenario
from simulator.assembly.unit_costs import stage_costs
from simulator.step.prepared import PreparedStep, prepare, prices
from simulator.workload import counting as c
from simulator.workload.op import BlockName, Collective, CollectiveOp, Op, Pass, Work
from simulator.workload.tensors import tensor_bytes

MEASURED = Path(__file__).parents[1] / "hwprofiles" / "measurements" / "h200x4-context-parallel-2026-11-27.csv"
BLOCK: Mapping[Pass, BlockName] = {"F": "attn_f", "I": "attn_b"}
COLUMN = {"F": "forward_s", "I": "backward_s"}
PASS_NAME = {"F": "forward", "I": "backward"}
PASSES: tuple[Pass, ...] = ("F", "I")
FP32_MERGE = 18
"""Bytes of an output's number that a later piece adds: cast to FP32 (2 + 4), taken into the FP32 output (4 + 4, 4)."""
FP32_CAST = 6
"""Bytes of a number that is cast between BF16 and FP32."""


@dataclass(frozen=True)
class Size:
    """Heads, key heads and head size, tokens of the whole sequence, ranks that share it."""

    heads: int
    kv_heads: int
    head_dim: int
    tokens: int
    ranks: int

    @property
    def queries(self) -> int:
        """Numbers of a rank's queries, or of its output."""
        return self.tokens // self.ranks * self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Numbers of a rank's keys and values together."""
        return 2 * self.tokens // self.ranks * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Attended:
    """Seconds of one way, size and pass: measured, and predicted as the module's text says."""

    way: str
    size: Size
    phase: Pass
    measured_s: float
    modelled_s: float
    program_s: float
    known_cores_s: float


def attended(path: Path = MEASURED) -> Iterator[Attended]:
    """All `whole` rows, forward and backward."""
    rows = read(path)
    cores = {(size_of(row), row["name"]): row for row in rows if row["part"] == "core"}
    for row in rows:
        if row["part"] != "whole":
            continue
        size, way = size_of(row), row["name"]
        step = prepared(size, way)
        unit = step.workload.stages[0].units[0]
        for phase in PASSES:
            ours = [each for each in unit.blocks[BLOCK[phase]] if each.name.startswith("attention")]
            launched = list(program(way, phase, size, [each for each in ours if is_core(each)]))
            known = {of: {p: float(cores[size, of][COLUMN[p]]) for p in PASSES} for of in cores_of(way, size)}
            core_s, program_s = block_seconds(step, launched)
            yield Attended(
                way, size, phase, float(row[COLUMN[phase]]), block_seconds(step, ours)[1], program_s,
                program_s - core_s + fsum(number * known[of][phase] for of, number in cores_of(way, size).items()),
            )  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    """The measurement's rows."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def size_of(row: Mapping[str, str]) -> Size:
    """What a row was run with."""
    return Size(*(int(row[key]) for key in ("heads", "kv_heads", "head_dim", "tokens", "ranks")))


def cores_of(way: str, size: Size) -> dict[str, int]:
    """Measured attention calls of a way: name → how many a middle rank makes."""
    if way == "ring":
        return {"ring_first": 1, "ring_half_keys": size.ranks // 2, "ring_half_queries": size.ranks // 2 - 1}
    return {"a2a": 1} if way == "a2a" else {"all_gather_front": 1, "all_gather_back": 1}


@cache
def prepared(size: Size, way: str) -> PreparedStep:
    """A step of one layer with this attention by FlashAttention-2, on the ranks' H200."""
    hidden = size.heads * size.head_dim
    document: dict[str, Any] = {
        "schema_version": 1, "name": way, "cluster": {"node": "h200-x8", "num_gpus": size.ranks},
        "model": {
            "name": way, "hidden_size": hidden, "num_layers": 1, "num_dense_layers": 1, "vocab_size": 32768,
            "dense_ffn": {"intermediate_size": hidden},
            "attention": {
                "kind": "gqa", "num_heads": size.heads, "num_kv_heads": size.kv_heads, "head_dim": size.head_dim,
            },
        },
        "parallel": {"cp": size.ranks, "cp_comm": way}, "precision": {"recipe": "bf16"}, "kernels": {"attention": "fa2"},
        "device": {"clock": "burst", "speed_cv": 0.0}, "draws": 1,
        "training": {"seq_len": size.tokens, "micro_batch_size": 1, "global_batch_size": 1},
    }  # fmt: skip
    return prepare(load_scenario(document))


def core_errors(tokens: int, phase: Pass, path: Path = MEASURED) -> list[float]:
    """Predicted over measured, less one, of all attention calls alone of sequences of that length."""
    found = []
    for row in read(path):
        size = size_of(row)
        if row["part"] == "core" and size.tokens == tokens:
            heads, kv_heads, queries, keys = (
                int(row[key]) for key in ("call_heads", "call_kv_heads", "queries", "keys")
            )
            causal = row["is_causal"] == "true"
            core = c.AttentionCore(heads, kv_heads, size.head_dim, size.head_dim, library="fa2")
            block = c.Block(queries, keys, queries * (keys - queries / 2 if causal else keys), causal)
            op = c.attention(row["name"], phase, 1, queries, core, causal, block=block)
            seconds = prepared(size, "ring").kernels.seconds(op, "alone").seconds
            found.append(seconds / float(row[COLUMN[phase]]) - 1.0)
    return found


def is_core(work: Work) -> bool:
    """Whether it is an attention call."""
    return isinstance(work, Op) and work.shape.op.startswith("attention")


def block_seconds(step: PreparedStep, work: Sequence[Work]) -> tuple[float, float]:
    """Seconds of the attention calls and of all, messages beside calls as in a block of the step's own."""
    stage = step.workload.stages[0]
    unit = replace(stage.units[0], blocks={"attn_f": tuple(work)}, all_to_all={})
    workload = replace(step.workload, stages=(replace(stage, units=(unit,)),))
    cost = stage_costs(workload, prices(step.kernels, step.messages))[0].units[0]
    segments = [segment for _, _, segment in cost.blocks["attn_f", "alone"].segments]
    pieces = [piece for segment in segments for piece in segment.pieces]
    calls = [piece.cost.seconds for piece in pieces if isinstance(piece.what, Op) and is_core(piece.what)]
    return fsum(calls), fsum(segment.seconds for segment in segments)


def program(way: str, phase: Pass, size: Size, cores: Sequence[Work]) -> Iterator[Work]:
    """What ways.py launches, in order, around the attention calls `cores`."""
    yield from {"a2a": _a2a, "all_gather": _all_gather, "ring": _ring}[way](phase, size, cores)


def _a2a(phase: Pass, size: Size, cores: Sequence[Work]) -> Iterator[Work]:
    """to_heads and to_tokens: a copy each, beside the message."""
    q, k = size.queries, size.kv // 2
    before, behind = ([q, k, k], [q]) if phase == "F" else ([q], [q, k, k])
    for place, tensors in (("before", before), ("behind", behind)):
        for i, numbers in enumerate(tensors):
            yield _sent(f"{place}_{i}", "all_to_all", numbers, phase)
            yield c.copy(f"{place}_{i}_copy", numbers, numbers, phase)
        if place == "before":
            yield from cores


def _all_gather(phase: Pass, size: Size, cores: Sequence[Work]) -> Iterator[Work]:
    """all_gather_forward, all_gather_backward: two pieces of queries; all keys' gradients are added up in BF16."""
    q, kv, every = size.queries, size.kv, size.kv * size.ranks
    if phase == "F":
        yield c.copy("stack", kv, kv)
        yield _sent("gather", "all_gather", every, phase)
        yield c.copy("in_order", every, every)
        yield from cores
        yield c.copy("join", q, q)
        return
    yield c.copy("zeros", 0, every, phase)
    yield c.copy("grad_pieces", q, q, phase, kernels=2)
    yield from cores
    yield c.add("kv_grad_sum", every * (2 * size.ranks + 1) // (2 * size.ranks), phase)
    yield c.copy("by_rank", 2 * every, 2 * every, phase, kernels=size.ranks + 1)
    yield _sent("scatter", "reduce_scatter", every, phase)
    yield c.copy("join", q, q, phase)


def _ring(phase: Pass, size: Size, cores: Sequence[Work]) -> Iterator[Work]:
    """ring_forward, ring_backward: hops beside the pieces, the last one of gradients behind them."""
    q, kv, last = size.queries, size.kv, size.ranks - 1
    yield c.copy("stack" if phase == "F" else "zeros", kv if phase == "F" else 0, kv if phase == "F" else q + kv, phase)
    for i, core in enumerate(cores):
        is_half = i > size.ranks // 2
        own = q // 2 if is_half else q
        tensors = [tensor for tensor, sends in (("kv", i < last), ("grad", phase == "I" and i > 0)) if sends]
        for tensor in tensors:
            yield _sent(f"{tensor}_hop_{i}", "send_recv", kv, phase, core.name)
        if phase == "I" and is_half:
            yield c.copy(f"cut_{i}", 3 * own, 3 * own, phase, kernels=4)
        yield core
        if phase == "I":
            yield c.add(f"q_grad_{i}", own, phase)
            yield c.add(f"kv_grad_{i}", kv if i == 0 or is_half else kv // 2, phase)
        else:
            yield c.moved(f"merge_{i}", "add", phase, 0, (FP32_MERGE if i else FP32_CAST) * own, kernels=6 if i else 1)
    if phase == "F":
        yield c.moved("cast", "add", phase, 0, FP32_CAST * q)
    else:
        yield _sent("grad_hop_home", "send_recv", kv, phase)


def _sent(name: str, op: CollectiveOp, numbers: int, phase: Pass, beside: str = "") -> Collective:
    return Collective(name, op, "cp", tensor_bytes("bf16", numbers), phase, beside)


def main() -> int:
    """Prints a line a way, pass and length: number of rows, mean and largest error of each prediction."""
    found = list(attended())
    print("way,pass,tokens,rows,modelled,largest,as_the_program,largest,known_cores,largest")
    groups: dict[tuple[str, str, str], list[Attended]] = {}
    for each in found:
        for tokens in (f"{each.size.tokens}", "all"):
            groups.setdefault((each.way, PASS_NAME[each.phase], tokens), []).append(each)
    for (way, of, tokens), rows in sorted(groups.items(), key=lambda item: (*item[0][:2], len(item[0][2]), item[0])):
        cells = [f"{way},{of},{tokens},{len(rows)}"]
        for name in ("modelled_s", "program_s", "known_cores_s"):
            errors = [getattr(row, name) / row.measured_s - 1.0 for row in rows]
            cells += [f"{mean(errors):+.3f}", f"{max(errors, key=abs):+.3f}"]
        print(",".join(cells))
    print("attention_calls_alone,pass,tokens,rows,mean,largest")
    for phase in PASSES:
        for length in sorted({row.size.tokens for row in found}):
            errors = core_errors(length, phase)
            line = f"attention_calls_alone,{PASS_NAME[phase]},{length},{len(errors)}"
            print(f"{line},{mean(errors):+.3f},{max(errors, key=abs):+.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
