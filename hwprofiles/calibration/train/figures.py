"""What three runs say, compared. No torch: plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

FIRST, LAST = 5, 20
"""Steps at the beginning and at the end over which losses are averaged and loads summed."""


@dataclass(frozen=True, slots=True)
class Record:
    """One run, step by step. main, mtp: mean losses in nats a token. loads: [step][layer][expert] tokens that chose it."""

    main: tuple[float, ...]
    mtp: tuple[float, ...]
    loads: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def last_loads(self) -> list[list[int]]:
        """[layer][expert], summed over the last steps."""
        return [[sum(expert) for expert in zip(*layer, strict=True)] for layer in zip(*self.loads[-LAST:], strict=True)]


def violation(loads: Sequence[Sequence[int]]) -> float:
    """The largest over layers of max load / mean load - 1 (arXiv:2408.15664, section 4.1); loads: [layer][expert]."""
    return max(max(layer) / fmean(layer) - 1.0 for layer in loads)


def figures(records: Mapping[str, Record]) -> dict[str, Any]:
    """What `--json` prints. records: of the runs bias, none and fp8."""
    bias, none, fp8 = (records[name] for name in ("bias", "none", "fp8"))
    loads = {name: record.last_loads for name, record in records.items()}
    return {
        "loss_first": fmean(bias.main[:FIRST]),
        "loss_last": fmean(bias.main[-LAST:]),
        "loss_last_none": fmean(none.main[-LAST:]),
        "loss_last_fp8": fmean(fp8.main[-LAST:]),
        "mtp_loss_first": fmean(bias.mtp[:FIRST]),
        "mtp_loss_last": fmean(bias.mtp[-LAST:]),
        "max_violation_bias": violation(loads["bias"]),
        "max_violation_none": violation(loads["none"]),
        "loads": loads,
    }
