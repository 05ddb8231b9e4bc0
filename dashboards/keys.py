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

from hwprofiles.catalog import list_names, load_prices
from hwprofiles.stack_choice import stack_names
from hwprofiles.stack_folders import given_folders
from hwprofiles.units import PETA
from simulator.choices import choices
from simulator.report.accuracy import UNIT_NAMES, measured_families, measured_gpus
from simulator.results.timeline import NUM_STREAMS
from simulator.scenario.host import WHOLE
from simulator.scenario.layers import preset_names
from simulator.scenario.plan import LoadImbalance
from simulator.scenario.section import MAX_GPUS, MAX_LAYERS, MAX_STAGES
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
_IMBALANCE: Final = re.compile(r"\{load_imbalance: ([0-9]{1,4}(?:\.[0-9]{1,6})?)\}", re.ASCII)
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


def or_null(reader: Reader) -> Reader:
    """Reads what another one reads, and null."""
    return lambda text: text if text == "null" else reader(text)


def names_of(path: str) -> Reader:
    """Reads a list of names that a key may hold, `[a, b]`, each once, in the order of its type."""
    kept = lru_cache(maxsize=1)(lambda: tuple(map(text_of, choices(path))))

    def read(text: str) -> str | None:
        if not (text.startswith("[") and text.endswith("]")):
            return None
        found = {part.strip() for part in text[1:-1].split(",")} - {""}
        return text_of([name for name in kept() if name in found]) if found <= set(kept()) else None

    return read


def graphs(text: str) -> str | None:
    """Reads what CUDA graphs hold: none, full_iteration or a list of scopes, `[attn, moe_router]`."""
    if text in WHOLE:
        return text
    scopes = names_of("host.cuda_graph")(text)
    return scopes if scopes != "[]" else None


def balance(text: str) -> str | None:
    """Reads how even the experts' load is: a name, or a given maximum over mean."""
    given = _IMBALANCE.fullmatch(text)
    if given is None:
        return text if text in choices("moe.balance") else None
    value = float(given[1])
    return text_of(LoadImbalance(load_imbalance=value)) if 1 <= value <= 1_000 else None


def offered_in_sheets(key: str) -> tuple[str, ...]:
    """Providers or regions of all offers of the price sheets, and null."""
    sheets = (load_prices(name) for name in list_names("prices"))
    offers = [offer for sheet in sheets for entry in sheet.entries.values() for offer in entry.offers]
    return ("null", *sorted({str(getattr(offer, key)) for offer in offers if getattr(offer, key) is not None}))


def _set(name: str, path: str, read: Reader, allowed: str) -> Key:
    return Key(name, path, read, allowed)


def _degree(name: str, path: str) -> Key:
    return Key(name, path, whole(1, MAX_STAGES), f"1 to {MAX_STAGES}")


def _offered(name: str, path: str) -> Key:
    """Of a key with few values: those that its type, family or catalogue has."""
    return Key(name, path, choice(lambda: tuple(map(text_of, choices(path)))), f"a value of {path}")


def _or_null(name: str, path: str, most: int, allowed: str) -> Key:
    return Key(name, path, or_null(whole(1, most)), f"{allowed}, or null")


