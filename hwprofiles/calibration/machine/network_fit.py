"""A stack's own constants of its scale-up network and of kernels beside messages, of the rows of network.csv.

Rings and all-to-alls: share of the link, fill and exchange share of hwprofiles.collectives.ring_formula (ring_fit, at the
own_step of stacks/transfer), judged on whole counts of GPUs left out. Kernels: the rate that they keep beside NCCL's messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hwprofiles.calibration.machine.part import number
from hwprofiles.calibration.ring_fit import (
    EXCHANGE,
    MIN_BYTES,
    RingFit,
    RingPoint,
    errors,
    fit_exchange,
    fit_rings,
    mean_size,
)
from hwprofiles.catalog import list_names, load_node
from hwprofiles.provenance import Source
from hwprofiles.stack_records import Parameter

OWN_STEP: Final = 0.5
"""`ring.own_step` of stacks/transfer/network.yaml: one number for all GPUs."""
RINGS: Final = ("all_gather", "reduce_scatter", "all_reduce")
BOUND_OF: Final[Mapping[str, str]] = {"gemm": "gemm", "attention": "attention", "copy": "memory"}
"""Kernel of `beside` → what binds it."""
NCCL_SMS: Final = 24.0
"""Blocks of NCCL's kernels on NVLink of Hopper GPUs, which no calibration counts."""
NCCL_SOURCE: Final = Source(
    kind="measurement", where="hwprofiles/measurements/h200x8-nccl-2026-11-27.csv", date="2026-11-27",
    note="blocks of NCCL's kernels on the NVLink of H200",
)  # fmt: skip
SPREAD: Final = 0.03
"""Least half width of a ratio's range: what two calibrations of a GPU may differ by."""


def link_rate(gpu: str) -> float | None:
    """Bytes a second of a GPU's scale-up links together, one way, in the catalogue's first node with it; None: no such node."""
    nodes = (load_node(name) for name in list_names("nodes"))
    return next((node.scale_up_bytes_per_s for node in nodes if node.gpu == gpu), None)


def parameters(rows: Sequence[Mapping[str, Any]], where: str, date: str, gpu: str) -> dict[str, Parameter]:
    """`link.nvlink.*`, `ring.*` and `overlap.collective.*` of the stack; those of links only where the GPU's node is known."""
    found: dict[str, Parameter] = {}
    rate = link_rate(gpu)
    if rate is not None:
        found |= {key: _parameter(*each, where, date) for key, each in _of_links(rows, gpu, rate)}
    beside = {key: _parameter(*each, where, date) for key, each in _beside(rows)}
    if len(beside) == len(BOUND_OF):
        found |= beside
        found["overlap.collective.sms"] = Parameter(
            value=NCCL_SMS, low=NCCL_SMS, high=NCCL_SMS, unit="SMs", basis="transferred", source=NCCL_SOURCE
        )
    return found


Found = tuple[str, tuple[float, float, float, str, str]]
"""Key → value, low, high, unit, note."""


def points_of(rows: Sequence[Mapping[str, Any]], gpu: str, rate: float) -> list[RingPoint]:
    """Collectives alone, of the sizes that the formula is for."""
    named = {**dict.fromkeys(RINGS), "all_to_all": EXCHANGE}
    return [
        RingPoint(
            gpu, named[row["op"]] or row["op"], int(number(row, "ranks")), int(number(row, "bytes")),
            number(row, "seconds"), has_switch=False, link_bytes_per_s=rate,
        )
        for row in rows
        if row["op"] in named and not row.get("kernel") and number(row, "bytes") >= MIN_BYTES
    ]  # fmt: skip


