"""What other simulators say of their accuracy (peers.yaml)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.record_file import read_mapping
from simulator.report import markdown_text

TABLE: Final = Path(__file__).parent / "peers.yaml"


class Peer(BaseModel):
    """One entry; the keys are told in the table's head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claim: str = Field(min_length=1)
    measured_on: str = Field(min_length=1)
    points: str = Field(min_length=1)
    rests_on: str = Field(min_length=1)
    source: str = Field(min_length=1)


@cache
def peers() -> dict[str, Peer]:
    """The table. Raises CatalogError where the file is wrong."""
    return read_mapping(TABLE, Peer)


def peers_text() -> str:
    """A Markdown table, one row a simulator; the entries are Markdown, with links."""
    rows = (
        [name, each.claim, each.measured_on, each.points, each.rests_on, each.source] for name, each in peers().items()
    )
    headers = ("simulator", "its own claim", "measured on", "points", "rests on", "source")
    return "\n".join(markdown_text.table(headers, rows, range(len(headers))))
