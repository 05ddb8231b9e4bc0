"""What a row's prediction may not know under `--leave-out`, and the stack that is left."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles import catalog
from hwprofiles.efficiencies import load_efficiencies
from hwprofiles.leave_out import LeftOut
from hwprofiles.record_file import read_mapping
from hwprofiles.stack_choice import default_stack, load_stack
from hwprofiles.stack_records import Stack

LeaveOut = Literal["gpu", "source", "family"]
MODES: Final[tuple[LeaveOut, ...]] = get_args(LeaveOut)
"""What is left out of a row's stack: everything of its GPU and of chips of equal datasheet, of its own source, of its GPU's
family.
"""
TABLE: Final = Path(__file__).parent / "publishers.yaml"


class Publisher(BaseModel):
    """One entry; the keys are told in the table's head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: tuple[str, ...] = Field(min_length=1)
    sources: tuple[str, ...] = Field(min_length=1)


@cache
def publishers() -> dict[str, Publisher]:
    """The table. Raises CatalogError where the file is wrong."""
    return read_mapping(TABLE, Publisher)


@cache
def source_names() -> frozenset[str]:
    """Every source that a stack names."""
    of_stacks = (catalog.read_provenance(name).sources for name in catalog.measured_stacks())
    return frozenset(load_efficiencies().sources).union(*of_stacks)


def left_out(mode: LeaveOut, gpu: str, address: str) -> LeftOut:
    """What is left out of a row. gpu: of the catalogue; address: where the row was published."""
    if mode == "gpu":
        return LeftOut(gpus=frozenset({gpu}))
    if mode == "family":
        return LeftOut(families=frozenset({catalog.load_gpu(gpu).family}))
    patterns = [
        each for publisher in publishers().values() if any(word in address for word in publisher.rows)
        for each in publisher.sources
    ]  # fmt: skip
    return LeftOut(sources=frozenset(name for name in source_names() if any(fnmatchcase(name, p) for p in patterns)))


@cache
def stack_without(gpu: str, without: LeftOut) -> Stack:
    """The stack that a GPU has by default where something is left out."""
    return load_stack(default_stack(gpu, without), without)
