"""Finds and reads the catalogue by name: GPUs, nodes, fabrics, price sheets, measured software stacks.

The catalogue is the data files beside this module; a file's name is its entry's name. Light to import: neither numpy
nor pandas is loaded before a stack is.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

from hwprofiles.collectives.rows import CollectiveTable
from hwprofiles.names import nearest
from hwprofiles.price_records import PriceSheet
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError, read_mapping, read_record
from hwprofiles.schema import Fabric, Gpu, Node
from hwprofiles.stack_records import Assumption, Parameter, Stack, StackProvenance
from hwprofiles.yaml_file import excerpt

__all__ = [
    "CatalogError",
    "give_gpu",
    "gpu_of_device",
    "list_names",
    "load_assumptions",
    "load_fabric",
    "load_gpu",
    "load_node",
    "load_prices",
    "measured_stacks",
    "read_provenance",
    "read_stack",
    "read_tables",
]

Kind = Literal["gpus", "nodes", "fabrics", "prices"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_ROOT: Final = Path(__file__).parent
"""The package's own folder, also in a wheel; read as files, so that errors can name them."""
_SINGULAR: Final[dict[Kind, str]] = {
    "gpus": "GPU",
    "nodes": "node",
    "fabrics": "fabric",
    "prices": "price sheet",
}

Entry = TypeVar("Entry", Gpu, Node, Fabric, PriceSheet)


@cache
def list_names(kind: Kind) -> tuple[str, ...]:
    """Names of the catalogue's entries of a kind, sorted."""
    if kind not in KINDS:
        raise CatalogError(f"unknown kind {excerpt(kind)}{nearest(kind, KINDS)}")
    return tuple(sorted(path.stem for path in (_ROOT / kind).glob("*.yaml")))


@cache
def measured_stacks() -> tuple[str, ...]:
    """Names of the software stacks that have a folder of their own, sorted; stack_choice knows the others too."""
    return tuple(sorted(path.parent.name for path in (_ROOT / "stacks").glob("*/provenance.yaml")))


_GIVEN_GPUS: Final[dict[str, Gpu]] = {}
"""GPUs of stack folders outside the catalogue; their names hold a hash of the record, so that no two records have one name."""


def give_gpu(gpu: Gpu) -> None:
    """Let load_gpu find a GPU that no file of the catalogue describes; list_names does not tell it."""
    _GIVEN_GPUS[gpu.name] = gpu


@cache
def load_gpu(name: str) -> Gpu:
    """The GPU of that name. Raises CatalogError: no such name (the nearest are named), or a wrong file."""
    return _GIVEN_GPUS[name] if name in _GIVEN_GPUS else _load(name, "gpus", Gpu)


@cache
def gpu_of_device(name: str) -> str | None:
    """The GPU that drivers and torch call by this name; None: the catalogue knows none. Raises CatalogError: a wrong file."""
    return next((gpu for gpu in list_names("gpus") if name in load_gpu(gpu).device_names), None)


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
def read_provenance(name: str) -> StackProvenance:
    """What a measured stack is of. Raises CatalogError: a wrong file."""
    return read_record(_ROOT / "stacks" / name / "provenance.yaml", StackProvenance)


def read_stack(name: str) -> Stack:
    """A measured stack from its folder; a missing table is an empty one. Raises CatalogError: a wrong file."""
    provenance = read_provenance(name)
    return read_tables(_ROOT / "stacks" / name, name, provenance, load_gpu(provenance.gpu))


def read_tables(folder: Path, name: str, provenance: StackProvenance, gpu: Gpu) -> Stack:
    """The stack of a folder of tables; a missing table is an empty one. Raises CatalogError: a wrong file."""
    from hwprofiles.kernels.parameters import row_problem
    from hwprofiles.kernels.rows import KernelTable

    tables: dict[str, Any] = {}
    if (folder / "kernels.csv").exists():
        tables["kernels"] = KernelTable.from_csv(folder / "kernels.csv", lambda row: row_problem(row, gpu))
    _require_all_rows(folder, len(tables["kernels"].rows if "kernels" in tables else ()), provenance)
    if (folder / "collectives.csv").exists():
        tables["collectives"] = CollectiveTable.from_csv(folder / "collectives.csv")
    tables["parameters"] = _parameters(folder, provenance)
    if (folder / "assumptions.yaml").exists():
        tables["assumptions"] = load_assumptions(folder / "assumptions.yaml")
    return Stack(
        name=name,
        gpu=provenance.gpu,
        description=provenance.description,
        provenance=provenance,
        **{"kernels": KernelTable(), **tables},
    )


def _require_all_rows(folder: Path, found: int, provenance: StackProvenance) -> None:
    """Raise CatalogError where kernels.csv was cut at a line's end, or lines of it were added or lost."""
    wanted = provenance.calibration.kernel_rows if provenance.calibration else None
    if wanted is not None and found != wanted:
        text = (
            f"holds {found:,} rows, and by provenance.yaml (calibration.kernel_rows) {wanted:,} were written; bring the"
        )
        text += f" whole table back, by `python -m hwprofiles.calibration refit` of the folder, or write {found} there"
        raise CatalogError([Problem(excerpt(folder / "kernels.csv", 200), "", text)])


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


def _parameters(folder: Path, provenance: StackProvenance) -> dict[str, Parameter]:
    """All `*parameters.yaml` of a stack (kernels, network, host). Raises CatalogError for a key that two files give.

    A parameter's source may be the short name of one of the provenance's.
    """
    merged: dict[str, Parameter] = {}
    for path in sorted(folder.glob("*parameters.yaml")):
        read = read_mapping(path, Parameter, sources=provenance.sources)
        twice = sorted(merged.keys() & read.keys())
        if twice:
            raise CatalogError([Problem(f"{path}:1", key, "a second file of the stack gives it") for key in twice])
        merged |= read
    return merged
