"""What a link may say: one row a key, with the reader that takes its text or refuses it.

A reader returns the value's text in one spelling, or None for what it does not take; it never raises and never computes with
what it has not bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from hwprofiles.catalog import list_names
from hwprofiles.stack_choice import stack_names
from hwprofiles.units import PETA
from simulator.report.accuracy import UNIT_NAMES, measured_families, measured_gpus
from simulator.scenario.layers import preset_names
from simulator.scenario.recipes import RECIPES
from simulator.scenario.section import MAX_GPUS, MAX_STAGES
from simulator.schedule import SCHEDULES

Reader = Callable[[str], str | None]

MAX_VALUE: Final = 4_000
"""Longest value of a link, in characters."""
MAX_DIGITS: Final = 24
NOW, PLAIN, PINNED, FILE = "now", "plain", "pinned", "file:"
"""What can be compared beside presets: what is asked for, that without its changes, what is pinned, an uploaded file."""
MAX_RUNS: Final = 6
_FILE: Final = re.compile(FILE + "[0-9a-f]{32}", re.ASCII)

_WHOLE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?([eE][+]?[0-9]{1,2})?", re.ASCII)
_PLAIN: Final = re.compile(r"[\w .:|~,;=+*()/-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Key:
    """One parameter of a link.

    name: in the link. path: dotted key of the scenario that it sets; None where it belongs to a page.
    read: its text in one spelling, None where it is none. allowed: what it may be, in words.
    """

    name: str
    path: str | None
    read: Reader
    allowed: str


def whole(low: int, high: int) -> Reader:
    """Reads a whole number between two bounds."""

    def read(text: str) -> str | None:
        return str(int(text)) if _WHOLE.fullmatch(text) and low <= int(text) <= high else None

    return read


def number(low: float, high: float) -> Reader:
    """Reads a finite number between two bounds, as `2.5`, `14800000000000` or `1.48e13`."""

    def read(text: str) -> str | None:
        if not _NUMBER.fullmatch(text):
            return None
        value = float(text)
        return repr(value) if math.isfinite(value) and low <= value <= high else None

    return read


def choice(names: Callable[[], tuple[str, ...]]) -> Reader:
    """Reads one of the names that a registry or catalogue has now."""
    kept = lru_cache(maxsize=1)(names)
    return lambda text: text if text in kept() else None


def plain(limit: int) -> Reader:
    """Reads a short text of letters, digits and a few signs: for a page's own words."""
    return lambda text: text if len(text) <= limit and _PLAIN.fullmatch(text) else None


def several(names: Callable[[], tuple[str, ...]]) -> Reader:
    """Reads names of a list with commas between, each once, in the list's order."""
    kept = lru_cache(maxsize=1)(names)

    def read(text: str) -> str | None:
        asked = text.split(",")
        known = kept()
        return ",".join(name for name in known if name in asked) if set(asked) <= set(known) else None

    return read


def runs(text: str) -> str | None:
    """Reads what is compared, with commas between, the base first; one may stand there twice."""
    known = {NOW, PLAIN, PINNED, *preset_names()}
    asked = text.split(",", MAX_RUNS)
    return text if len(asked) <= MAX_RUNS and all(each in known or _FILE.fullmatch(each) for each in asked) else None


def wholes(low: int, high: int, most: int) -> Reader:
    """Reads whole numbers between two bounds with commas between, each once, in order: `0,8,15`."""
    one = whole(low, high)

    def read(text: str) -> str | None:
        found = [one(part) for part in text.split(",", most)]
        kept = sorted({int(part) for part in found if part is not None})
        return ",".join(map(str, kept)) if None not in found and len(kept) <= most else None

    return read


def _set(name: str, path: str, read: Reader, allowed: str) -> Key:
    return Key(name, path, read, allowed)


def _degree(name: str, path: str) -> Key:
    return Key(name, path, whole(1, MAX_STAGES), f"1 to {MAX_STAGES}")


