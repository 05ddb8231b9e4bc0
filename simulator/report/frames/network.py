"""Links of a network view, and the collectives of its step."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from simulator.report.network_words import link_words
from simulator.results.network_view import TRAFFICS, NetworkView
from simulator.results.step_result import CollectiveTime


def links_frame(view: NetworkView) -> pd.DataFrame:
    """One row a kind of link, bottom up: link (in words), count, rate_bytes_per_s, load_bytes (of the fullest, a step),
    share (of what it could carry, 0 to 1), mean_load_bytes, message_s, and <traffic>_bytes of the fullest.
    """
    rows = [
        {
            "link": link_words(view, link.kind),
            "count": link.count,
            "rate_bytes_per_s": link.bytes_per_s,
            "load_bytes": link.load(),
            "share": view.share(link),
            "mean_load_bytes": link.mean_load(),
            "message_s": link.message_s(),
            **{f"{traffic}_bytes": link.load(traffic) for traffic in TRAFFICS},
        }
        for link in view.links
    ]
    return pd.DataFrame(rows)


def collectives_frame(collectives: Sequence[CollectiveTime]) -> pd.DataFrame:
    """One row a collective, the longest first: name, ranks, nodes, size_bytes, seconds (alone), gb_per_s, limit, basis."""
    rows = sorted(collectives, key=lambda row: (-row.seconds, row.name))
    return pd.DataFrame(
        [
            (
                row.name.replace("_", " ").replace(".", ", "), row.ranks, row.nodes, row.bytes, row.seconds, row.gb_per_s,
                row.limit.replace("_", "-"), row.basis,
            )
            for row in rows
        ],
        columns=["name", "ranks", "nodes", "size_bytes", "seconds", "gb_per_s", "limit", "basis"],
    )  # fmt: skip
