"""Which software stack serves a GPU: measured on it, made of what is public of it, or transferred from other GPUs.

A measured stack that does not say that it is whole is completed from what is public of its GPU (stack_completion.py).
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

from hwprofiles import catalog, transfer
from hwprofiles.leave_out import NOTHING, LeftOut
from hwprofiles.names import nearest
from hwprofiles.record_file import CatalogError
from hwprofiles.same_chip import equal_chips
from hwprofiles.stack_completion import completed
from hwprofiles.stack_folders import MARK, opened
from hwprofiles.stack_records import Stack, StackProvenance
from hwprofiles.yaml_file import excerpt

StackKind = Literal["measured", "public", "transferred"]
STACK_KINDS: Final[dict[StackKind, str]] = {
    "measured": "kernels measured on this GPU",
    "public": "public measurements of this GPU, for the rest its datasheet and efficiencies of others",
    "transferred": "the datasheet and efficiencies pooled from GPUs of its family, else of the nearest",
}
"""What a stack rests on, in words; the best first."""

_MADE: Final[dict[transfer.Made, StackKind]] = {"public": "public", "transfer": "transferred"}
MEASURED: Final = "-measured"
"""End of the name of the stack of a folder that serves its GPU where none is marked as default."""


def public_name(gpu: str) -> str:
    """Name of the stack made of what is public of a GPU; there is none where nothing is (`has_public`)."""
    return f"{gpu}-public"


def transfer_name(gpu: str) -> str:
    """Name of a GPU's transfer stack: its datasheet with the efficiencies pooled from the nearest family."""
    return f"{gpu}-transfer"


@cache
def has_public(gpu: str, without: LeftOut = NOTHING) -> bool:
    """Whether kernels or collectives were measured in public on the GPU or on a chip of equal datasheet.

    Raises CatalogError: no such GPU.
    """
    return transfer.has_public(gpu, without)


def made_names(gpu: str, without: LeftOut = NOTHING) -> tuple[str, ...]:
    """The GPU's stacks that have no folder, the best first: `-public` where it exists, and `-transfer`."""
    return (*([public_name(gpu)] if has_public(gpu, without) else []), transfer_name(gpu))


def like_for_like(gpu: str, other: str) -> tuple[str, str]:
    """Stacks of two GPUs that are of one kind: `-public` where both have it, else `-transfer`."""
    name = public_name if has_public(gpu) and has_public(other) else transfer_name
    return name(gpu), name(other)


@cache
def stack_names() -> tuple[str, ...]:
    """Names of all stacks, sorted: those of folders, the public and the transfer stack of every GPU that has them."""
    made = [name for gpu in catalog.list_names("gpus") for name in made_names(gpu)]
    return tuple(sorted([*catalog.measured_stacks(), *made]))


def is_stack(name: str) -> bool:
    """Whether there is a stack of that name: in the catalogue, of an opened folder, or made of the GPU of one."""
    return name in stack_names() or opened(name) is not None or _is_made(name)


def stack_kind(name: str) -> StackKind:
    """What the stack of that name rests on. Raises CatalogError: no such name."""
    _require(name)
    return "measured" if _is_measured(name) else _MADE[_parts(name)[1]]


@cache
def load_stack(name: str, without: LeftOut = NOTHING) -> Stack:
    """The stack of that name: kernels, collectives, parameters, assumptions; of what is public less what is left out.

    Raises CatalogError: no such name (the nearest are named), a wrong file of the stack, or a stack of a folder that rests on
    what is left out.
    """
    if stack_kind(name) != "measured":
        gpu, made = _parts(name)
        return transfer.build_stack(made, gpu, without)
    if _rests_on(name, without):
        others = " or ".join(made_names(stack_provenance(name).gpu, without))
        raise CatalogError(f"{name} rests on what is left out ({without}); use {others}")
    folder = opened(name)
    stack = folder.stack if folder else catalog.read_stack(name)
    if stack.provenance.is_whole:
        return stack
    rest: transfer.Made = "public" if has_public(stack.gpu, without) else "transfer"
    return completed(stack, transfer.build_stack(rest, stack.gpu, without))


@cache
def stack_provenance(name: str) -> StackProvenance:
    """What a stack is of, without reading its tables. Raises CatalogError as load_stack does."""
    if stack_kind(name) == "measured":
        folder = opened(name)
        return folder.stack.provenance if folder else catalog.read_provenance(name)
    gpu, made = _parts(name)
    return transfer.made_provenance(made, catalog.load_gpu(gpu))


@cache
def default_stack(gpu: str, without: LeftOut = NOTHING) -> str:
    """Name of the stack that a scenario on this GPU takes when it names none.

    The GPU's own that is marked `is_default`, else `<gpu>-measured`, else `<gpu>-public` where anything public was measured on
    it or on a chip of equal datasheet, else `<gpu>-transfer`; nothing that rests on what is left out.
    Raises CatalogError: no such GPU, or two stacks that both claim to be its default.
    """
    catalog.load_gpu(gpu)
    own = [name for name in catalog.measured_stacks() if catalog.read_provenance(name).gpu == gpu]
    marked = [name for name in own if catalog.read_provenance(name).is_default]
    if len(marked) > 1:
        text = f"several default stacks of {gpu}: {', '.join(marked)}; keep is_default in one provenance.yaml"
        raise CatalogError(text)
    for name in (*marked, f"{gpu}{MEASURED}"):
        if name in own and not _rests_on(name, without):
            return name
    return made_names(gpu, without)[0]


def _rests_on(name: str, left: LeftOut) -> bool:
    """Whether the stack of a folder was measured on a GPU, or has a source, that is left out."""
    if not left:
        return False
    provenance = stack_provenance(name)
    gpus = equal_chips(provenance.gpu)
    return bool(
        gpus & left.gpus
        or provenance.sources.keys() & left.sources
        or catalog.load_gpu(provenance.gpu).family in left.families
    )


def _is_measured(name: str) -> bool:
    return name in catalog.measured_stacks() or opened(name) is not None


def _is_made(name: str) -> bool:
    """Whether the name is that of a public or transfer stack of a GPU that load_gpu knows."""
    gpu = str(name).rpartition("-")[0]
    try:
        return name in made_names(gpu)
    except CatalogError:
        return False


def _parts(name: str) -> tuple[str, transfer.Made]:
    """GPU and kind of the name of a stack without a folder."""
    gpu, _, made = name.rpartition("-")
    return gpu, "public" if made == "public" else "transfer"


def _require(name: str) -> None:
    """Raise CatalogError with the nearest names unless there is such a stack."""
    if is_stack(name):
        return
    if MARK in str(name):
        text = f"{excerpt(name)} is the stack of a folder that is not open here; give the folder: --set stack=PATH"
        raise CatalogError(text)
    gpu, _, made = str(name).rpartition("-")
    if made == "public" and gpu in catalog.list_names("gpus"):
        raise CatalogError(f"nothing public was measured on {gpu}: there is no {name}; use {transfer_name(gpu)}")
    raise CatalogError(f"no stack is called {excerpt(name)}{nearest(str(name), stack_names())}")
