"""What the network view says, in words: links, kinds of traffic, the hottest link, and how the job lies on domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from simulator.network.picture import LinkKind
from simulator.report import numbers
from simulator.results.network_view import TRAFFICS, LinkLoad, NetworkView, Traffic
from simulator.results.step_result import CollectiveTime

TRAFFIC_WORDS: Final[Mapping[Traffic, str]] = MappingProxyType(
    {
        "ep": "expert exchange (dispatch and combine)",
        "pp": "transfers between pipeline stages",
        "dp": "gradients and parameters (data parallel)",
        "tp": "gathers and reductions inside layers (tensor parallel)",
        "cp": "exchanges around attention (context parallel)",
    }
)
SHORT_TRAFFIC: Final[Mapping[Traffic, str]] = MappingProxyType(
    {"ep": "experts", "pp": "pipeline", "dp": "data parallel", "tp": "tensor parallel", "cp": "context parallel"}
)
TOPOLOGY_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fat_tree": "fat tree, all NICs of a host under one leaf switch",
        "rail_fat_tree": "rail-optimised fat tree, each NIC of a host under a leaf switch of its own",
        "multi_plane_fat_tree": "planes, each NIC of a host in a fat tree of its own",
    }
)


def link_words(view: NetworkView, kind: LinkKind) -> str:
    """A link of a kind: "NVLink 4 of each GPU", "NIC of each GPU"."""
    if kind == "scale_up":
        return f"{view.scale_up} of each GPU"
    if kind == "nic":
        hosts = -(-view.gpus_per_domain // view.hosts_per_domain)
        return "NIC of each GPU" if view.nics_per_host == hosts else f"each of the {view.nics_per_host} NICs of a host"
    return "link between leaf and spine" if kind == "leaf_spine" else "link between spine and core"


def the_link(view: NetworkView, kind: LinkKind) -> str:
    """The same inside a sentence: "the NIC of each GPU"."""
    words = link_words(view, kind)
    if kind == "scale_up" or words.startswith("each"):
        return words
    return f"the {words}" if kind == "nic" else f"the fullest {words}"


def mostly(link: LinkLoad) -> Traffic:
    """The kind of traffic with most bytes on a link."""
    return max(TRAFFICS, key=link.load)


def hottest_sentence(view: NetworkView, traffic: Traffic | None = None) -> str:
    """Which link is used most, with its load, its share and what most of it is."""
    link = view.hottest(traffic)
    if link is None:
        what = "nothing is sent" if traffic is None else f"no {TRAFFIC_WORDS[traffic]}"
        return f"{what[0].upper()}{what[1:]} in this step."
    where = "" if link.pp_rank is None else f" on pipeline rank {link.pp_rank}"
    text = (
        f"{_capital(the_link(view, link.kind))}{where} carries {numbers.amount_of_bytes(link.load(traffic))} a step, "
        f"{numbers.percent(view.share(link, traffic))} of what it could carry in {numbers.seconds(view.step_s)}"
    )
    if traffic is None:
        most = mostly(link)
        text += f"; {numbers.percent(link.load(most) / link.load())} of it is {TRAFFIC_WORDS[most]}"
    if link.message_s(traffic):
        share = numbers.percent(link.message_s(traffic) / view.step_s)
        text += f". Its messages, each alone, take {numbers.seconds(link.message_s(traffic))}: {share} of the step"
    return f"{text}."


def place_sentence(view: NetworkView) -> str:
    """GPUs, domains and fabric of the job."""
    gpus = f"{view.num_gpus:,} GPUs in {_count(view.num_domains, 'scale-up domain')} of {view.gpus_per_domain} ({view.node})"
    if view.fabric is None:
        return f"{gpus}; no traffic leaves the domain."
    switches = [_count(view.leaves, "leaf switch")]
    switches += [_count(view.spines, "spine switch")] if view.spines else []
    switches += [_count(view.cores, "core switch")] if view.cores else []
    topology = TOPOLOGY_WORDS.get(view.topology or "", view.topology or "")
    return f"{gpus}; fabric {view.fabric}: {topology}; {', '.join(switches)}{planes(view)}."


def planes(view: NetworkView) -> str:
    """' in 8 planes' where there are several."""
    return f" in {view.trees} planes" if view.trees > 1 else ""


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _capital(text: str) -> str:
    return text if text[:1].isupper() else f"{text[0].upper()}{text[1:]}"


def counted_as(collectives: Sequence[CollectiveTime]) -> str:
    """How the rates of collectives are counted, each way once."""
    return " · ".join(dict.fromkeys(row.counted_as for row in collectives))


def traffics_of(view: NetworkView) -> tuple[Traffic, ...]:
    """The kinds of traffic that the step has."""
    return tuple(traffic for traffic in TRAFFICS if any(link.load(traffic) for link in view.links))


def collective_words(name: str) -> str:
    """A collective's name as people say it: "dispatch, forward, beside compute", "reduce-scatter, dense"."""
    base, _, beside = name.partition(".")
    words = base
    for ending, said in (("_f", ", forward"), ("_b", ", backward"), ("_dense", ", dense"), ("_expert", ", experts")):
        if base.endswith(ending):
            words = f"{base.removesuffix(ending)}{said}"
    for run, said in (("all_reduce", "all-reduce"), ("reduce_scatter", "reduce-scatter"), ("all_gather", "all-gather")):
        words = words.replace(run, said)
    parts = [words.replace("etp_", "expert TP ").replace("tp_", "TP ").replace("_", " ")]
    return ", ".join([*parts, *([beside.replace("_", " ")] if beside else [])])
