"""A stack's own host costs, of the rows of host.csv: `host.<way of issuing>.<call>` in seconds, and `host.seconds`.

The calls are hwprofiles.hosts.DispatchCosts'. A cost is a row, the mean of rows, or a difference of two, as _EAGER and
_COMPILED say; its range is that of the samples (a tenth of them is below, a tenth above). `host.seconds`: this host's calls
over those of the catalogue's tables, the geometric mean of those that were measured; what was not is the table's by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

from hwprofiles.calibration.machine.host_models_fit import parts
from hwprofiles.calibration.machine.part import by_name, number
from hwprofiles.hosts import load_dispatch
from hwprofiles.hosts.own import IN_A_MODEL, IN_A_PASS, KEY, RATIO, TENTH
from hwprofiles.provenance import Source
from hwprofiles.stack_records import Parameter
from hwprofiles.units import MICRO

_BARE: Final = frozenset({"graph_s", "graph_node_s"})
"""Measured as a bare call of the driver; the tables have a framework's replay."""
GAP: Final = "kernel_gap_s"
MOST_GAP_S: Final = 1.0 * MICRO
_GAP_SOURCE: Final = Source(
    kind="assumed", where="kernels are timed one behind another, so that what lies between two is in each one's seconds"
)
"""Of the idle time between two kernels, which a stack of other measurements has beside them."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds, with the ends of what the samples say."""

    value: float
    low: float
    high: float

    def less(self, other: Span, share: float = 1.0) -> Span:
        """What is left of it without a part; at least nothing."""
        ends = (self.value - share * other.value, self.low - share * other.high, self.high - share * other.low)
        return Span(*(max(0.0, each) for each in ends))

    def over(self, number: float) -> Span:
        """One of so many alike."""
        return Span(self.value / number, self.low / number, self.high / number)


Rows = Mapping[str, Mapping[str, Any]]
Cost = Callable[[Rows], Span]
"""Raises KeyError where a row is missing, or where rows are too unsure to say it."""


def parameters(rows: Sequence[Mapping[str, Any]], where: str, date: str) -> dict[str, Parameter]:
    """Of the rows that were measured with a GPU; {}: of none. where: what was measured, for the source."""
    found = by_name([row for row in rows if row["device"] == "cuda"])
    spans = {
        f"{KEY}{way}.{call}": (span, text)
        for way, costs in (("eager", _EAGER), ("compiled", _COMPILED))
        for call, (cost, text) in costs.items()
        if (span := _tried(cost, found)) is not None
    }
    made = {key: _parameter(span, "s", where, date, text) for key, (span, text) in spans.items()}
    ratio = _ratio({key: span.value for key, (span, _) in spans.items()})
    if ratio is not None:
        text = (
            "calls of plain torch over the catalogue's tables, geometric mean; a tenth of them is outside at each end"
        )
        made[RATIO] = _parameter(ratio, "ratio", where, date, text)
    between = _between(found, {key: span.value for key, (span, _) in spans.items()})
    if between is not None:
        text = "whole layers over their counted calls, mean; range: least to most of them, other codes apart"
        made[IN_A_MODEL] = _parameter(between, "ratio", where, date, text)
    for key, each, text in _by_pass(found, {key: span.value for key, (span, _) in spans.items()}):
        made[key] = _parameter(each, "ratio", where, date, text)
    for part in parts(found):
        made[part.key] = _parameter(Span(part.value, part.low, part.high), "s", where, date, part.note)
    if found:
        made[GAP] = Parameter(value=0.0, low=0.0, high=MOST_GAP_S, unit="s", basis="assumed", source=_GAP_SOURCE)
    return made


@dataclass(frozen=True, slots=True)
class Counted:
    """Calls of a layer in one pass: of GEMMs, attention cores, other kernels, and parameters that get a gradient."""

    modules: int
    cores: int
    kernels: int
    parameters: int = 0


LAYERS: Final[Mapping[str, Counted]] = {
    "dense_layer bf16 forward": Counted(4, 1, 20),
    "dense_layer bf16 backward": Counted(8, 1, 40, 6),
}
"""Row of a whole layer of the torch model (host/layers.py) → its calls: kernels as torch's profiler sees them on an H100
(python -m hwprofiles.calibration.proof profile: dense and gqa)."""
CODES: Final = 1.25
"""Assumed, as one layer alone is measured: factor at each end of what calls take more in a model, as views and modules differ
from code to code."""


