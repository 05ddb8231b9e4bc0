"""Finds and reads the catalogue by name: GPUs, nodes, fabrics, price sheets, software stacks.

The catalogue is the data files beside this module; a file's name is its entry's name. Light to import: neither numpy
nor pandas is loaded before a stack is.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

from hwprofiles.collectives.rows import CollectiveTable, CollectiveTableError
from hwprofiles.names import nearest
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError, read_mapping, read_record
from hwprofiles.schema import Assumption, Fabric, Gpu, Node, Parameter, PriceSheet, Stack, StackProvenance
from hwprofiles.yaml_file import excerpt

__all__ = [
    "STACK_KINDS",
    "CatalogError",
    "StackKind",
    "default_stack",
    "list_names",
    "load_assumptions",
    "load_fabric",
    "load_gpu",
    "load_node",
    "load_prices",
    "load_stack",
    "stack_kind",
]

StackKind = Literal["measured", "transferred"]
STACK_KINDS: Final[dict[StackKind, str]] = {
    "measured": "kernels measured on this GPU",
    "transferred": "the datasheet and efficiencies measured on other GPUs",
}
"""What a stack rests on, in words."""
Kind = Literal["gpus", "nodes", "fabrics", "prices", "stacks"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TRANSFER_SUFFIX: Final = "-transfer"
"""`<gpu>-transfer` is a stack of every GPU: its datasheet with the efficiencies measured on other GPUs."""

_ROOT: Final = Path(__file__).parent
"""The package's own folder, also in a wheel; read as files, so that errors can name them."""
_SINGULAR: Final[dict[Kind, str]] = {
    "gpus": "GPU",
    "nodes": "node",
    "fabrics": "fabric",
    "prices": "price sheet",
    "stacks": "stack",
}

Entry = TypeVar("Entry", Gpu, Node, Fabric, PriceSheet)


@cache
def list_names(kind: Kind) -> tuple[str, ...]:
    """Names of the catalogue's entries of a kind, sorted; of stacks, the transfer stack of every GPU included."""
    if kind not in KINDS:
        raise CatalogError(f"unknown kind {excerpt(kind)}; allowed {', '.join(KINDS)}")
    if kind != "stacks":
        return tuple(sorted(path.stem for path in (_ROOT / kind).glob("*.yaml")))
    return tuple(sorted([*_measured_stacks(), *(f"{gpu}{TRANSFER_SUFFIX}" for gpu in list_names("gpus"))]))


@cache
def load_gpu(name: str) -> Gpu:
    """The GPU of that name. Raises CatalogError: no such name (the nearest are named), or a wrong file."""
    return _load(name, "gpus", Gpu)


@cache
def load_node(name: str) -> Node:
    """The node of that name. Raises CatalogError as load_gpu does."""
    return _load(name, "nodes", Node)


@cache
def load_fabric(name: str) -> Fabric:
    """The fabric of that name. Raises CatalogError as load_gpu does."""
    return _load(name, "fabrics", Fabric)


@cache
def load_prices(name: str) -> PriceSheet:
    """The price sheet of that name. Raises CatalogError as load_gpu does."""
    return _load(name, "prices", PriceSheet)


def load_assumptions(path: Path) -> dict[str, Assumption]:
    """An assumptions.yaml: key → {value, low, high, unit, source, reason}. Raises CatalogError with every problem."""
    return read_mapping(path, Assumption, key_field="key")


@cache
def load_stack(name: str) -> Stack:
    """The software stack of that name: kernels, collectives, parameters, assumptions.

    `<gpu>-transfer` is made for any GPU. Raises CatalogError: no such name, or a wrong file of the stack.
    """
    _require(name, "stacks")
    if name not in _measured_stacks():
        from hwprofiles.transfer import build_transfer_stack

        return build_transfer_stack(name.removesuffix(TRANSFER_SUFFIX))
    return _read_stack(name)


def stack_kind(name: str) -> StackKind:
    """What the stack of that name rests on. Raises CatalogError: no such name."""
    _require(name, "stacks")
    return "measured" if name in _measured_stacks() else "transferred"


@cache
def default_stack(gpu: str) -> str:
    """Name of the stack that a scenario on this GPU takes when it names none: the GPU's own, else its transfer stack.

    Raises CatalogError: no such GPU, or two stacks that both claim to be its default.
    """
    _require(gpu, "gpus")
    own = [name for name in _measured_stacks() if (entry := _provenance(name)).gpu == gpu and entry.is_default]
    if len(own) > 1:
        raise CatalogError(f"several default stacks of {gpu}: {', '.join(own)}; keep is_default in one provenance.yaml")
    return own[0] if own else f"{gpu}{TRANSFER_SUFFIX}"


def _load(name: str, kind: Kind, model: type[Entry]) -> Entry:
    _require(name, kind)
    path = _ROOT / kind / f"{name}.yaml"
    record = read_record(path, model)
    if record.name != name:
        raise CatalogError([Problem(f"{path}:1", "name", f"{record.name}; the file's name says {name}")])
    return record


def _require(name: str, kind: Kind) -> None:
    """Raise CatalogError with the nearest names unless the catalogue has the name."""
    known = list_names(kind)
    if name in known:
        return
    raise CatalogError(f"no {_SINGULAR[kind]} is called {excerpt(name)}{nearest(str(name), known)}")


@cache
def _measured_stacks() -> tuple[str, ...]:
    """Stacks that have a folder of their own."""
    return tuple(sorted(path.parent.name for path in (_ROOT / "stacks").glob("*/provenance.yaml")))


@cache
def _provenance(name: str) -> StackProvenance:
    return read_record(_ROOT / "stacks" / name / "provenance.yaml", StackProvenance)


def _parameters(folder: Path) -> dict[str, Parameter]:
    """All `*parameters.yaml` of a stack (kernels, network, host). Raises CatalogError for a key that two files give."""
    merged: dict[str, Parameter] = {}
    for path in sorted(folder.glob("*parameters.yaml")):
        read = read_mapping(path, Parameter)
        twice = sorted(merged.keys() & read.keys())
        if twice:
            raise CatalogError([Problem(f"{path}:1", key, "a second file of the stack gives it") for key in twice])
        merged |= read
    return merged


def _read_stack(name: str) -> Stack:
    """A stack from its folder; a missing table is an empty one."""
    from hwprofiles.kernels.rows import KernelTable, KernelTableError

    folder = _ROOT / "stacks" / name
    provenance = _provenance(name)
    _require(provenance.gpu, "gpus")
    tables: dict[str, Any] = {}
    try:
        if (folder / "kernels.csv").exists():
            tables["kernels"] = KernelTable.from_csv(folder / "kernels.csv")
        if (folder / "collectives.csv").exists():
            tables["collectives"] = CollectiveTable.from_csv(folder / "collectives.csv")
    except (KernelTableError, CollectiveTableError, UnicodeDecodeError) as error:
        raise CatalogError(str(error)) from None
    tables["parameters"] = _parameters(folder)
    if (folder / "assumptions.yaml").exists():
        tables["assumptions"] = load_assumptions(folder / "assumptions.yaml")
    return Stack(
        name=name,
        gpu=provenance.gpu,
        description=provenance.description,
        provenance=provenance,
        **{"kernels": KernelTable(), **tables},
    )
