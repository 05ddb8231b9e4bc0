"""Stacks of folders outside the catalogue, given by path: what `moesim calibrate -o DIR` writes, or one written by hand.

A folder that was opened has a name in this process: its own and a hash of what is in it ("my-h100@1f0c…"), so that wherever it
lies it is the same stack, two folders of one name are two, and one that was measured again is another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from hwprofiles import catalog
from hwprofiles.parameter_keys import key_problem, part_problems
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError, read_document, read_located, read_record
from hwprofiles.schema import Gpu
from hwprofiles.stack_records import Stack, StackProvenance
from hwprofiles.yaml_file import MAX_TABLE_NODES, excerpt

PROVENANCE: Final = "provenance.yaml"
GPU: Final = "gpu.yaml"
"""The record of a GPU that the catalogue does not know."""
POINTS: Final = "points.csv"
"""What a calibration writes first: a folder with it alone is not finished."""
GIVEN: Final = "MOESIM_STACKS"
"""Environment variable: folders, joined as paths are, whose stacks a process and its workers know by name from the start."""
MARK: Final = "@"
"""Between a folder's name and its hash."""
_DIGITS: Final = 12
_GPU_DIGITS: Final = 8
_MAKE_ONE: Final = "`moesim calibrate -o DIR` writes one; or name a stack of `moesim list stacks`"


@dataclass(frozen=True)
class OpenedFolder:
    """A folder's stack as it stands, named as this process names it. gpu_name: as the folder's files write the GPU, which has
    another name here where it is the folder's own.
    """

    stack: Stack
    gpu_name: str

    @property
    def has_own_gpu(self) -> bool:
        """Whether the folder brings the GPU that it was measured on."""
        return self.stack.gpu != self.gpu_name


_OPENED: Final[dict[str, OpenedFolder]] = {}


def looks_like_folder(text: str) -> bool:
    """Whether a stack is given as a path: it has a slash, or is a dot or two."""
    return "/" in text or "\\" in text or text in (".", "..")


def plain_name(stack: str) -> str:
    """The name without the hash, as people know the folder."""
    return stack.partition(MARK)[0]


def opened(name: str) -> OpenedFolder | None:
    """The folder that this process opened under that name, or that it was started with."""
    if MARK in name:
        given_folders()
    return _OPENED.get(name)


@cache
def given_folders() -> Mapping[str, str]:
    """Plain name → name of the stacks whose folders GIVEN lists. Raises CatalogError: one of them is none."""
    paths = filter(None, os.environ.get(GIVEN, "").split(os.pathsep))
    names = [open_folder(Path(path)).stack.name for path in paths]
    return {plain_name(name): name for name in names}


def open_folder(path: Path) -> OpenedFolder:
    """Read a stack's folder and let its name stand for it. Raises CatalogError with every problem, each with file and line."""
    _require_folder(path)
    provenance, document = read_located(path / PROVENANCE, StackProvenance)
    gpu = _own_gpu(path, provenance)
    if gpu is None:
        try:
            gpu = catalog.load_gpu(provenance.gpu)
        except CatalogError as error:
            text = f"{error.problems[0].message}; a GPU that the catalogue lacks is described in {GPU} beside this file"
            where = f"{excerpt(path / PROVENANCE, 200)}:{document.line(('gpu',))}"
            raise CatalogError([Problem(where, "gpu", text)]) from None
    stack = catalog.read_tables(path, path.resolve().name, provenance, gpu)
    _check_tables(path, stack)
    found = OpenedFolder(_named(stack, gpu), provenance.gpu)
    if gpu.name != provenance.gpu:
        catalog.give_gpu(gpu)
    _OPENED[found.stack.name] = found
    return found


def _require_folder(path: Path) -> None:
    """Raise CatalogError where the path is none of a stack."""
    shown = excerpt(path, 200)
    try:
        if not path.exists():
            raise CatalogError([Problem(shown, "", f"there is no such folder; {_MAKE_ONE}")])
        if not path.is_dir():
            raise CatalogError([Problem(shown, "", f"is a file, and a stack is a folder; {_MAKE_ONE}")])
        has_provenance, has_points = (path / PROVENANCE).exists(), (path / POINTS).exists()
    except (OSError, ValueError) as error:
        raise CatalogError([Problem(shown, "", f"cannot be read: {excerpt(error, 200)}")]) from None
    if not has_provenance and has_points:
        text = f"the calibration is not finished: no {PROVENANCE} beside {POINTS}; `moesim calibrate -o` this folder resumes it"
        raise CatalogError([Problem(shown, "", text)])
    if not has_provenance:
        raise CatalogError([Problem(shown, "", f"is no stack: it has no {PROVENANCE}; {_MAKE_ONE}")])


def _own_gpu(path: Path, provenance: StackProvenance) -> Gpu | None:
    """The GPU that the folder describes, under a name of its own; None where it has none. Raises CatalogError."""
    file = path / GPU
    if not file.exists():
        return None
    gpu = read_record(file, Gpu)
    where = f"{excerpt(file, 200)}:1"
    if gpu.name != provenance.gpu:
        raise CatalogError(
            [Problem(where, "name", f"{gpu.name}, but {PROVENANCE} is of {provenance.gpu}; write one name")]
        )
    if gpu.name in catalog.list_names("gpus"):
        text = f"the catalogue has a GPU called {gpu.name}; remove {GPU}, or give this one another name in both files"
        raise CatalogError([Problem(where, "name", text)])
    return gpu.model_copy(update={"name": f"{gpu.name[:40]}.{_hash(gpu.model_dump(mode='json'))[:_GPU_DIGITS]}"})


def _check_tables(path: Path, stack: Stack) -> None:
    """Raise CatalogError for an empty folder, and for parameters that nothing reads or that lack their fellows."""
    if not (stack.kernels.rows or stack.parameters or stack.collectives.rows):
        text = "holds no measurement: neither kernels.csv, collectives.csv nor a *parameters.yaml with an entry"
        raise CatalogError([Problem(excerpt(path, 200), "", f"{text}; {_MAKE_ONE}")])
    found = dict(part_problems(stack.parameters))
    found |= {key: problem for key in stack.parameters if (problem := key_problem(key)) is not None}
    if not found:
        return
    problems = []
    for file in sorted(path.glob("*parameters.yaml")):
        document = read_document(file, max_nodes=MAX_TABLE_NODES)
        where = excerpt(file, 200)
        problems += [
            Problem(f"{where}:{document.line((key,))}", excerpt(key, 200), text)
            for key, text in found.items()
            if key in document.data
        ]
    raise CatalogError(problems)


def _named(stack: Stack, gpu: Gpu) -> Stack:
    """The stack with the hash of its content, GPU included, in its name."""
    provenance = stack.provenance.model_copy(update={"gpu": gpu.name})
    placed = replace(stack, name="", gpu=gpu.name, provenance=provenance)
    return replace(placed, name=f"{stack.name}{MARK}{placed.sha256[:_DIGITS]}")


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