def _of_links(rows: Sequence[Mapping[str, Any]], gpu: str, rate: float) -> Iterator[Found]:
    points = points_of(rows, gpu, rate)
    rings = [point for point in points if point.op != EXCHANGE]
    if rings:
        fit = fit_rings(rings, OWN_STEP)
        each = [fit_rings([p for p in rings if p.op == op], OWN_STEP) for op in sorted({p.op for p in rings})]
        note = f"{len(rings)} collectives, mean error {mean_size(errors(rings, fit)):.1%}{_left_out(rings)}"
        uneven = ", ".join(f"{error:+.1%}" for error in uneven_errors(rows).values())
        note += f"; uneven all-to-alls by their busiest GPU: {uneven}" if uneven else ""
        shares, fills = [fit.share, *(own.share for own in each)], [fit.fill_s, *(own.fill_s for own in each)]
        yield "link.nvlink.ring", (fit.share, min(shares), max(shares), "1", note)
        yield "ring.fill_s", (fit.fill_s, min(fills), max(fills), "s", note)
        yield from _exchange([point for point in points if point.op == EXCHANGE], gpu, fit)
    yield from _sends(rows)


def _exchange(points: Sequence[RingPoint], gpu: str, fit: RingFit) -> Iterator[Found]:
    """Of all-to-alls of more GPUs than are as fast as a ring."""
    many = [point for point in points if point.ranks > 4]
    if not many:
        return
    share = fit_exchange(many, {gpu: fit})
    error = mean_size(errors(many, replace(fit, share=share * fit.share)))
    note = f"{len(many)} all-to-alls, mean error {error:.1%}"
    yield (
        "ring.exchange_share",
        (share, max(0.0, share * (1 - 2 * error)), min(1.0, share * (1 + 2 * error)), "1", note),
    )


def _sends(rows: Sequence[Mapping[str, Any]]) -> Iterator[Found]:
    """Bytes a second of the largest sends: around a ring of GPUs, and between two that exchange."""
    sends = [row for row in rows if row["op"] == "send_recv" and number(row, "bytes") >= MIN_BYTES]
    for key, own in (
        ("p2p_bytes_per_s", [row for row in sends if number(row, "ranks") > 2]),
        ("pair_bytes_per_s", [row for row in sends if number(row, "ranks") == 2]),
    ):
        rates = [number(row, "sent_bytes") / number(row, "seconds") for row in own]
        if rates:
            yield f"link.nvlink.{key}", (rates[-1], min(rates), max(rates), "bytes/s", f"{len(rates)} sizes")


def _left_out(rings: Sequence[RingPoint]) -> str:
    """Mean error of each count of GPUs with the constants of the others."""
    told = ""
    for count in sorted({point.ranks for point in rings}):
        known = [point for point in rings if point.ranks != count]
        if known:
            error = mean_size(errors([p for p in rings if p.ranks == count], fit_rings(known, OWN_STEP)))
            told += f"; {count} GPUs left out {error:.1%}"
    return told


def _beside(rows: Sequence[Mapping[str, Any]]) -> Iterator[Found]:
    """Of kernels that had a message beside them all the time."""
    for kernel, bound in BOUND_OF.items():
        own = [row for row in rows if row.get("kernel") == kernel and str(row["is_covered"]) == "True"]
        ratios = [min(1.0, number(row, "alone_s") / number(row, "beside_s")) for row in own]
        if ratios:
            value = sum(ratios) / len(ratios)
            low, high = min(*ratios, value * (1 - SPREAD)), min(1.0, max(*ratios, value * (1 + SPREAD)))
            told = ", ".join(f"{row['op']} {ratio:.2f}" for row, ratio in zip(own, ratios, strict=True))
            yield f"overlap.collective.{bound}.ratio", (value, low, high, "1", f"of the rate alone: {told}")


def uneven_errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Uneven all-to-all → seconds of an even one by the busiest GPU's bytes, over measured, less one."""
    alone = [row for row in rows if row["op"] == "all_to_all" and not row.get("kernel")]
    even = {(int(number(row, "ranks")), number(row, "bytes")): row for row in alone}
    found = {}
    for row in rows:
        like = even.get((int(number(row, "ranks")), number(row, "bytes"))) if row["op"] == "uneven" else None
        if like is not None:
            expected = number(like, "seconds") * number(row, "sent_bytes") / number(like, "sent_bytes")
            found[str(row["name"])] = expected / number(row, "seconds") - 1.0
    return found


def _parameter(value: float, low: float, high: float, unit: str, note: str, where: str, date: str) -> Parameter:
    return Parameter(
        value=value, low=min(low, value), high=max(high, value), unit=unit, basis="measured",
        source=Source(kind="measurement", where=where, date=date, note=note),
    )  # fmt: skip
