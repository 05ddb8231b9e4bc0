"""The step: its timeline, where its time goes, and what binds it."""

from __future__ import annotations

from simulator.report import facts, numbers
from simulator.report.figures import step as figures
from simulator.report.figures import timeline as pictures
from simulator.report.formats import ReportItem
from simulator.report.html.blocks import Block, Folded, Section, Table, Words, section
from simulator.report.html.charts import chart
from simulator.report.timeline_words import category_words, draw_words, view_words
from simulator.results.run_result import RunResult
from simulator.results.step_result import PART_NAMES, StepTimes


def where_time_goes(result: RunResult, key: str) -> Section | None:
    """By category, by part and rank, what binds, and the collectives."""
    times = result.step
    return section(key, "Where the time goes", [*_categories(times, key), *_parts(times, key), *_binding(times, key)])


def _categories(times: StepTimes, key: str) -> list[Block]:
    if not times.by_category:
        return []
    there = sorted(times.by_category, key=lambda each: -each.seconds)
    unit, texts = numbers.column_of_seconds([each.seconds for each in there], times.step_s)
    rows = tuple(
        (
            category_words(each.category),
            text,
            numbers.percent(each.share),
            facts.CATEGORY_LEGENDS.get(each.category, ""),
        )
        for each, text in zip(there, texts, strict=True)
    )
    return [
        chart(
            f"{key}-categories", "The step's time by category, mean pipeline rank; the bars add up to the step",
            figures.waterfall_alt(times), lambda mode: figures.waterfall(times, mode),
        ),
        Folded("The same as a table", (
            Table("Categories of the step's time", ("category", unit, "share", "what it is"), rows, frozenset({3})),
        )),
    ]  # fmt: skip


def _parts(times: StepTimes, key: str) -> list[Block]:
    names = [name for name in PART_NAMES if any(getattr(rank, name) > 0 for rank in times.by_rank)]
    unit, _ = numbers.column_of_seconds([], times.step_s)
    rows = [
        (label, *numbers.column_of_seconds([*(getattr(part, name) for name in names), times.step_s], times.step_s)[1])
        for label, part in (
            ("first rank", times.parts.edge), ("middle rank", times.parts.middle), ("mean", times.parts.mean),
        )
    ]  # fmt: skip
    shares = [numbers.percent(getattr(times.parts.mean, name) / times.step_s) for name in names]
    rows.append(("share of the mean", *shares, numbers.percent(1.0)))
    headers = ("", *(facts.PART_WORDS[name] for name in names), "step")
    legends = [facts.PART_LEGENDS[name] for name in names if name in facts.PART_LEGENDS]
    if times.exposed_comm_s is not None:
        share = numbers.percent(times.exposed_comm_s / times.step_s)
        legends.append(f"exposed communication {numbers.seconds(times.exposed_comm_s)} ({share}), inside these parts")
    uneven = facts.fullest_rank(times)
    return [
        *([] if len(times.by_rank) == 1 else [chart(
            f"{key}-parts", "Parts of the step on each pipeline rank", figures.parts_alt(times),
            lambda mode: figures.parts_by_rank(times, mode),
        )]),
        Table(f"Parts of the step, in {unit}", headers, tuple(rows)),
        *([Words("; ".join(legends) + ".", "note")] if legends else []),
        *([Words(f"{power[0].upper()}{power[1:]}.", "note")] if (power := facts.power_words(times)) else []),
        *(Words(note, "note") for note in facts.step_notes(times)),
        *([Words(f"{uneven[0].upper()}{uneven[1:]}.", "warning")] if uneven else []),
    ]  # fmt: skip


def _binding(times: StepTimes, key: str) -> list[Block]:
    if not times.binding:
        return []
    ranked = sorted(times.binding, key=lambda each: -each.seconds)
    unit, texts = numbers.column_of_seconds([each.seconds for each in ranked], times.step_s)
    rows = tuple(
        (category_words(each.what), text, numbers.percent(each.seconds / times.step_s), each.why)
        for each, text in zip(ranked, texts, strict=True)
    )
    return [
        chart(
            f"{key}-binding", "What binds the step: what it would gain if this alone were free",
            figures.binding_alt(times), lambda mode: figures.binding(times, mode),
        ),
        Table("A what-if each, no parts of the step", ("", unit, "of the step", "what it is"), rows, frozenset({3})),
    ]  # fmt: skip


def timeline(item: ReportItem, key: str, max_bars: int) -> Section | None:
    """The step as a picture of at most so many bars; or the sentence that says why there is none."""
    drawn = item.timeline
    if drawn is None:
        return section(
            key, "Timeline of the step", [Words(item.why_no_timeline, "note")] if item.why_no_timeline else []
        )
    caption = "Pipeline ranks and their streams over the step"
    view = pictures.overview_of(drawn, max_bars)
    picture = chart(f"{key}-bars", caption, pictures.alt(view), lambda mode: pictures.timeline_figure(view, mode))
    return section(key, "Timeline of the step", [picture, Words(f"{draw_words(drawn)} {view_words(view)}", "note")])
