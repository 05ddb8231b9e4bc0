"""The pages, in their order: one file a page, which lays out and computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dashboards.views import accuracy, compare, memory, network, plan, report, timeline, what_if


@dataclass(frozen=True, slots=True)
class Page:
    """One page. slug: its part of the address; icon: an emoji (the icons of a font would be fetched from another host)."""

    slug: str
    title: str
    icon: str
    show: Callable[[], None]


PAGES: Final[tuple[Page, ...]] = (
    Page("what_if", "What if", "🎛️", what_if.show),
    Page("plan", "Plan", "🧭", plan.show),
    Page("timeline", "Timeline", "📊", timeline.show),
    Page("memory", "Memory", "🧱", memory.show),
    Page("compare", "Compare", "⚖️", compare.show),
    Page("accuracy", "How right?", "🎯", accuracy.show),
    Page("network", "Network", "🕸️", network.show),
    Page("report", "Report", "📄", report.show),
)
