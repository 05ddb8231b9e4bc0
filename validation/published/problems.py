"""Values of a row that cannot be: each with its column, the value and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from hwprofiles import catalog
from hwprofiles.schema import Gpu
from hwprofiles.units import GIBI, GIGA, TERA
from validation.published.batch import RECIPE_WORDS
from validation.published.machine import NODES
from validation.published.row import Row

COUNTS: Final = (
    "layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "moe_ffn", "n_gpus", "tp", "pp", "vpp", "ep", "etp",
    "cp", "dp", "mbs", "gbs", "seq",
)  # fmt: skip
"""Columns of whole numbers from 1 on."""
COUNTS_OR_NONE: Final = ("experts", "topk", "shared_experts")
"""Columns of whole numbers from 0 on."""
KINDS: Final = ("", "dense", "moe")
FIGURES: Final = (
    "step_time_s", "tokens_per_s_per_gpu", "tflops_per_gpu", "memory_gib", "gpu_hours", "tokens_total"
)  # fmt: skip
"""Columns of numbers above 0."""
DECIMAL_COMMA: Final = re.compile(r"\d+,\d+")
MOST_APART: Final = 0.03
"""Fraction by which a step time and tokens/s of one row, memory and what a driver reports may differ: that of the table's own
check (rounding).
"""


def bad_values(row: Row) -> tuple[str, ...]:
    """Everything that is wrong with a row by itself, a text each: "column: problem ('value'); remedy"."""
    return (*_cells(row), *_precision(row), *_memory(row), *_rate(row), *_degrees(row), *_speeds(row))


def _cells(row: Row) -> Iterator[str]:
    if not row.text("case_id"):
        yield "case_id: is empty; give every row a name of its own"
    if row.surplus:
        text = ", ".join(row.surplus)[:80]
        yield f"row: has {len(row.surplus)} cells more than the header ({text!r}); quote a cell that holds a comma"
    for column in (*COUNTS, *COUNTS_OR_NONE):
        least = 0 if column in COUNTS_OR_NONE else 1
        text, value = row.text(column), row.count(column)
        if text and (value is None or value < least):
            yield _problem(column, text, f"is no whole number from {least} on", _plainly(text))
    for column in (*FIGURES, "mfu"):
        text, number = row.text(column), row.number(column)
        if text and (number is None or number <= 0):
            yield _problem(column, text, "is no number above 0", _figure(text))
        elif column == "mfu" and number is not None and number > 1:
            yield _problem(column, text, "is above 1", f"write a fraction: {number / 100:g} if it is in percent")


def _precision(row: Row) -> Iterator[str]:
    """A format that no recipe and no known gap is of."""
    text = row.text("precision")
    if text and not any(re.search(words, text.lower()) for words, _, _ in RECIPE_WORDS):
        yield _problem(
            "precision", text, "is no format", "write BF16, FP16, FP8, MXFP8 or NVFP4, with how FP8 is scaled"
        )


def _gpu(row: Row) -> Gpu | None:
    """The catalogue's; None where it knows none of the name."""
    node = NODES.get(row.text("gpu"))
    return None if node is None else catalog.load_gpu(catalog.load_node(node[0]).gpu)


def _memory(row: Row) -> Iterator[str]:
    """More memory than the GPU has; a figure in GB passes for one in GiB."""
    used, gpu = row.number("memory_gib"), _gpu(row)
    if used is None or gpu is None:
        return
    most = max(gpu.hbm_bytes, gpu.device_bytes or 0)
    if used * GIGA > most * (1.0 + MOST_APART):
        has = most / GIBI
        yield _problem(
            "memory_gib", row.text("memory_gib"), f"is more than {gpu.name} has", f"at most {has:.0f}, in GiB"
        )


def _rate(row: Row) -> Iterator[str]:
    """More FLOP a second than the GPU's tensor cores have in their fastest format."""
    found, gpu = row.number("tflops_per_gpu"), _gpu(row)
    if found is None or gpu is None:
        return
    peak = max(gpu.peak_flop_per_s.values()) / TERA
    if found > peak:
        text = f"is beyond the peak of {gpu.name} in its fastest format"
        yield _problem("tflops_per_gpu", row.text("tflops_per_gpu"), text, f"at most {peak:.0f}, in TFLOP/s a GPU")


def _degrees(row: Row) -> Iterator[str]:
    """Degrees that do not divide the GPUs, experts that do not go round."""
    num_gpus, ranks = row.count("n_gpus"), 1
    for column in ("tp", "pp", "cp"):
        ranks *= max(row.count(column) or 1, 1)
    if num_gpus is not None and num_gpus > 0 and num_gpus % ranks:
        yield _problem("n_gpus", str(num_gpus), f"is no multiple of tp * pp * cp = {ranks}", "correct one of them")
    experts, top_k, kind = row.count("experts"), row.count("topk"), row.text("dense_or_moe").lower()
    if kind not in KINDS:
        yield _problem("dense_or_moe", kind, "is neither dense nor moe", "write one of them, or nothing")
    if kind == "dense" and experts:
        yield _problem("dense_or_moe", kind, f"is not what a model with {experts} experts is", "correct one of them")
    if experts and top_k and top_k > experts:
        yield _problem("topk", str(top_k), f"is more than the {experts} experts", "correct one of them")


def _speeds(row: Row) -> Iterator[str]:
    """A step time and tokens/s that are not of one run."""
    step, speed = row.number("step_time_s"), row.number("tokens_per_s_per_gpu")
    size, seq, num_gpus = row.count("gbs"), row.count("seq"), row.count("n_gpus")
    if None in (step, speed, size, seq, num_gpus):
        return
    assert step is not None and speed is not None and size is not None and seq is not None and num_gpus is not None
    if min(step, speed, size, seq, num_gpus) <= 0:
        return
    derived = size * seq / (num_gpus * step)
    if abs(speed / derived - 1) > MOST_APART:
        text = f"differs from gbs * seq / (n_gpus * step_time_s) = {derived:.4g} by {abs(speed / derived - 1):.0%}"
        yield _problem("tokens_per_s_per_gpu", f"{speed:g}", text, "leave the figure out that is not printed")


def _figure(text: str) -> str:
    """The same for a figure, where a comma may be a decimal one."""
    if DECIMAL_COMMA.fullmatch(text):
        point, whole = text.replace(",", "."), text.replace(",", "")
        return f"write {point} if the comma is a decimal one, {whole} if it separates thousands"
    return _plainly(text)


def _plainly(text: str) -> str:
    """What to write for a number with a separator, a unit or a suffix; of 0, that an empty cell is "not stated"."""
    plain = text.replace(",", "").replace("_", "").replace(" ", "")
    if plain.isascii() and plain.isdigit():
        return f"write {plain}" if plain.strip("0") else "leave the cell empty where the source does not say"
    return "write a plain number in the column's unit, without separators, suffixes or units"


def _problem(column: str, text: str, problem: str, remedy: str) -> str:
    return f"{column}: {problem} ({text[:80]!r}); {remedy}"
