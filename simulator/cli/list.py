"""`moesim list`: the catalogues as tables of the figures that people choose by, or as JSON with all facts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from hwprofiles.record_file import CatalogError
from hwprofiles.units import TERA
from simulator import not_modelled
from simulator.cli.catalogues import CATALOGUES, Entry
from simulator.cli.output import print_json
from simulator.errors import InputError
from simulator.report import numbers
from simulator.report.layout import GAP, needed_width, plain_table, text
from simulator.report.terminal import print_plainly

MIN_PROSE: Final = 24
"""Columns below which a description is left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its header, and the text of an entry in it. is_prose: the text is long and may wrap."""

    header: str
    text: Callable[[Entry], str]
    is_prose: bool = False


def print_entries(kind: str, as_json: bool) -> None:
    """Print a catalogue. Raises InputError: no such catalogue, one that does not exist yet, or a wrong file in it."""
    problem = CATALOGUES.problem(kind)
    if problem is not None:
        instead = not_modelled.instead("catalogue", kind)
        raise InputError(f"list: {problem}" + (f"; {instead}" if instead else ""))
    try:
        entries = list(CATALOGUES[kind]())
    except CatalogError as error:
        raise InputError(error.problems) from error
    if as_json:
        print_json(entries)
        return
    rows = list(_rows_of_sheets(entries)) if kind == "prices" else entries
    print_plainly(lambda width: _table(rows, COLUMNS[kind], width), sys.stdout)
    if kind in HINTS:
        print(HINTS[kind], file=sys.stderr)


def _table(entries: Sequence[Entry], columns: Sequence[Column], width: int) -> RenderableType:
    """Names and figures in aligned columns; columns that do not fit are left out from the right, and named."""
    shown = list(columns)
    while len(shown) > 1 and _least_width(shown, entries) > width:
        shown.pop()
    table = plain_table(*(column.header for column in shown))
    for place, column in enumerate(shown):
        if column.is_prose:
            table.columns[place].no_wrap, table.columns[place].justify = False, "left"
        elif place and not any(column.text(entry)[:1].isdigit() for entry in entries):
            table.columns[place].justify = "left"
    for entry in entries:
        table.add_row(*(text(column.text(entry)) for column in shown))
    left_out = ", ".join(column.header for column in columns[len(shown) :])
    if not left_out:
        return table
    return Group(table, Text(), Text(f"left out at {width} columns: {left_out}; --json has all", style="dim"))


def _least_width(columns: Sequence[Column], entries: Sequence[Entry]) -> int:
    """Columns on the screen that the table cannot do without."""
    figures = [[column.header, *map(column.text, entries)] for column in columns if not column.is_prose]
    return needed_width(figures) + sum(MIN_PROSE + GAP for column in columns if column.is_prose)


def _rows_of_sheets(sheets: Iterable[Entry]) -> Iterable[Entry]:
    """A row a sheet and GPU."""
    for sheet in sheets:
        for gpu, price in sorted(sheet["entries"].items()):
            yield {
                **price,
                "name": sheet["name"],
                "date": str(sheet["date"]),
                "currency": sheet["currency"],
                "gpu": gpu,
                "num_offers": len(price["offers"]),
                "providers": sorted({offer["provider"] for offer in price["offers"]}),
            }


HINTS: Final[Mapping[str, str]] = {
    "stacks": "a folder of `moesim calibrate -o DIR` is a stack too, by its path: stack: ./DIR in a scenario, "
    "--set stack=./DIR, `moesim kernels ./DIR SHAPES.csv`",
}
"""Kind → what else there is to know of its entries, on standard error."""


def _plain(header: str, key: str) -> Column:
    """A text, or a whole number, as it stands."""
    return Column(header, lambda entry: _as_text(entry.get(key)))


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _figure(header: str, key: str, as_text: Callable[[float], str]) -> Column:
    """A figure with its unit; nothing where the entry has none."""
    return Column(header, lambda entry: "" if entry.get(key) is None else as_text(entry[key]))


def _peak(number_format: str) -> Column:
    def as_text(entry: Entry) -> str:
        peak = entry["peak_flop_per_s"].get(number_format)
        return "" if peak is None else f"{numbers.tflops(peak / TERA)} TFLOP/s"

    return Column(f"dense {number_format.upper()}", as_text)


def _experts(entry: Entry) -> str:
    """Routed experts, those of a token, shared ones: "256, 8 a token, 1 shared"."""
    moe = entry.get("moe")
    if not moe:
        return "dense"
    shared = f", {moe['num_shared_experts']} shared" if moe.get("num_shared_experts") else ""
    return f"{moe['num_routed_experts']}, {moe['top_k']} a token{shared}"


def _price_range(entry: Entry) -> str:
    ends = [entry.get(end) if entry.get(end) is not None else entry["usd_per_gpu_hour"] for end in ("low", "high")]
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


NAME: Final = _plain("name", "name")
COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "gpus": (
        NAME, _peak("bf16"), _figure("memory", "hbm_bytes", numbers.amount_of_bytes),
        _figure("bandwidth", "hbm_bytes_per_s", numbers.bytes_rate), _peak("fp8"), _peak("fp4"),
        _plain("SMs", "num_sms"), Column("power", lambda gpu: f"{gpu['tdp_w']:,.0f} W"), _plain("vendor", "vendor"),
    ),
    "nodes": (
        NAME, _plain("GPU", "gpu"), _plain("GPUs", "gpus_per_node"),
        _figure("scale-up", "scale_up_bytes_per_s", numbers.bytes_rate), _plain("domain", "scale_up_domain_gpus"),
        _plain("NICs", "nics_per_node"), _figure("of each", "nic_bytes_per_s", numbers.bytes_rate),
        _plain("link", "scale_up_name"),
    ),
    "fabrics": (
        NAME, _plain("technology", "technology"), _figure("port", "port_bytes_per_s", numbers.bytes_rate),
        _plain("topology", "topology"), _plain("planes", "num_planes"), _plain("layers", "num_layers"),
        _figure("latency", "latency_cross_leaf_s", numbers.seconds),
        Column("oversubscribed", lambda fabric: f"{fabric['oversubscription']:g}:1"),
    ),
    "models": (
        NAME, _figure("parameters", "num_parameters", numbers.amount),
        _figure("active", "num_active_parameters", numbers.amount), _plain("layers", "num_layers"),
        Column("experts", _experts), _plain("hidden", "hidden_size"),
        Column("attention", lambda model: str(model["attention"]["kind"])),
    ),
    "stacks": (
        NAME, _plain("GPU", "gpu"), _plain("kind", "kind"),
        Column("default", lambda stack: "yes" if stack["is_default"] else ""), _plain("date", "date"),
        Column("limit", lambda stack: f"{stack['power_limit_w']:g} W" if "power_limit_w" in stack else ""),
        Column("description", lambda stack: str(stack["description"]), is_prose=True),
    ),
    "schedules": (
        NAME, _plain("bubble", "bubble"), _plain("copies of the weights", "parameter_copies"),
        _plain("fewest micro-batches on 8 ranks", "min_micro_batches_of_8_ranks"),
    ),
    "frameworks": (
        NAME, _plain("date", "date"), _plain("switches", "num_switches"),
        Column("summary", lambda release: str(release["summary"]), is_prose=True),
    ),
    "topologies": (NAME, _plain("networks", "networks")),
    "recipes": (
        NAME, _plain("GEMMs", "gemm_dtype"), _plain("dispatch", "dispatch_dtype"), _plain("saved", "attn_out"),
        _plain("block", "block"),
    ),
    "presets": (
        NAME, _plain("model", "model"), _plain("GPUs", "num_gpus"), _plain("node", "node"), _plain("stack", "stack"),
        _plain("kind", "stack_kind"),
    ),
    "cases": (
        NAME, _plain("GPUs", "num_gpus"), _plain("GPU", "gpu"), _plain("quantities", "num_quantities"),
        _plain("precision", "precision"), _plain("scenario", "scenario"), _plain("stacks", "stacks"),
    ),
    "prices": (
        NAME, _plain("GPU", "gpu"), Column("USD/GPU-hour", lambda price: f"{price['usd_per_gpu_hour']:.2f}"),
        Column("range", _price_range), _plain("date", "date"), _plain("currency", "currency"),
        _plain("offers", "num_offers"), Column("by", lambda price: ", ".join(price["providers"]), is_prose=True),
    ),
}  # fmt: skip
"""Kind → its columns, the most asked for first (rates of nodes are a GPU's); a narrow screen goes without the last."""