SCENARIO_KEYS: Final[tuple[Key, ...]] = (
    _set("node", "cluster.node", choice(lambda: tuple(list_names("nodes"))), "a name of `moesim list nodes`"),
    _set("gpus", "cluster.num_gpus", whole(1, MAX_GPUS), f"1 to {MAX_GPUS}"),
    _set("fabric", "cluster.fabric", choice(lambda: tuple(list_names("fabrics"))), "a name of `moesim list fabrics`"),
    _set("stack", "stack", choice(lambda: tuple(stack_names())), "a name of `moesim list stacks`"),
    _degree("tp", "parallel.tp"),
    _degree("pp", "parallel.pp"),
    _degree("vpp", "parallel.vpp"),
    _degree("ep", "parallel.ep"),
    _degree("etp", "parallel.etp"),
    _set("zero", "parallel.zero_stage", whole(0, 3), "0 to 3"),
    _set("sp", "parallel.sequence_parallel", choice(lambda: ("true", "false")), "true or false"),
    _set(
        "schedule", "parallel.schedule", choice(lambda: tuple(SCHEDULES.names())), "a name of `moesim list schedules`"
    ),
    _set("batch", "training.global_batch_size", whole(1, 100_000_000), "a number of sequences"),
    _set("micro", "training.micro_batch_size", whole(1, 100_000), "a number of sequences"),
    _set("seq", "training.seq_len", whole(1, 100_000_000), "a number of tokens"),
    _set("recipe", "precision.recipe", choice(lambda: tuple(RECIPES.names())), "a name of `moesim list recipes`"),
    _set(
        "recompute", "recompute.granularity", choice(lambda: ("none", "selective", "full")), "none, selective or full"
    ),
    _set("balance", "moe.balance", choice(lambda: ("forced", "learned", "natural")), "forced, learned or natural"),
    _set("nodes", "moe.max_nodes_per_token", whole(1, MAX_GPUS), "a number of nodes"),
    _set("tokens", "phases.{first}.tokens", number(1, 100 * PETA), "a number of tokens"),
    _set("price", "prices.usd_per_gpu_hour", number(0, 1_000_000), "USD a GPU-hour"),
    _set("sheet", "prices.sheet", choice(lambda: tuple(list_names("prices"))), "a name of `moesim list prices`"),
    _set("draws", "draws", whole(1, 10_000), "1 to 10000"),
    _set("seed", "seed", whole(0, 999_999_999), "0 to 999999999"),
)
"""Keys of the scenario, in the order in which they are laid over it. {first}: the name of the scenario's first phase."""

PAGE_KEYS: Final[tuple[Key, ...]] = (
    Key("from", None, number(0, PETA), "seconds"),
    Key("to", None, number(0, PETA), "seconds"),
    Key("second", None, choice(lambda: tuple(SCHEDULES.names())), "a name of `moesim list schedules`"),
    Key("ranks", None, wholes(0, MAX_STAGES, 64), "pipeline ranks, as 0,8,15"),
    Key("streams", None, wholes(0, 2, 3), "streams, as 0,1"),
    Key(
        "with",
        None,
        runs,
        f"at most {MAX_RUNS} of {NOW}, {PLAIN}, {PINNED}, presets and uploaded files, the base first",
    ),
    Key("beside", None, whole(1, MAX_RUNS), "which of the runs beside the base is told in full"),
    Key("on", None, several(measured_gpus), "GPUs of measured runs, as h100,b200"),
    Key("families", None, several(measured_families), "families of measured models, as mixtral,llama"),
    Key("group", None, choice(lambda: ("all", "case", "published")), "all, case or published"),
    Key("unit", None, choice(lambda: tuple(UNIT_NAMES)), "how speeds are measured"),
    Key("show", None, plain(200), "what a page shows"),
)
"""Keys that pages keep in the link for themselves."""

BY_NAME: Final[Mapping[str, Key]] = MappingProxyType({key.name: key for key in (*SCENARIO_KEYS, *PAGE_KEYS)})
