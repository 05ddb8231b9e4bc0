"""The parts by name: the only list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from hwprofiles.calibration.several import experts, messages, models

WORKS: Final[Mapping[str, Callable[..., Iterator[Mapping[str, Any]]]]] = {
    "messages": messages.rows, "layers": experts.layer_rows, "models": experts.model_rows,
    "pipelines": models.pipeline_rows, "sharded": models.sharded_rows,
}  # fmt: skip
