"""What a changed node leaves behind: a stack of another kind, and the price of the GPU that was there before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hwprofiles import catalog, stack_choice
from hwprofiles.schema import Node
from hwprofiles.stack_folders import plain_name
from simulator.scenario.hardware import default_stack_name, newest_sheet, node_of
from simulator.scenario.scenario import Base, Scenario
from simulator.scenario.wording import FieldProblem


@dataclass(frozen=True, slots=True)
class State:
    """What a draft says after a layer: the layer's number, what `moesim run` takes to get it, its node and its stack.

    node: a name, a mapping or None. stack: None where the node's GPU decides.
    """

    layer: int
    name: str
    node: Any
    stack: Any


def base_of(history: Sequence[State]) -> Base | None:
    """What stood there before the last layer that changed the GPU; None where none did, or its stack is not known."""
    for before, after in reversed(list(pairwise(history))):
        gpu = gpu_of(before.node)
        if gpu is None or gpu == gpu_of(after.node):
            continue
        stack = before.stack if isinstance(before.stack, str) else default_stack_name({"node": before.node})
        if stack is None or not stack_choice.is_stack(stack):
            return None
        return Base(name=before.name or "the scenario", gpu=gpu, stack=stack, stack_kind=stack_choice.stack_kind(stack))
    return None


def inherited_warnings(scenario: Scenario, history: Sequence[State]) -> Iterator[FieldProblem]:
    """A stack of another kind than the base's, and a price that was given for another GPU."""
    base, kind = scenario.base, stack_choice.stack_kind(scenario.stack)
    if base is not None and base.stack_kind != kind:
        yield "stack", _another_kind(scenario, base, kind)
    price = scenario.prices.usd_per_gpu_hour if scenario.prices else None
    field = "prices.usd_per_gpu_hour"
    layer, where = scenario.origin(field)
    priced = next((gpu_of(state.node) for state in reversed(history) if state.layer <= layer), None)
    gpu = node_of(scenario).gpu
    if price is not None and priced is not None and priced != gpu:
        node = node_of(scenario).name
        text = f"{price:g} USD ({where}) is the price of the GPU {priced} and stays although cluster.node is {node}"
        yield field, f"{text}; give a price of the GPU {gpu}{_sheet_hint(gpu)}"


def _another_kind(scenario: Scenario, base: Base, kind: stack_choice.StackKind) -> str:
    """Both stacks, what each rests on, and the two commands whose results differ in hardware alone."""
    node, gpu = scenario.cluster.node, node_of(scenario).gpu
    text = (
        f"{plain_name(scenario.stack)} ({kind}: {stack_choice.STACK_KINDS[kind]}) in place of {plain_name(base.stack)} "
        f"({base.stack_kind}), on which {base.name} rests: the two results differ in kind, not only in hardware"
    )
    like_base, like = stack_choice.like_for_like(base.gpu, gpu)
    option = "" if base.stack == like_base else f" --set stack={like_base}"
    there = f"`moesim run {base.name}{option}`"
    here = f"`--set stack={like}` here"
    if scenario.stack == like:
        here = f"`--set cluster.node={node}`" if isinstance(node, str) else "this one"
    return f"{text}; like for like: {there} beside {here}"


def _sheet_hint(gpu: str) -> str:
    """', or --set prices.sheet=…' with the newest sheet that has a price of the GPU; '' where none has."""
    sheet = newest_sheet(gpu)
    return (
        "" if sheet is None else f", or --set prices.sheet={sheet.name} ({sheet.entries[gpu].usd_per_gpu_hour:g} USD)"
    )


def gpu_of(node: Any) -> str | None:
    """The GPU of a node's name or mapping, None where it is not known."""
    if isinstance(node, str) and node in catalog.list_names("nodes"):
        return catalog.load_node(node).gpu
    if isinstance(node, Node):
        return node.gpu
    gpu = node.get("gpu") if isinstance(node, Mapping) else None
    return gpu if isinstance(gpu, str) else None
