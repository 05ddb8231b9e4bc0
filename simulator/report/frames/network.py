"""Links of a network view, and the collectives of its step: in SI, and as texts to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from simulator.report import numbers
from simulator.report.network_words import SHORT_TRAFFIC, collective_words, link_words
from simulator.results.network_view import TRAFFICS, NetworkView
from simulator.results.step_result import CollectiveTime

LIMIT_WORDS: Final = {"nic": "NIC", "scale-up": "scale-up link", "sms": "SMs"}
LEAST_RATE: Final = 0.01
"""In GB/s: a message of one number has no rate that says anything."""


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
                collective_words(row.name), row.ranks, row.nodes, row.bytes, row.seconds, row.gb_per_s,
                row.limit.replace("_", "-"), row.basis,
            )
            for row in rows
        ],
        columns=["name", "ranks", "nodes", "size_bytes", "seconds", "gb_per_s", "limit", "basis"],
    )  # fmt: skip


def links_shown(view: NetworkView) -> pd.DataFrame:
    """`links_frame` as texts, with a column for each kind of traffic that there is."""
    size, frame = numbers.amount_of_bytes, links_frame(view)
    there = [traffic for traffic in TRAFFICS if frame[f"{traffic}_bytes"].any()]
    shown = pd.DataFrame(
        {
            "link": frame["link"],
            "count": [f"{count:,}" for count in frame["count"]],
            "rate": [numbers.bytes_rate(rate) for rate in frame["rate_bytes_per_s"]],
            "fullest load": [size(load) for load in frame["load_bytes"]],
            "share": [numbers.percent(share) for share in frame["share"]],
            "mean load": [size(load) for load in frame["mean_load_bytes"]],
            "messages alone": [numbers.seconds(seconds) if seconds else "" for seconds in frame["message_s"]],
        }
    )
    for traffic in there:
        loads = frame[f"{traffic}_bytes"]
        shown[SHORT_TRAFFIC[traffic]] = [size(load) if load else "" for load in loads]
    return shown


def collectives_shown(collectives: Sequence[CollectiveTime]) -> pd.DataFrame:
    """`collectives_frame` as texts."""
    frame = collectives_frame(collectives)
    return pd.DataFrame(
        {
            "collective": frame["name"],
            "GPUs": [f"{ranks:,}" for ranks in frame["ranks"]],
            "nodes": [f"{nodes:,}" for nodes in frame["nodes"]],
            "size": [numbers.amount_of_bytes(size) for size in frame["size_bytes"]],
            "alone": [numbers.seconds(seconds) for seconds in frame["seconds"]],
            "GB/s": [numbers.plain(rate) if rate >= LEAST_RATE else "" for rate in frame["gb_per_s"]],
            "limited by": [LIMIT_WORDS.get(limit, limit) for limit in frame["limit"]],
            "known": frame["basis"],
        }
    )
