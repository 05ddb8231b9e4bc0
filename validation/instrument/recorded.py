"""What a row records of how a run was made, its software aside: by it rows are equal, or differ in one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from simulator.scenario.nested import find
from validation.published.row import Row
from validation.published.state import COLUMN_OF, Statement, own_keys

MODEL: Final = (
    "model", "layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "experts", "topk", "shared_experts",
    "moe_ffn", "attention_kind",
)  # fmt: skip
THINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(MODEL, "model"),
    **dict.fromkeys(("gpu", "cluster.fabric"), "GPU"),
    **dict.fromkeys(("tp", "pp", "vpp", "ep", "etp", "cp", "schedule"), "layout"),
    "n_gpus": "number of GPUs", "mbs": "micro-batch", "gbs": "batch", "seq": "sequence", "precision": "precision",
    "recompute": "recompute", "graph_scope": "graph", "host.cuda_graph": "graph", "dispatcher": "dispatcher",
    "moe.dispatcher": "dispatcher", "overlap": "overlap", "parallel.overlap": "overlap", "parallel": "layout",
    "moe": "routing",
}  # fmt: skip
"""Column, label or key of a scenario, or the beginning of one → what differs where it differs; others are told by name."""
COLUMNS: Final = (*MODEL, "gpu", "n_gpus", "tp", "pp", "vpp", "ep", "etp", "cp", "mbs", "gbs", "seq", "precision",
    "recompute", "schedule",
)  # fmt: skip
"""Input columns: dp follows from others, and the framework's is the software."""
ONE: Final = ("vpp", "ep", "etp", "cp")
"""Degrees that are 1 where a row leaves them out."""
OF_COLUMNS: Final = ("model", "name", "recompute", *COLUMN_OF)
"""Keys of a statement, or beginnings of them, that say what a column says."""
KEYS: Final[Mapping[str, str]] = {"dispatcher": "moe.dispatcher", "graph_scope": "host.cuda_graph"}
"""Label → the key that says more of it, where the notes give it."""


def of_row(row: Row, stated: Statement) -> dict[str, str]:
    """Name → what is recorded: input columns, with what the row's source says of them, the precision as its recipe; keys that
    the notes give; their labels, where no key says more.

    What is assumed is not recorded, but for routing: a token drop whose factor is assumed is one.
    """
    filled = row.with_cells({each.key: str(each.value) for each in stated.read})
    cells = {column: _plain(filled, column) for column in COLUMNS}
    cells["precision"] = str(find(stated.source, ("precision", "recipe")) or cells["precision"])
    assumed = {each.key for each in stated.assumed if not each.key.startswith("moe.")}
    keys = {
        key: str(value) for key, value in _flat(stated.source) if not _starts(key, OF_COLUMNS) and (key not in assumed)
    }
    keys |= {key.strip(): value.strip() for key, _, value in (each.partition("=") for each in own_keys(row))}
    labels = {name: text for name, text in stated.labels.items() if name in THINGS and KEYS.get(name) not in keys}
    return {name: text for name, text in {**cells, **labels, **keys}.items() if text}


def thing(name: str) -> str:
    """What differs where a recorded name differs: the longest beginning that THINGS has, else the name."""
    known = [each for each in THINGS if name == each or name.startswith(f"{each}.")]
    return THINGS[max(known, key=len)] if known else name


def _plain(row: Row, column: str) -> str:
    count, text = row.count(column), row.text(column)
    if column in ONE and not text:
        return "1"
    if column == "schedule" and row.count("pp") == 1:
        return "none"
    return str(count) if count is not None else text


def _flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _starts(key: str, beginnings: tuple[str, ...]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in beginnings)