def _between(rows: Rows, costs: Mapping[str, float]) -> Span | None:
    """Seconds of whole layers over those of their counted calls; None: too little was measured."""
    found = [each for name in LAYERS if (each := _between_of(rows, costs, name)) is not None]
    if len(found) < 2:
        return None
    return Span(math.exp(fmean(map(math.log, found))), min(found) / CODES, max(found) * CODES)


def _by_pass(rows: Rows, costs: Mapping[str, float]) -> list[tuple[str, Span, str]]:
    """Key, ratio and words of forwards, then of backwards; nothing where one of them was not measured."""
    found = [_between_of(rows, costs, name) for name in LAYERS]
    return [
        (IN_A_PASS[bool(backward)], Span(each, each / CODES, each * CODES), f"{name} over its counted calls")
        for backward, (name, each) in enumerate(zip(LAYERS, found, strict=True))
        if each is not None and None not in found
    ]


def _between_of(rows: Rows, costs: Mapping[str, float], name: str) -> float | None:
    """The same of one whole layer's row."""
    calls, way = LAYERS[name], name.rpartition(" ")[2][0]
    numbers = {
        f"module_{way}_s": calls.modules, f"attention_{way}_s": calls.cores, f"launch_{way}_s": calls.kernels,
        "parameter_s": calls.parameters,
    }  # fmt: skip
    own = {f"{KEY}eager.{call}": count for call, count in numbers.items() if count}
    if name not in rows or not own.keys() <= costs.keys():
        return None
    return number(rows[name], "host_s") / math.fsum(costs[key] * count for key, count in own.items())


def _of_logs(logs: Sequence[float]) -> Span | None:
    """Geometric mean with a tenth outside at each end; None: of fewer than two."""
    if len(logs) < 2:
        return None
    mean, apart = fmean(logs), TENTH * stdev(logs)
    return Span(math.exp(mean), math.exp(mean - apart), math.exp(mean + apart))


def _ratio(measured: Mapping[str, float]) -> Span | None:
    """This host's calls over those of the tables; None: too few were measured."""
    tables = {f"{KEY}eager.{call}": entry.value for call, entry in load_dispatch("eager").items() if call not in _BARE}
    logs = [math.log(seconds / tables[key]) for key, seconds in measured.items() if tables.get(key) and seconds > 0]
    return _of_logs(logs)


def _parameter(span: Span, unit: str, where: str, date: str, note: str) -> Parameter:
    return Parameter(
        value=span.value, low=min(span.low, span.value), high=max(span.high, span.value), unit=unit, basis="measured",
        source=Source(kind="measurement", where=where, date=date, note=note),
    )  # fmt: skip


def _tried(cost: Cost, rows: Rows) -> Span | None:
    try:
        return cost(rows)
    except KeyError:
        return None


def _row(rows: Rows, name: str) -> Span:
    row = rows[name]
    return Span(*(number(row, column) for column in ("host_s", "low_s", "high_s")))


def _mean(*names: str) -> Cost:
    """Of several calls; its ends are their means, and the standard error of a mean of calls that differ beyond them."""

    def cost(rows: Rows) -> Span:
        found = [_row(rows, name) for name in names]
        value, low, high = (fmean(getattr(each, end) for each in found) for end in ("value", "low", "high"))
        apart = stdev([each.value for each in found]) / math.sqrt(len(found)) if len(found) > 1 else 0.0
        return Span(value, max(0.0, low - apart), high + apart)

    return cost


def _parameter_s(rows: Rows) -> Span:
    """A node that adds a gradient."""
    return _row(rows, "accumulate parameters backward")


def _module_b(rows: Rows) -> Span:
    """Half of a linear layer's backward, which has two products, less its parameter."""
    return _row(rows, "linear_stack trained backward").less(_parameter_s(rows)).over(2.0)


def _wait(rows: Rows) -> Span:
    return _mean("wait item", "wait tolist")(rows).less(_LAUNCH_F(rows))


