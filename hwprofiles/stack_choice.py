"""Which software stack serves a GPU: one that was measured on it, else the transfer stack that every GPU has."""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

from hwprofiles import catalog, transfer
from hwprofiles.names import nearest
from hwprofiles.record_file import CatalogError
from hwprofiles.schema import Stack, StackProvenance
from hwprofiles.yaml_file import excerpt

StackKind = Literal["measured", "transferred"]
STACK_KINDS: Final[dict[StackKind, str]] = {
    "measured": "kernels measured on this GPU",
    "transferred": "the datasheet and efficiencies measured on other GPUs",
}
"""What a stack rests on, in words."""


def transfer_name(gpu: str) -> str:
    """Name of a GPU's transfer stack: its datasheet with the efficiencies measured on other GPUs."""
    return f"{gpu}{transfer.SUFFIX}"


@cache
def stack_names() -> tuple[str, ...]:
    """Names of all stacks, sorted: the measured ones, and the transfer stack of every GPU."""
    return tuple(sorted([*catalog.measured_stacks(), *map(transfer_name, catalog.list_names("gpus"))]))


def stack_kind(name: str) -> StackKind:
    """What the stack of that name rests on. Raises CatalogError: no such name."""
    _require(name)
    return "measured" if name in catalog.measured_stacks() else "transferred"


@cache
def load_stack(name: str) -> Stack:
    """The stack of that name: kernels, collectives, parameters, assumptions.

    Raises CatalogError: no such name (the nearest are named), or a wrong file of the stack.
    """
    if stack_kind(name) == "measured":
        return catalog.read_stack(name)
    return transfer.build_transfer_stack(name.removesuffix(transfer.SUFFIX))


@cache
def stack_provenance(name: str) -> StackProvenance:
    """What a stack is of, without reading its tables. Raises CatalogError as load_stack does."""
    if stack_kind(name) == "measured":
        return catalog.read_provenance(name)
    return transfer.transfer_provenance(catalog.load_gpu(name.removesuffix(transfer.SUFFIX)))


@cache
def default_stack(gpu: str) -> str:
    """Name of the stack that a scenario on this GPU takes when it names none: the GPU's own, else its transfer stack.

    Raises CatalogError: no such GPU, or two stacks that both claim to be its default.
    """
    catalog.load_gpu(gpu)
    measured = ((name, catalog.read_provenance(name)) for name in catalog.measured_stacks())
    own = [name for name, provenance in measured if provenance.gpu == gpu and provenance.is_default]
    if len(own) > 1:
        raise CatalogError(f"several default stacks of {gpu}: {', '.join(own)}; keep is_default in one provenance.yaml")
    return own[0] if own else transfer_name(gpu)


def _require(name: str) -> None:
    """Raise CatalogError with the nearest names unless there is such a stack."""
    if name not in stack_names():
        raise CatalogError(f"no stack is called {excerpt(name)}{nearest(str(name), stack_names())}")
