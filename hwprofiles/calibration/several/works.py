"""The parts by name: the only list. Each takes names of rows that are there, which are not measured again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from hwprofiles.calibration.machine.ranks import Rank
from hwprofiles.calibration.several import experts, messages, models
from hwprofiles.calibration.several.timing import meet

WORKS: Final[Mapping[str, Callable[..., Iterator[Mapping[str, Any]]]]] = {
    "messages": messages.rows, "layers": experts.layer_rows, "models": experts.model_rows,
    "pipelines": models.pipeline_rows, "sharded": models.sharded_rows,
}  # fmt: skip


def rows_of(place: Rank, part: str, done: Collection[str], **more: Any) -> Iterator[Mapping[str, Any]]:
    """A part's rows. Processes leave together: one with nothing left to do would close what another still connects."""
    yield from WORKS[part](place, done, **more)
    meet(place)
