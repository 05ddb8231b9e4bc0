"""FLOP that a row counts: the model's, or, of some tables, what is computed again too."""

from __future__ import annotations

from typing import Final

from simulator.scenario.scenario import Scenario
from validation.published.row import Row

SPEEDS: Final = ("tflops_per_gpu", "mfu")
"""Columns that count FLOP."""
COUNTS_RECOMPUTATION: Final = ("count recomputation", "counts recomputation", "counting recomputation")


def counted_over_model(row: Row, column: str, scenario: Scenario, flop_per_token: float) -> float:
    """FLOP that the row's figure counts, over the model's; 1 unless the row says that it counts recomputation and recomputes
    whole layers.

    flop_per_token: the model's, attention in full. With full recomputation a layer's forward runs twice, four passes for
    three; the logits' does not (arXiv:2104.04473 equation 3: 96 B s l h^2 (1 + s / 6h + V / 16lh)).
    """
    if column not in SPEEDS or not row.says(*COUNTS_RECOMPUTATION) or scenario.recompute.granularity != "full":
        return 1.0
    logits = 6.0 * scenario.model.hidden_size * scenario.model.vocab_size
    return (4.0 / 3.0 * (flop_per_token - logits) + logits) / flop_per_token
