"""One look for dashboard, report and spreadsheet: colours that stay apart for colour-blind readers, on light and on dark.

Hues are those of Okabe and Ito (2008, "Color Universal Design"), darkened or lightened where text or a bar would not
stand out from the page. A colour means the same thing wherever it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Mode = Literal["light", "dark"]

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
"""Fonts that are on the reader's machine: none is ever fetched."""

SERIES: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F")
"""Colours of series without a meaning of their own, in order."""

CATEGORY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gemm": "#0072B2",
        "expert_gemm": "#56B4E9",
        "attention": "#009E73",
        "memory_bound": "#E69F00",
        "kernel_gaps": "#A6A6A6",
        "tp_collectives": "#8C6BB1",
        "cp_collectives": "#C994C7",
        "interference": "#B58BC9",
        "all_to_all": "#CC79A7",
        "pp_transfer": "#B0548A",
        "data_parallel": "#882255",
        "link_sharing": "#D9A3C2",
        "exposed_communication": "#D55E00",
        "host": "#F0A58A",
        "bubble": "#D9D9D9",
        "optimizer": "#5C4B3A",
        "offload": "#B8860B",
        "other": "#7F7F7F",
    }
)
"""Where the time of a step goes: computing in blues, greens and yellow, communication in purples, what is lost in orange
(exposed communication) and grey (bubble)."""

MEMORY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "weights": "#0072B2",
        "gradients": "#56B4E9",
        "optimizer": "#5C4B3A",
        "activations": "#E69F00",
        "buffers": "#CC79A7",
    }
)
"""What fills a GPU's memory."""

BASIS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "measured": "#009E73",
        "interpolated": "#56B4E9",
        "extrapolated": "#E69F00",
        "transferred": "#CC79A7",
        "assumed": "#D55E00",
    }
)
"""How well a duration is known, the best first."""

VERDICT: Final[Mapping[str, str]] = MappingProxyType(
    {"fits": "#00734F", "marginal": "#9A6700", "does not fit": "#B33A00"}
)
"""Does the plan fit? As text on a light page these have a contrast of at least 4.5."""


@dataclass(frozen=True, slots=True)
class Page:
    """Colours of a page: background, raised surface, text, quieter text, lines, and the accent of links and controls."""

    background: str
    surface: str
    text: str
    muted: str
    line: str
    accent: str


PAGES: Final[Mapping[Mode, Page]] = MappingProxyType(
    {
        "light": Page("#FFFFFF", "#F6F7F9", "#0F1216", "#57606A", "#D0D7DE", "#005A8C"),
        "dark": Page("#0E1117", "#1A1F27", "#E6EDF3", "#9DA7B3", "#3A424D", "#56B4E9"),
    }
)
