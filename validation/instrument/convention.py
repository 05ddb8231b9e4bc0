"""FLOP that a row counts: the model's with attention in full, or, of some software, causal attention; of some tables, what is
computed again too.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.record_file import read_mapping
from simulator.results.rates import FlopPerToken
from simulator.scenario.scenario import Scenario
from validation.published.row import Row

SPEEDS: Final = ("tflops_per_gpu", "mfu")
"""Columns that count FLOP."""
COUNTS_RECOMPUTATION: Final = ("count recomputation", "counts recomputation", "counting recomputation")
TABLE: Final = Path(__file__).parent / "conventions.yaml"


class Convention(BaseModel):
    """One entry; the keys are told in the table's head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    releases: tuple[str, ...] = Field(min_length=1)
    attention: Literal["causal"]
    source: str = Field(min_length=1)


@cache
def conventions() -> dict[str, Convention]:
    """The table. Raises CatalogError where the file is wrong."""
    return read_mapping(TABLE, Convention)


def counts_causal(release: str | None) -> bool:
    """Whether the software's figure counts half of the full attention; False where the software is not known."""
    patterns = [pattern for each in conventions().values() for pattern in each.releases]
    return release is not None and any(fnmatchcase(release, pattern) for pattern in patterns)


def counted_over_model(row: Row, column: str, scenario: Scenario, flop: FlopPerToken, release: str | None) -> float:
    """FLOP that the row's figure counts, over the model's with attention in full; 1 of a figure that counts none.

    flop: the model's, a token; release: name@release of the software. Of a row that says that it counts recomputation, and
    recomputes whole layers, a layer's forward counts twice, four passes for three; the logits' does not (arXiv:2104.04473
    equation 3: 96 B s l h^2 (1 + s / 6h + V / 16lh)).
    """
    if column not in SPEEDS:
        return 1.0
    counted = flop.causal if counts_causal(release) else flop.noncausal
    if row.says(*COUNTS_RECOMPUTATION) and scenario.recompute.granularity == "full":
        logits = 6.0 * scenario.model.hidden_size * scenario.model.vocab_size
        counted = 4.0 / 3.0 * (counted - logits) + logits
    return counted / flop.noncausal
