"""Seconds that layers of the torch model take the host, of the small models of host.csv (hwprofiles/hosts/torch_model.py).

With T(m) of a small model m and n(m) alike layers in it: a dense layer takes (T(dense) - T(one)) / (n(dense) - 1), what stands
beside layers T(one) less that, and a layer of another kind what is left of its model's T, over n. Its first calls behind a wait
take T(waited) - T(one) more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hwprofiles.calibration.machine.part import number
from hwprofiles.hosts.torch_model import CHUNKS, LAYERS, PARTS, PASSES, RECIPES, WEIGHTS, key

_PHASES: Final = dict(zip(PASSES, ("forward", "backward"), strict=True))
_MODELS: Final = {"head": "one", "chunk": "one_longer"}
"""Part → the small model whose samples say how sure it is, where the name is another's."""


@dataclass(frozen=True, slots=True)
class Part:
    """key: of the parameter; seconds with their ends, which are those of the samples of one row; note: what it is."""

    key: str
    value: float
    low: float
    high: float
    note: str


def parts(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Part]:
    """Of each recipe and pass whose dense layers were measured; parts of models that were not are left out."""
    for recipe in RECIPES:
        for way, phase in _PHASES.items():
            found = {name: row for name in LAYERS if (row := rows.get(f"torch_model {name} {recipe} {phase}"))}
            seconds = _seconds({name: number(row, "host_s") for name, row in found.items()})
            for part, value in seconds.items():
                row = found[_MODELS.get(part, part)]
                low, high = (value * number(row, end) / number(row, "host_s") for end in ("low_s", "high_s"))
                yield Part(key(recipe, part, way), value, low, high, f"small models, {phase}: {PARTS[part]}")


def _seconds(whole: Mapping[str, float]) -> dict[str, float]:
    """Part → seconds, of those of whole models; at least nothing."""
    if not {"one", "dense"} <= whole.keys():
        return {}
    dense = (whole["dense"] - whole["one"]) / (LAYERS["dense"] - LAYERS["one"])
    beside = whole["one"] - LAYERS["one"] * dense
    found = {part: (whole[part] - beside) / LAYERS[part] for part in PARTS if part in whole}
    found |= {"dense": dense, "head": beside}
    if "one_longer" in whole:
        found["chunk"] = (whole["one_longer"] - whole["one"]) / (CHUNKS - 1)
    if "waited" in whole:
        found["waited"] = whole["waited"] - whole["one"]
    if "weight" in whole:
        found["weight"] = (whole["weight"] - whole["dense"]) / (LAYERS["weight"] * WEIGHTS)
    return {part: max(0.0, value) for part, value in found.items()}
