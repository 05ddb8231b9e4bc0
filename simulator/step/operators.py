"""What the operators of a step's graph are, in the field's terms: labels, passes, the kernels behind them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import ceil

from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.shape import KernelShape
from simulator.assembly.chunks import Message, Piece, Segment
from simulator.assembly.step_graph import StepGraph
from simulator.costs.cost import CollectiveCost
from simulator.results.timeline import BUBBLE, END_WAIT, EXPOSED, HOST_WAIT, Kernel, OperatorClass
from simulator.workload.op import Op

BLOCK_WORDS: Mapping[str, tuple[str, str]] = {
    "attn_f": ("F", "attention forward"),
    "mlp_f_local": ("F", "FFN forward"),
    "mlp_f_routed": ("F", "routed experts forward"),
    "attn_r": ("I", "attention recomputed"),
    "mlp_r_local": ("I", "FFN recomputed"),
    "mlp_r_routed": ("I", "routed experts recomputed"),
    "mlp_b_local": ("I", "FFN backward"),
    "mlp_b_routed": ("I", "routed experts backward"),
    "mlp_w": ("W", "FFN weight gradients"),
    "attn_b": ("I", "attention backward"),
    "attn_w": ("W", "attention weight gradients"),
    "shared_f_up": ("F", "shared experts forward, up"),
    "shared_f_down": ("F", "shared experts forward, down"),
    "shared_b_down": ("I", "shared experts backward, down"),
    "shared_b_up": ("I", "shared experts backward, up"),
    "shared_w_down": ("W", "shared experts weight gradients, down"),
    "shared_w_up": ("W", "shared experts weight gradients, up"),
    "dispatch_f": ("F", "dispatch"),
    "combine_f": ("F", "combine"),
    "dispatch_r": ("I", "dispatch recomputed"),
    "combine_r": ("I", "combine recomputed"),
    "combine_b": ("I", "combine backward (a dispatch)"),
    "dispatch_b": ("I", "dispatch backward (a combine)"),
    "send_f": ("F", "output sent to the next stage"),
    "send_b": ("I", "gradient sent to the stage before"),
}
"""Block or message of a unit → pass, and what it is called."""
SHARED_WORDS = {name: words.replace("FFN", "shared experts") for name, (_, words) in BLOCK_WORDS.items()}
COLLECTIVE_WORDS: Mapping[str, str] = {
    f"{op}_{part}": f"{words} of {whose}"
    for op, words in (
        ("reduce_scatter", "gradients reduce-scattered"), ("all_reduce", "gradients all-reduced"),
        ("all_gather", "parameters gathered"),
    )
    for part, whose in (("dense", "dense parts"), ("expert", "routed experts"), ("replicated", "replicated parts"))
} | {
    "grad_norm": "norm of the gradients", "issue": "issued by the host", "collectives": "collectives issued",
    "optimizer_issue": "norm read, optimizer issued", "other": "work between steps",
}  # fmt: skip
"""Collectives of data parallelism and the step's end, and what the host does."""
SUFFIX_WORDS = {
    "before_core": "up to the core", "core": "core", "between_cores": "between parts of the core", "rest": "behind the core",
    "routed": "routed experts", "issue": "issued by the host",
}  # fmt: skip
UNIT_WORDS = {"mtp": "MTP module", "mtp_head": "head of MTP module", "projection": "MTP projection"}
IDLE_WORDS: Mapping[str, str] = {
    BUBBLE: "bubble: nothing to do until the next input is there",
    EXPOSED: "exposed: the compute stream waits for communication or for a slower rank of its group",
    HOST_WAIT: "waits for the host, which has not issued what comes next",
    END_WAIT: "end of the step: waits for gradients, the norm or parameters",
}


def operator_classes(graph: StepGraph) -> tuple[OperatorClass, ...]:
    """The classes of a graph in its order, then one a reason to idle, as in `timeline.IDLE`."""
    known: dict[int, tuple[Kernel, ...]] = {}
    routed = {label.split(".")[0] for label in graph.labels if ".dispatch_" in label}
    found = [_class(label, segment, known, routed) for label, segment in zip(graph.labels, graph.classes, strict=True)]
    idle = [OperatorClass(words, "", name, 0.0, {}, {}) for name, words in IDLE_WORDS.items()]
    return (*found, *idle)


def _class(label: str, segment: Segment, known: dict[int, tuple[Kernel, ...]], routed: set[str]) -> OperatorClass:
    """known: the kernels of a segment that several layers share. routed: units whose tokens go to experts elsewhere."""
    if id(segment) not in known:
        known[id(segment)] = tuple(kernel_of(piece) for piece in segment.pieces)
    passes, words = label_words(label, has_experts=label.split(".")[0] in routed)
    by_category = segment.by_category
    category = max(by_category, key=lambda name: by_category[name], default="other")
    return OperatorClass(words, passes, category, segment.seconds, by_category, segment.by_basis, known[id(segment)])


def label_words(label: str, *, has_experts: bool) -> tuple[str, str]:
    """(pass, words) of a class's label: "layer_12.attn_f.core" is ("F", "layer 12, attention forward, core")."""
    unit, *rest = label.split(".")
    if rest and rest[0] in BLOCK_WORDS:
        passes, words = BLOCK_WORDS[rest[0]]
        words = SHARED_WORDS[rest[0]] if has_experts else words
        if "head" in unit:
            words = words.replace("FFN ", "")
        suffix = [SUFFIX_WORDS[each] for each in rest[1:] if SUFFIX_WORDS[each] not in words]
        return passes, ", ".join((unit_words(unit), words, *suffix))
    *where, last = (unit, *rest)
    words = COLLECTIVE_WORDS.get(last, last.replace("_", " "))
    return "", ", ".join((*dict.fromkeys(unit_words(each) for each in where), words))


@lru_cache(maxsize=4096)
def unit_words(name: str) -> str:
    """A unit's name: "layer_12" is "layer 12"."""
    found = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
    assert found is not None
    words, number = found.groups()
    return " ".join(filter(None, (UNIT_WORDS.get(words, words.replace("_", " ")), number)))


def kernel_of(piece: Piece) -> Kernel:
    """A kernel or collective as a timeline tells of it."""
    what, cost = piece.what, piece.cost
    source = cost.source if isinstance(cost, KernelCost | CollectiveCost) else ""
    if isinstance(what, Op):
        shape = what.shape
        op = f"{shape.op} {shape.variant}".rstrip()
        return Kernel(what.name, op, shape.dtype, _sizes(shape), shape.bytes, cost.seconds, cost.basis, source)
    if isinstance(what, Message):
        counted = what.cost.counted
        sizes = (("ranks", counted.ranks), ("nodes", counted.nodes)) if counted else ()
        num_bytes = ceil(counted.num_bytes) if counted else 0
        return Kernel(what.name, "collective", "", sizes, num_bytes, cost.seconds, cost.basis, source)
    return Kernel(what.name, f"{what.op} {what.axis}", "", (), what.num_bytes, cost.seconds, cost.basis, source)


def _sizes(shape: KernelShape) -> tuple[tuple[str, int], ...]:
    """What of a shape tells calls apart, in the order of the field's habit."""
    names = {"gemm": ("m", "n", "k", "groups"), "attention": ("batch", "seq", "heads", "head_dim_qk", "head_dim_v")}
    of_shape = ((name, getattr(shape, name)) for name in names.get(shape.bound, ()))
    return tuple((name, size) for name, size in of_shape if name != "groups" or size > 1)
