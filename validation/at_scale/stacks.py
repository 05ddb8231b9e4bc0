"""Stack folders that differ from another stack in their kernels alone."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import hwprofiles
from hwprofiles.catalog import load_gpu, read_provenance, read_stack
from hwprofiles.kernels.rows import KERNEL_COLUMNS, LIBRARY, RESULT, KernelRow
from hwprofiles.kernels.shape import OWN_GEMMS, OWN_STREAMS
from hwprofiles.same_chip import equal_chips
from hwprofiles.stack_records import Parameter, Stack
from hwprofiles.yaml_text import as_yaml
from simulator.errors import InputError, Problem
from validation.at_scale.limit import KINDS, ceilings

STACKS: Final = Path(hwprofiles.__file__).parent / "stacks"
KEPT: Final = ("network_parameters.yaml", "host_parameters.yaml", "assumptions.yaml", "collectives.csv")
"""Files of what is no kernel."""
LIBRARYS: Final = "gemm.fp8-block."
"""Beginning of the constants of products by blocks."""
REPLACED: Final = (("gemm", "fp8-block"), ("grouped_gemm", "fp8-block"))
"""Op and format of their rows."""
OWN: Final = (OWN_GEMMS, OWN_STREAMS)
"""Libraries of own products, and of own kernels bound by memory."""


def with_own_kernels(base: str, measured: str, folder: Path) -> Path:
    """The stack `base` and, beside its kernels, this project's as they are in the stack `measured`, of an equal chip.

    Raises InputError: it is of another chip, or has none of them.
    """
    own = _of_equal_chip(base, measured)
    found = {key: entry for key, entry in own.parameters.items() if _is_own(key)}
    if not any(key.startswith("gemm.") for key in found):
        raise _refused(f"{measured} has no rates of this project's products; `moesim calibrate` measures them")
    _begun(base, folder, f"{base} with this project's FP8 kernels, as {measured} has them")
    shutil.copy(STACKS / base / "parameters.yaml", folder)
    _write_parameters(folder, measured, found)
    rows = [_cells(row) for row in own.kernels.rows if row.shape.library == OWN[row.shape.bound == "memory"]]
    _write_rows(folder / "kernels.csv", [*_rows_of(base), *rows])
    return folder


def with_library_products(base: str, measured: str, folder: Path) -> Path:
    """The stack `base` with the library's FP8 products by blocks of the stack `measured` in the place of its own.

    Raises InputError: it is of another chip.
    """
    other = _of_equal_chip(base, measured)
    found = {key: entry for key, entry in other.parameters.items() if key.startswith(LIBRARYS) and not _is_own(key)}
    _begun(base, folder, f"{base} with the library's FP8 products of {measured}")
    kept = {
        key: entry.model_dump(mode="json")
        for key, entry in read_stack(base).parameters.items()
        if _is_in(STACKS / base / "parameters.yaml", key) and not key.startswith(LIBRARYS)
    }
    (folder / "parameters.yaml").write_text(as_yaml(kept, f"Of {base}."), encoding="utf-8")
    _write_parameters(folder, measured, found)
    rows = [row for row in _rows_of(base) if (row["op"], row["dtype"]) not in REPLACED]
    rows += [
        _cells(row) for row in other.kernels.rows
        if (row.shape.op, row.shape.dtype) in REPLACED and row.shape.library != OWN_GEMMS
    ]  # fmt: skip
    _write_rows(folder / "kernels.csv", rows)
    return folder


def at_the_limit(base: str, folder: Path) -> Path:
    """The stack `base` with its GPU's ceilings in the place of its kernels."""
    gpu = load_gpu(read_provenance(base).gpu)
    _begun(base, folder, f"ceilings of {gpu.name}; links and host of {base}")
    kept = {
        key: entry.model_dump(mode="json")
        for key, entry in read_stack(base).parameters.items()
        if _is_in(STACKS / base / "parameters.yaml", key) and (not key.startswith(KINDS) or key.endswith("sms"))
    }
    text = as_yaml({**kept, **dict(ceilings(gpu))}, "Ceilings: validation/at_scale/limit.py.")
    (folder / "parameters.yaml").write_text(text, encoding="utf-8")
    return folder


def _is_own(key: str) -> bool:
    """Whether a constant is of an own kernel: gemm.<dtype>.<library>…, memory.<op>.<library>…"""
    words = key.split(".")
    return len(words) > 2 and words[2] == {"gemm": OWN[0], "memory": OWN[1]}.get(words[0])


def _is_in(path: Path, key: str) -> bool:
    """Whether a file of parameters gives the key."""
    return f"\n{key}:" in f"\n{path.read_text(encoding='utf-8')}"


def _begun(base: str, folder: Path, description: str) -> None:
    """The folder with all that is no kernel."""
    folder.mkdir(parents=True)
    for name in KEPT:
        if (STACKS / base / name).exists():
            shutil.copy(STACKS / base / name, folder)
    record = read_provenance(base).model_dump(mode="json", exclude_none=True)
    record |= {"description": description, "is_default": False}
    (folder / "provenance.yaml").write_text(as_yaml(record, "Written by validation/at_scale."), encoding="utf-8")


def _of_equal_chip(base: str, measured: str) -> Stack:
    other, gpu = read_stack(measured), read_provenance(base).gpu
    if other.gpu not in equal_chips(gpu):
        raise _refused(f"{measured} is of {other.gpu}, another chip than {gpu}")
    return other


def _write_parameters(folder: Path, measured: str, found: Mapping[str, Parameter]) -> None:
    """Constants of another stack of the chip."""
    carried = {key: {**entry.model_dump(mode="json"), "basis": "transferred"} for key, entry in found.items()}
    (folder / "carried_parameters.yaml").write_text(as_yaml(carried, f"Of {measured}."), encoding="utf-8")


def _rows_of(base: str) -> list[Mapping[str, Any]]:
    with (STACKS / base / "kernels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, (*KERNEL_COLUMNS, LIBRARY, RESULT), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cells(row: KernelRow) -> dict[str, Any]:
    """A row of another stack: what it was measured in goes without saying there, not here."""
    shape = {name: getattr(row.shape, name) or "" for name in columns_of_shape()}
    return {
        **shape, "causal": "", "sms": row.sms or "", "regime": row.regime, "seconds": row.seconds, "low": row.low,
        "high": row.high, "basis": "transferred", "state": row.state or "first_launches", "source": row.source,
        "note": row.note,
    }  # fmt: skip


def columns_of_shape() -> tuple[str, ...]:
    """Columns that are fields of a shape."""
    return tuple(name for name in (*KERNEL_COLUMNS, LIBRARY, RESULT) if name in _SHAPE)


_SHAPE: Final = frozenset(
    ("op", "variant", "dtype", "m", "n", "k", "groups", "batch", "seq", "heads", "kv_heads", "head_dim_qk", "head_dim_v",
     "bytes", LIBRARY, RESULT)
)  # fmt: skip


def _refused(text: str) -> InputError:
    return InputError([Problem("", "stack", text)])
