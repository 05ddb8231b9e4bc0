"""Sheet Sources: who computed what from what, where every price and measurement stands, and what is not in the figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from hwprofiles.record_file import CatalogError
from hwprofiles.stack_choice import load_stack
from simulator.report import contents, facts, inputs
from simulator.report.formats import ReportItem
from simulator.report.sheets.sheet import Sheet
from simulator.results.run_result import RunResult

NAME: Final = "Sources"
HEAD: Final = 3
TITLES: Final = ("scenario", "about", "what", "value")
WIDTHS: Final = (18, 24, 44, 110)

Line = tuple[str, str, str]
"""(of, what, value)."""


def write(sheet: Sheet, names: Sequence[str], items: Sequence[ReportItem]) -> None:
    """A row a statement, grouped by what it is of."""
    sheet.title("Sources", "Version, hashes, prices, measurements; what a total contains; what is not modelled.", 3)
    sheet.widths(WIDTHS)
    for column in range(len(TITLES)):
        sheet.text(HEAD, column, TITLES[column], sheet.styles.header("left"))
    sheet.page.freeze_panes(HEAD + 1, 2)
    sheet.page.repeat_rows(HEAD)
    row = HEAD + 1
    for name, item in zip(names, items, strict=True):
        for line in _lines(item):
            sheet.text(row, 0, name, sheet.styles.name())
            sheet.line(row, dict(enumerate(line, start=1)))
            row += 1
    for words in contents.NOTES:
        sheet.line(row, dict(enumerate(("total", "how to compare it", words), start=1)))
        row += 1
    sheet.page.autofilter(HEAD, 0, row - 1, len(TITLES) - 1)


def _lines(item: ReportItem) -> Iterator[Line]:
    result = item.result
    yield from _provenance(result)
    yield from _price(result)
    for what, here, full in contents.rows(result):
        yield "total", what, f"{here}; at full batch: {full}" if here else f"at full batch: {full}"
    yield from (("not modelled", "", words) for words in result.not_modelled)
    yield from (("warning", "", words) for words in result.warnings)
    yield from (("dropped", "", words) for words in result.dropped)
    if item.why_no_timeline:
        yield "provenance", "figures", item.why_no_timeline
    yield from _stack(result)
    yield from _inputs(result)


def _provenance(result: RunResult) -> Iterator[Line]:
    rows: Iterable[tuple[str, object]] = (
        ("moesim", result.version),
        ("scenario", result.scenario_sha256),
        ("stack", f"{result.stack}, {result.stack_kind}"),
        ("stack's hash", result.stack_sha256),
        ("seed", result.seed),
        ("model", facts.model_line(result)),
        ("machines", facts.machines_line(result)),
        ("batch", facts.batch_line(result)),
        ("placement", facts.placement_line(result)),
        ("other kind of stack", facts.other_kind_line(result)),
    )
    yield from (("provenance", what, str(value)) for what, value in rows if str(value))


def _price(result: RunResult) -> Iterator[Line]:
    price = result.price
    if price is None:
        yield "price", "", "none is given: no cost is computed"
        return
    exact = price.low == price.high
    ends = "as given, no range is known" if exact else f"{price.low:g} to {price.high:g}"
    yield "price", "USD/GPU-hour", f"{price.usd_per_gpu_hour:g} ({ends})"
    yield "price", "source", price.source
    for key in ("sheet", "date", "provider", "region", "commitment"):
        value = getattr(price, key)
        if value is not None:
            yield "price", key, value
    for offer in price.offers or ():
        where = f"{offer.provider}{f' {offer.region}' if offer.region else ''}, {offer.commitment}"
        yield "price offer", where, f"{offer.usd_per_gpu_hour:g} USD/GPU-hour, {offer.date}: {offer.source}"


def _stack(result: RunResult) -> Iterator[Line]:
    """The sources of the stack's measurements, where the stack here is the one of the result."""
    try:
        stack = load_stack(str(result.scenario.get("stack", result.stack)))
    except CatalogError:
        yield "stack", result.stack, "not in this version's catalogue"
        return
    if stack.sha256 != result.stack_sha256:
        yield "stack", result.stack, "this version has other measurements under this name"
        return
    for name, source in stack.provenance.sources.items():
        yield "stack", name, source.text


def _inputs(result: RunResult) -> Iterator[Line]:
    """What differs from the nearest preset, then every key of the scenario."""
    found = inputs.from_preset(result)
    if found is not None:
        for key, old, new in found.rows:
            yield f"differs from {found.preset}", key, f"{new} (there: {old})"
    for each in inputs.all_inputs(result):
        yield "input, by default" if each.is_default else "input, as given", each.key, each.value
