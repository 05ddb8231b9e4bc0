"""The machines: a node type, how many GPUs, the fabric between nodes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from hwprofiles.schema import Fabric, Node
from simulator.scenario.section import AsPlain, GpuCount, Section

_NAME_OR_MAPPING = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 200}, {"type": "object"}]}


def _named(kind: type[Any]) -> PlainValidator:
    """Accepts a catalogue name, or a hardware object that the loader made of an inline mapping."""

    def check(value: Any) -> Any:
        if isinstance(value, kind) or (isinstance(value, str) and 0 < len(value) <= 200):
            return value
        raise PydanticCustomError("name", "must be a catalogue name or an inline mapping")

    return PlainValidator(check)


class Cluster(Section):
    """num_gpus GPUs in nodes of one type. Names are resolved by scenario/hardware.py."""

    node: Annotated[str | Node, _named(Node), AsPlain, WithJsonSchema(_NAME_OR_MAPPING)]
    num_gpus: GpuCount
    gpus_per_domain: GpuCount | None = None
    """GPUs used of each scale-up domain; null: as many as the parallel groups fill (simulator/network/domains.py)."""
    fabric: Annotated[str | Fabric, _named(Fabric), AsPlain, WithJsonSchema(_NAME_OR_MAPPING)] = "ib-400g-rail"