def text_of(value: object) -> str:
    """A plain value as a link and `--set` write it: null, true, 8, 2.5, a name, [a, b]."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, LoadImbalance):
        return f"{{load_imbalance: {value.load_imbalance}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(text_of, value))}]"
    return repr(value) if isinstance(value, float) else str(value)


_RAMP: Final = "phases.{first}.batch_ramp"
SCENARIO_KEYS: Final[tuple[Key, ...]] = (
    _offered("node", "cluster.node"),
    _set("gpus", "cluster.num_gpus", whole(1, MAX_GPUS), f"1 to {MAX_GPUS}"),
    _or_null("domain", "cluster.gpus_per_domain", MAX_GPUS, "a number of GPUs"),
    _offered("fabric", "cluster.fabric"),
    _set(
        "stack",
        "stack",
        choice(lambda: (*stack_names(), *given_folders(), *given_folders().values())),
        "a name of `moesim list stacks`",
    ),
    _offered("framework", "framework"),
    _offered("attention", "kernels.attention"),
    _offered("grouped_gemm", "kernels.grouped_gemm"),
    _offered("issued_by", "host.dispatch"),
    _set("graphs", "host.cuda_graph", graphs, "none, full_iteration or a list of scopes"),
    _or_null("power_cap", "device.power_cap_w", 100_000, "a number of watts"),
    _degree("tp", "parallel.tp"),
    _offered("sp", "parallel.sequence_parallel"),
    _degree("cp", "parallel.cp"),
    _offered("cp_comm", "parallel.cp_comm"),
    _degree("pp", "parallel.pp"),
    _degree("vpp", "parallel.vpp"),
    _degree("ep", "parallel.ep"),
    _degree("etp", "parallel.etp"),
    _offered("zero", "parallel.zero_stage"),
    _or_null("hsdp", "data_parallel.hsdp_group", MAX_GPUS, "a number of ranks"),
    _offered("grad_every", "data_parallel.grad_reduce.every"),
    _offered("schedule", "parallel.schedule"),
    _offered("overlap_ep", "parallel.overlap.ep"),
    _offered("overlap_pp", "parallel.overlap.pp"),
    _offered("overlap_tp", "parallel.overlap.tp"),
    _set("batch", "training.global_batch_size", whole(1, 100_000_000), "1 to 100000000 sequences"),
    _set("micro", "training.micro_batch_size", whole(1, 100_000), "1 to 100000 sequences"),
    _set("seq", "training.seq_len", whole(1, 100_000_000), "1 to 100000000 tokens"),
    _offered("optimizer", "training.optimizer"),
    _set("off_optimizer", "offload.optimizer", number(0, 1), "0 to 1"),
    _set("off_activations", "offload.activations", number(0, 1), "0 to 1"),
    _offered("recipe", "precision.recipe"),
    _offered("weight_cache", "precision.fp8_weight_cache"),
    _offered("scaling", "precision.scaling"),
    _offered("primary", "precision.primary_weights"),
    _offered("casts", "kernels.casts"),
    _offered("recompute", "recompute.granularity"),
    _set("modules", "recompute.modules", names_of("recompute.modules"), "a list of modules"),
    _offered("remethod", "recompute.method"),
    _or_null("relayers", "recompute.num_layers", MAX_LAYERS, "a number of layers"),
    _set("balance", "moe.balance", balance, "forced, learned, natural or {load_imbalance: 1.2}"),
    _or_null("nodes", "moe.max_nodes_per_token", 100_000, "a number of nodes"),
    _offered("dispatcher", "moe.dispatcher"),
    _offered("permute_fusion", "moe.permute_fusion"),
    _offered("host_sync", "moe.host_sync"),
    _offered("drop", "moe.drop"),
    _offered("pad", "moe.pad_to_capacity"),
    _set("tokens", "phases.{first}.tokens", number(1, 100 * PETA), "1 to 1e17 tokens"),
    _set("steps", "phases.{first}.steps", whole(1, 999_999_999), "1 to 999999999 steps"),
    _set("ramp", _RAMP, choice(lambda: ("null",)), "null"),
    _set("ramp_from", f"{_RAMP}.from", whole(1, 100_000_000), "1 to 100000000 sequences"),
    _offered("ramp_below", f"{_RAMP}.schedule_below"),
    _set("price", "prices.usd_per_gpu_hour", number(0, 1_000_000), "0 to 1000000 USD a GPU-hour"),
    _offered("sheet", "prices.sheet"),
    _set("provider", "prices.provider", choice(lambda: offered_in_sheets("provider")), "a provider of the sheet"),
    _set("region", "prices.region", choice(lambda: offered_in_sheets("region")), "a region of the sheet"),
    _offered("commitment", "prices.commitment"),
    _set("draws", "draws", whole(1, 10_000), "1 to 10000"),
    _set("seed", "seed", whole(0, 999_999_999), "0 to 999999999"),
)
"""Keys of the scenario, in the order in which they are laid over it. {first}: the name of the scenario's first phase."""

PAGE_KEYS: Final[tuple[Key, ...]] = (
    Key("from", None, number(0, PETA), "seconds"),
    Key("to", None, number(0, PETA), "seconds"),
    Key("second", None, choice(lambda: tuple(SCHEDULES.names())), "a name of `moesim list schedules`"),
    Key("ranks", None, wholes(0, MAX_STAGES, 64), "pipeline ranks, as 0,8,15"),
    Key("streams", None, wholes(0, NUM_STREAMS - 1, NUM_STREAMS), "streams, as 0,1"),
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
    Key("sizes", None, plain(200), "numbers of GPUs, as 64,128 or 64..1024"),
    Key("max_days", None, number(0, 1_000_000), "days"),
    Key("max_usd", None, number(0, PETA), "USD"),
)
"""Keys that pages keep in the link for themselves."""

BY_NAME: Final[Mapping[str, Key]] = MappingProxyType({key.name: key for key in (*SCENARIO_KEYS, *PAGE_KEYS)})
