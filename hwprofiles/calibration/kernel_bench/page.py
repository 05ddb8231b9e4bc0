"""Tables of docs/kernels.md out of what is committed: `python -m hwprofiles.calibration.kernel_bench.page PAGE [MEASURED.csv]`.

The page is written by people, but for what stands between `<!-- block: NAME -->` and `<!-- end -->`. No torch.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.command import guarded, write_whole
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernel_bench.summary import summary
from hwprofiles.catalog import gpu_of_device, load_gpu
from hwprofiles.names import nearest
from hwprofiles.problem import Problem
from hwprofiles.schema import Gpu
from hwprofiles.units import GIGA, KILO, MEGA, MICRO
from hwprofiles.yaml_file import read_yaml

ROOT: Final = Path(__file__).parents[3]
MEASURED: Final = ROOT / "hwprofiles" / "measurements" / "h100-own-kernels-2026-11-28.csv"
AT_SCALE: Final = ROOT / "validation" / "data" / "kernels_at_scale.csv"
BLOCK: Final = re.compile(r"^<!-- block: ([^\n]+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
TEXTS: Final = ("kind", "name", "library", "variant", "loads", "note", "what", "fits")
Row = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page. Exit code 0; 2 for files that cannot be."""
    return guarded("page", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hwprofiles.calibration.kernel_bench.page")
    parser.add_argument("page", type=Path, metavar="PAGE.md")
    parser.add_argument("measured", type=Path, nargs="?", default=MEASURED, metavar="MEASURED.csv")
    parser.add_argument("--at-scale", type=Path, default=AT_SCALE, metavar="FILE.csv")
    given = parser.parse_args(arguments)
    write_whole(given.page, composed(_text(given.page), given.measured, given.at_scale))
    return 0


def composed(text: str, measured: Path, at_scale: Path) -> str:
    """The page with its blocks made anew. Raises CalibrationError: a block that nothing makes, or a file that is not there."""
    of_errors = measured.with_name(measured.name.replace("own-kernels", "own-kernel-errors"))
    blocks: dict[str, Callable[[], str]] = {
        "card": partial(card, measured), "summary": partial(_summary, measured), "at scale": partial(scale_table, at_scale),
        "power": partial(power, measured), "errors": partial(errors, of_errors), "streaming": partial(streaming, measured),
        **{name: partial(products, measured, *which) for name, which in PRODUCTS.items()},
    }  # fmt: skip

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if name not in blocks:
            raise CalibrationError([Problem("", f"block: {name}", f"nothing makes it{nearest(name, blocks)}")])
        return f"<!-- block: {name} -->\n\n{blocks[name]()}\n\n<!-- end -->"

    return BLOCK.sub(block, text)


PRODUCTS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "dense": ("dense", "fprop", ("moesim", "moesim-triton", "torch-block")),
    "input gradients": ("dense", "dgrad", ("moesim", "moesim-triton", "torch-block")),
    "weight gradients": ("dense", "wgrad", ("moesim", "moesim-added", "moesim-triton", "torch-block")),
    "grouped": ("grouped", "fprop", ("moesim", "moesim-triton", "torch-loop", "torch-row")),
    "grouped input gradients": ("grouped", "dgrad", ("moesim", "moesim-triton", "torch-loop", "torch-row")),
    "grouped weight gradients": (
        "grouped",
        "wgrad",
        ("moesim", "moesim-added", "moesim-triton", "torch-loop", "torch-row"),
    ),
}
"""Block → kind, pass, libraries of its columns, the last but moesim's own what it is held against."""


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a measured table, numbers as numbers, what is empty left out."""
    return [
        {name: text if name in TEXTS else float(text) for name, text in row.items() if text != ""}
        | {name: row.get(name, "") for name in TEXTS if name in row}
        for row in csv.DictReader(_text(path).splitlines())
    ]


def card(measured: Path) -> str:
    """On what it was measured."""
    facts = read_yaml(measured.with_suffix(".yaml")).data
    return (
        f"{facts['device']}, {facts['power_limit_w']:g} W, driver {facts['driver']}, torch {facts['torch']}, CUDA "
        f"{facts['cuda']};\n`hwprofiles/measurements/{measured.name}`, {facts['source']['date']}."
    )


def _gpu(measured: Path) -> Gpu:
    known = gpu_of_device(str(read_yaml(measured.with_suffix(".yaml")).data["device"]))
    if known is None:
        raise CalibrationError([Problem(str(measured), "device", "the catalogue has no such GPU")])
    return load_gpu(known)


def _summary(measured: Path) -> str:
    lines = [
        "| | geometric mean | least | most | of | reach | aim |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in summary(read(measured)):
        mark = f"**{line['mean']:.2f}**" if line["reach"] and line["reached"] else f"{line['mean']:.2f}"
        reach, aim = (f"{line[name]:.2f}" if line[name] else "" for name in ("reach", "aim"))
        ends = f"{line['least']:.2f} | {line['most']:.2f} | {line['number']}"
        lines.append(f"| {line['what']} | {mark} | {ends} | {reach} | {aim} |")
    return "\n".join(lines)


def products(measured: Path, kind: str, variant: str, libraries: Sequence[str]) -> str:
    """A row a product: FLOP and bytes, what the roofline allows, and TFLOP/s by library with their share of the peak."""
    rows, gpu = read(measured), _gpu(measured)
    by_name: dict[str, dict[str, Row]] = {}
    for row in rows:
        if (row["kind"], row["variant"]) == (kind, variant) and row.get("seconds"):
            by_name.setdefault(row["name"], {})[row["library"]] = row
    there = [name for name in libraries if any(name in of for of in by_name.values())]
    lines = [
        f"| {variant} | GFLOP | MB | roofline, us | {' | '.join(there)} | own over {there[-1]} | clock, GHz |",
        "| --- |" + " ---: |" * (len(there) + 5),
    ]
    lines += [_product(name, of, there, gpu) for name, of in by_name.items()]
    return "\n".join(lines)


def _product(name: str, of: Mapping[str, Row], libraries: Sequence[str], gpu: Gpu) -> str:
    any_row = next(iter(of.values()))
    by_flop, by_bytes = any_row["flop"] / gpu.peak_flop_per_s["fp8"], any_row["bytes"] / gpu.hbm_bytes_per_s
    bound = "FLOP" if by_flop >= by_bytes else "bytes"
    cells = [f"{of[each]['tflops']:,.0f} ({of[each]['peak_share']:.0%})" if each in of else "" for each in libraries]
    own, other = of.get("moesim"), of.get(libraries[-1])
    ratio = f"{other['seconds'] / own['seconds']:.2f}" if own and other and libraries[-1] != "moesim" else ""
    clock = f"{any_row['clock_hz'] / GIGA:.2f}" if any_row.get("clock_hz") else ""
    return (
        f"| {name.partition(' ')[2]} | {any_row['flop'] / GIGA:,.0f} | {any_row['bytes'] / MEGA:,.0f} | "
        f"{max(by_flop, by_bytes) / MICRO:,.0f} ({bound}) | {' | '.join(cells)} | {ratio} | {clock} |"
    )


def streaming(measured: Path) -> str:
    """A row a kernel: bytes, GB/s beside those of a copy of as many."""
    by_name: dict[str, dict[str, Row]] = {}
    for row in read(measured):
        if row["kind"] == "streaming" and row.get("seconds"):
            by_name.setdefault(row["name"], {})[row["library"]] = row
    lines = [
        "| rows x width | kind | MB | GB/s | of a copy | us |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, of in by_name.items():
        if "moesim" in of:
            own, copy = of["moesim"], of["copy"]
            lines.append(
                f"| {name} | {own['variant']} | {own['bytes'] / MEGA:,.0f} | {own['gb_per_s']:,.0f} | "
                f"{copy['seconds'] / own['seconds']:.0%} | {own['seconds'] / MICRO:,.1f} |"
            )
    return "\n".join(lines)


def errors(of_errors: Path) -> str:
    """A row a pass and kernel, or format."""
    lines = ["| pass | what | checks | worst error | bound |", "| --- | --- | ---: | ---: | ---: |"]
    for row in csv.DictReader(_text(of_errors).splitlines()):
        error, bound = (f"{float(row[name]):.2g}" for name in ("error", "bound"))
        lines.append(f"| {row['variant']} | {row['what']} | {row['checks']} | {error} | {bound} |")
    return "\n".join(lines)


def power(measured: Path) -> str:
    """Watts and clock of products one behind another."""
    lines = ["| | library | W | GHz at the end |", "| --- | --- | ---: | ---: |"]
    for row in read(measured):
        if row.get("watts"):
            lines.append(
                f"| {row['name']} | {row['library']} | {row['watts']:,.0f} | {row['watts_clock_hz'] / GIGA:.2f} |"
            )
    return "\n".join(lines)


def scale_table(at_scale: Path) -> str:
    """A row a variant of the run."""
    rows = list(csv.DictReader(_text(at_scale).splitlines()))
    lines = [
        "| DeepSeek-V3, 2,048 H800 | step, s | expected within | GPU-hours | USD | MFU | GEMMs, s | experts | attention | "
        "memory | waiting for messages | bubble | W |",
        "| --- |" + " ---: |" * 12,
    ]
    return "\n".join([*lines, *map(_scale, rows)])


def _scale(row: Mapping[str, str]) -> str:
    def number(name: str, digits: int = 2) -> str:
        return f"{float(row[name]):,.{digits}f}" if row[name] else ""

    hours, cost = float(row["gpu_hours"]) / KILO, float(row["cost_usd"]) / MEGA
    parts = " | ".join(map(number, PARTS))
    return (
        f"| {row['what']} | {number('step_s')} | {number('low_s', 1)} to {number('high_s', 1)} | {hours:,.0f} K | "
        f"{cost:.2f} M | {float(row['mfu']):.1%} | {parts} | {number('mean_w', 0)} |"
    )


PARTS: Final = ("gemm_s", "expert_gemm_s", "attention_s", "memory_bound_s", "exposed_comm_s", "bubble_s")
"""Columns of a step's seconds."""


def _text(path: Path) -> str:
    """Raises CalibrationError: it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CalibrationError([Problem(str(path), "", f"cannot be read: {error}")]) from None


if __name__ == "__main__":
    sys.exit(main())
