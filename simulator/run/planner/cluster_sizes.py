"""Which cluster sizes a question is about: as they are asked for, and the smallest on which something fits.

A size is a part of one node, or a whole number of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final

from hwprofiles.problems import show
from simulator.errors import InputError, Problem
from simulator.scenario.section import MAX_GPUS

FIELD: Final = "--num-gpus"
MAX_LISTED: Final = 16
"""Sizes of one question."""
TABLE_SIZES: Final = 6
"""Sizes of a table where none are asked for."""
MAX_FOUND: Final = 1 << 17
"""GPUs of the largest cluster that is tried where none are asked for."""
MAX_TRIED: Final = 48
"""Sizes between two doublings that are tried one by one; where there are more, coarser steps come first."""

Fits = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class AskedSizes:
    """Sizes as asked for: listed ones (ascending), or all between two ends; neither: those that suit the scenario."""

    listed: tuple[int, ...] = ()
    ends: tuple[int, int] | None = None


def read_sizes(text: str | None, unit: int) -> AskedSizes:
    """What --num-gpus says: "64,128", or "64..1024"; None: nothing. unit: GPUs of a node.

    Raises InputError: neither of them, both, ends in the wrong order, or a size that no whole nodes make.
    """
    if text is None:
        return AskedSizes()
    if ".." in text:
        parts = text.split("..")
        if "," in text or len(parts) != 2:
            raise _refused(f"is no list and no range ({show(text)}); write 64,128,256 or 64..1024, not both in one")
        least, most = (_size(part, unit, text) for part in parts)
        if least > most:
            raise _refused(f"starts above its end ({show(text)}); write {most}..{least}")
        return AskedSizes(ends=(least, most))
    sizes = sorted(_size(part, unit, text) for part in text.split(","))
    for one, other in pairwise(sizes):
        if one == other:
            raise _refused(f"names {one} twice ({show(text)})")
    if len(sizes) > MAX_LISTED:
        raise _refused(f"lists {len(sizes)} sizes; allowed 1 to {MAX_LISTED}, or a range: {sizes[0]}..{sizes[-1]}")
    return AskedSizes(listed=tuple(sizes))


def _refused(message: str) -> InputError:
    return InputError([Problem("", FIELD, message)])


def _size(part: str, unit: int, text: str) -> int:
    """One size of a text. Raises InputError where it is none."""
    digits = part.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(MAX_GPUS)):
        raise _refused(f"has no number of GPUs where {show(part)} stands ({show(text)}); write 64,128,256 or 64..1024")
    size = int(digits)
    if not 1 <= size <= MAX_GPUS:
        raise _refused(f"{size} is out of range; allowed 1 to {MAX_GPUS:,}")
    if size > unit and size % unit:
        below = size - size % unit
        raise _refused(f"{size} GPUs are no whole number of nodes of {unit}; next: {below} and {below + unit}")
    return size


def smallest_that_fits(fits: Fits, unit: int, least: int = 1, most: int = MAX_FOUND) -> int | None:
    """The smallest size from `least` to `most` that fits; None where no doubling does. unit: GPUs of a node.

    Sizes are doubled until one fits; then those between it and the last that did not are tried from below, node by node, in
    coarser steps first where these are more than MAX_TRIED of them. What fits below a doubling that does not is not looked for.
    """
    most = most if most < unit else most - most % unit
    failed, found = least - 1, None
    for size in _doublings(least, unit, most):
        if fits(size):
            found = size
            break
        failed = size
    if found is None:
        return None
    step = 0
    while step != (1 if found <= unit else unit):
        step = _coarsest(failed, found, unit)
        for size in range((failed // step + 1) * step, found, step):
            if fits(size):
                found = size
                break
            failed = size
    return found


def _doublings(least: int, unit: int, most: int) -> Iterator[int]:
    """`least`, then powers of two of a node above it, and `most` itself."""
    yield least
    size = 1
    while size <= least:
        size = min(2 * size, unit) if size < unit else 2 * size
    while size < most:
        yield size
        size = min(2 * size, unit) if size < unit else 2 * size
    if most > least:
        yield most


def _coarsest(failed: int, found: int, unit: int) -> int:
    """Steps in which at most MAX_TRIED sizes lie between the two; within a node of single GPUs."""
    if found <= unit:
        return 1
    step = unit
    while (found - failed) // step > MAX_TRIED:
        step *= 2
    return step


def sizes_of_table(smallest: int, unit: int, own: int, ends: tuple[int, int] | None = None) -> tuple[int, ...]:
    """Sizes of a table: the smallest that fits, and powers of two of a node above it.

    ends: those asked for; then all up to the last, and it. Else TABLE_SIZES at most: the nearest to twice `own`, the GPUs that
    the scenario states, which is one of them; where that is too small, the first ones.
    """
    if ends is not None:
        return tuple(sorted({smallest, *_doublings(smallest, unit, ends[1])}))
    if own < smallest:
        return tuple(islice(_doublings(smallest, unit, MAX_GPUS), TABLE_SIZES))
    above = sorted({own, *(size for size in _doublings(smallest, unit, 2 * own))} - {smallest})
    return (smallest, *above[1 - TABLE_SIZES :])