def _sloped(call: str, few: int, many: int, variant: str, phase: str = "") -> Cost:
    """Of one more of what a call has `few` and `many` of; at most all of a call with few."""

    def cost(rows: Rows) -> Span:
        tail = f" {phase}" if phase else ""
        short, long = (_row(rows, f"{call} {count}_{variant}{tail}") for count in (few, many))
        slope = min(max(0.0, (long.value - short.value) / (many - few)), short.value / few)
        return Span(slope, slope * long.low / long.value, slope * long.high / long.value)

    return cost


def _expert_b(rows: Rows) -> Span:
    """Half of an expert's backward, which has two products, less its parameter."""
    return _sloped("expert_loop", 4, 64, "experts", "backward")(rows).less(_parameter_s(rows)).over(2.0)


def _base(call: str, few: int, many: int, variant: str, phase: str) -> Cost:
    """Of a call without what it has `few` of: a region without its kernels, a replay without its nodes."""

    def cost(rows: Rows) -> Span:
        tail = f" {phase}" if phase else ""
        short = _row(rows, f"{call} {few}_{variant}{tail}")
        left = short.less(_sloped(call, few, many, variant, phase)(rows), float(few))
        if not left.value > 0:
            raise KeyError(f"{call}: the kernels take all of it")
        return left

    return cost


_LAUNCH_F: Final = _mean(
    "add recorded forward", "mul recorded forward", "index_select recorded forward", "cumsum no_grad"
)
_FUNCTION: Final = "a function of autograd in Python; a norm"
_EAGER: Final[Mapping[str, tuple[Cost, str]]] = {
    "launch_f_s": (_LAUNCH_F, "single operators of one kernel"),
    "launch_b_s": (_mean("add recorded backward", "mul recorded backward"), "their nodes in a backward"),
    "module_f_s": (_mean("linear_module recorded forward", "linear_stack trained forward"), "torch.nn.Linear"),
    "module_b_s": (_module_b, "half of a linear layer's backward, without its parameter"),
    "function_f_s": (_mean("python_function recorded forward", "norm_stack trained forward"), _FUNCTION),
    "function_b_s": (_mean("python_function recorded backward", "norm_stack trained backward"), _FUNCTION),
    "attention_f_s": (_mean("attention core forward"), "scaled_dot_product_attention"),
    "attention_b_s": (_mean("attention core backward"), "scaled_dot_product_attention"),
    "cast_s": (_mean("cast float32 forward"), "one tensor to another format"),
    "looped_expert_f_s": (_sloped("expert_loop", 4, 64, "experts", "forward"), "one expert more in a loop over a split"),
    "looped_expert_b_s": (_expert_b, "half of one expert more, without its parameter"),
    "parameter_s": (_parameter_s, "the node that adds a parameter's gradient"),
    "collective_s": (
        _mean(*(f"collective {each}" for each in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"))),
        "collectives of one rank",
    ),
    "graph_s": (_base("graph_replay", 10, 1000, "kernels", ""), "a replay without its nodes"),
    "graph_node_s": (_sloped("graph_replay", 10, 1000, "kernels"), "a node of a replayed graph"),
    "sync_s": (_wait, "reading one number of the device, less the kernel that makes it"),
}  # fmt: skip
"""Call → how it follows from rows, and what they are."""


def _region(phase: str) -> Mapping[str, tuple[Cost, str]]:
    """A pair is a product and a kernel: each takes half. What a region takes beside them is a layer's."""
    way = phase[0]
    pair = _sloped("compiled_region", 4, 16, "pairs_recorded", phase)
    kernel: tuple[Cost, str] = (
        lambda rows: pair(rows).over(2.0 if way == "f" else 3.0),
        "a kernel of a compiled region",
    )
    base = _base("compiled_region", 4, 16, "pairs_recorded", phase)
    return {
        **{f"{kind}_{way}_s": kernel for kind in ("launch", "module", "function")},
        f"layer_{way}_s": (base, "a compiled region beside its kernels"),
    }


_COMPILED: Final[Mapping[str, tuple[Cost, str]]] = {
    **_region("forward"),
    **_region("backward"),
    **{key: _EAGER[key] for key in ("collective_s", "graph_s", "graph_node_s", "sync_s")},
}
