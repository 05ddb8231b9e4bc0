"""How right the method is, as texts: what report and dashboard say of the accuracy file, each in its own layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hwprofiles.catalog import load_node
from hwprofiles.record_file import CatalogError
from simulator.report import facts, numbers
from simulator.report.accuracy import Accuracy, AccuracyRow, accuracy_of, likeness_of
from simulator.results.run_result import RunResult

CLAIMED: Final = 0.9
"""Share of the measured runs that a 90 % interval says it holds."""
CLOSE: Final = 0.03
"""Of the share, that is no difference among so few runs."""
UNBIASED: Final = 0.02
QUANTITY_WORDS: Final[Mapping[str, str]] = {
    "step.step_s": "step",
    "step.tokens_per_s_per_gpu": "tokens/s/GPU",
    "step.tflops.causal": "TFLOP/s a GPU, causal",
    "step.tflops.noncausal": "TFLOP/s a GPU, non-causal",
    "step.mfu.bf16_dense_causal": "MFU, causal",
    "step.mfu.bf16_dense_noncausal": "MFU, non-causal",
    "steady_state.gpu_hours": "GPU-hours",
    "steady_state.cost_usd": "cost",
}


LIKENESS: Final[Mapping[int, str]] = {
    3: "Same GPU and family",
    2: "same family, other GPUs",
    1: "same GPU, other families",
}


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row of the accuracy file as texts. error: of the speed, above 0 where the prediction is too fast."""

    case: str
    gpu: str
    model: str
    stack: str
    figure: str
    predicted: str
    interval: str
    measured: str
    error: str
    source: str
    note: str


def shown(row: AccuracyRow) -> ShownRow:
    """The row's figures with the digits that its interval bears."""
    width = (row.high - row.low) / 2
    predicted, low, high, measured = (
        figure(row.quantity, value, width) for value in (row.predicted, row.low, row.high, row.measured)
    )
    return ShownRow(
        row.case, row.gpu, row.model, row.stack, QUANTITY_WORDS.get(row.quantity, row.quantity), predicted,
        f"{low} to {high}", measured,
        numbers.signed_percent(row.speed_error_frac), row.source, row.note,
    )  # fmt: skip


def figure(quantity: str, value: float, uncertainty: float) -> str:
    """A value under its quantity."""
    if quantity.endswith("step_s"):
        return f"{numbers.plain(value, uncertainty)} s"
    if ".mfu." in quantity:
        return numbers.percent(value)
    if quantity.endswith("cost_usd"):
        return numbers.usd(value)
    return numbers.amount(value) if quantity.endswith("gpu_hours") else numbers.plain(value, uncertainty)


def headline(found: Accuracy) -> tuple[str, str]:
    """(how far off predictions are, how far to trust their intervals), a sentence or two each."""
    runs = "1 measured run was" if found.n == 1 else f"{found.n:,} measured runs were"
    size = f"{runs} predicted as they were run, with nothing fitted to them: the speed is off by "
    size += f"{numbers.rough_percent(found.mape)} on average, in half of them by less than "
    size += f"{numbers.rough_percent(found.median)}; "
    if abs(found.bias) < UNBIASED:
        size += "neither too fast nor too slow on the whole."
    else:
        side = "fast" if found.bias > 0 else "slow"
        size += f"predictions are {numbers.rough_percent(abs(found.bias))} too {side} on average."
    inside = f"{numbers.rough_percent(found.coverage)} of them lie inside our 90 % interval"
    if found.coverage < CLAIMED - CLOSE:
        return size, f"{inside}: trust the interval less than it says."
    if found.coverage <= CLAIMED + CLOSE:
        return size, f"{inside}: it holds what it says."
    return size, f"{inside}: more than it says."


def like_words(rows: Sequence[AccuracyRow], gpu: str, model: str) -> str:
    """How far off the runs are that are like a scenario, the most like first: 'Same GPU and family: 2 runs, off by 3 % …'."""
    parts = []
    for likeness, words in LIKENESS.items():
        found = accuracy_of([row for row in rows if likeness_of(row, gpu, model) == likeness])
        if found is not None:
            runs = "1 run" if found.n == 1 else f"{found.n} runs"
            inside = f"{numbers.rough_percent(found.coverage)} inside the 90 % interval"
            parts.append(f"{words}: {runs}, speed off by {numbers.rough_percent(found.mape)} on average, {inside}")
    return "; ".join(parts) + "." if parts else ""


def gpu_of(result: RunResult) -> str:
    """The catalogue's name of the scenario's GPU; "" where the document names none that is known here."""
    node: Any = facts.section(result, "cluster").get("node")
    if isinstance(node, Mapping):
        return facts.label(node.get("gpu", ""))
    try:
        return load_node(str(node)).gpu
    except CatalogError:
        return ""
