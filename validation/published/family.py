"""The table of model names (models.yaml): what a name says beside the dimension columns, with its source."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from hwprofiles.record_file import read_mapping

TABLE = Path(__file__).parent / "models.yaml"


class FamilyRecord(BaseModel):
    """One entry; the keys are told in the table's head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ffn: str = "swiglu"
    ffn_bias: bool = False
    attention: dict[str, Any] = {}
    model: dict[str, Any] = {}
    moe: dict[str, Any] = {}
    every: int = 1
    positions: bool = False
    none: str = ""
    source: str


@cache
def families() -> dict[str, FamilyRecord]:
    """The table. Raises CatalogError where the file is wrong."""
    return read_mapping(TABLE, FamilyRecord)


def family_of(model: str) -> FamilyRecord | None:
    """The entry of a model's name: its own, else the longest name that it begins with; None where there is none."""
    known = [name for name in families() if model == name or model.startswith((f"{name}-", f"{name} "))]
    return families()[max(known, key=len)] if known else None
