"""What the FP8 products take: values in E4M3 with FP32 scales, as numerics/quantise.py makes them, and checks of how they lie.

Rows     (R, K) in tiles 1x128, left operand of fprop and dgrad. Groups of rows (experts) lie one behind another.
Blocks   (e, N, K) in blocks 128x128, the weights; for dgrad those of the transposed weights, (e, K, N).
Columns  (N, P) in tiles of 128 tokens, tokens innermost, both operands of wgrad. Each group's tokens are padded to 128.

Groups are given as ends on the device, int32 (e,): rows of group g are those from ends[g - 1] (0 for the first) up to ends[g].
Or as `Groups`, which the host knows: then they are checked in full. What stands on the device is not read for a check: a kernel
holds ends into the rows that there are, each no less than the one before.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

import torch
from torch import Tensor

from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8, TILE, Quantised
from hwprofiles.problem import Problem

ALIGNED_BYTES: Final = 16
"""To which addresses and distances of rows are aligned: the copy engine (TMA) reads no others."""
MOST_GROUPS: Final = 1024
"""Each CTA walks the ends, from shared memory where it is a CUDA kernel's: 4 KiB of them."""
LONGEST: Final = 2**31 - 2**16
"""Of a dimension: coordinates, with a tile's overhang, are int32. Products of dimensions may be larger."""
TURNED_ALIGNED: Final = 16
"""Of N and K in wgrad, which has no blocks: what TMA wants of a row of the result, and numerics/library.py of operands."""
OUT_DTYPES: Final = (torch.bfloat16, torch.float32)


class Layout(NamedTuple):
    """What of a tensor is checked; shape may be torch.Size. A layout is checked once, not 50 microseconds a launch."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: torch.device
    misaligned: int
    """Its address beyond a multiple of 16 bytes."""

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        if not self.shape:
            return True
        strides = accumulate(reversed(self.shape[1:]), operator.mul, initial=1)
        pairs = zip(self.shape, self.strides, reversed(tuple(strides)), strict=True)
        return not self.numel or all(size == 1 or stride == wanted for size, stride, wanted in pairs)


def layout_of(x: Tensor) -> Layout:
    return Layout(x.dtype, x.shape, x.stride(), x.device, x.data_ptr() % ALIGNED_BYTES)


@dataclass(frozen=True)
class Rows:
    """values (R, K), K innermost, K a multiple of 128; scales (R, K / 128) in FP32 with the rows innermost.

    The distance of two tiles' scales, `scales.stride(1)`, is a multiple of 4 and no less than R.
    """

    values: Tensor
    scales: Tensor

    @classmethod
    def of(cls, made: Quantised) -> Rows:
        """The same numbers; scales that lie otherwise are copied."""
        scales = made.scales
        if not _lie_well(made.values.shape, layout_of(scales)):
            num_rows, num_tiles = scales.shape
            pitch = num_rows + -num_rows % (ALIGNED_BYTES // 4)
            scales = scales.new_empty(num_tiles, pitch)[:, :num_rows].t().copy_(scales)
        return cls(made.values, scales)


@dataclass(frozen=True)
class Blocks:
    """values (e, N, K), N and K multiples of 128; scales (e, N / 128, K / 128) in FP32; both contiguous."""

    values: Tensor
    scales: Tensor


@dataclass(frozen=True)
class Columns:
    """values (N, P), tokens innermost, N a multiple of 16, P of 128; scales (P / 128, N) in FP32, N innermost.

    The distance of two rows of scales is a multiple of 4.
    """

    values: Tensor
    scales: Tensor


def problems_of_types(
    kind: type[Rows | Blocks | Columns], right_kind: type[Blocks | Columns], left: object, right: object, groups: object,
    out: object,
) -> list[Problem]:  # fmt: skip
    """What is no operand at all. Looked at before anything else, which takes their fields for what they are."""
    found = []
    for name, given, wanted in (("left", left, kind), ("right", right, right_kind)):
        if not isinstance(given, wanted):
            found.append(
                _differ(name, f"a {type(given).__name__}", f"{wanted.__name__} of values and scales are wanted")
            )
        else:
            fields = (("values", given.values), ("scales", given.scales))
            found += [
                _differ(f"{name}.{field}", f"a {type(each).__name__}", "a tensor is wanted")
                for field, each in fields if not isinstance(each, Tensor)
            ]  # fmt: skip
    if not isinstance(groups, Tensor | Groups | None):
        found.append(_differ("groups", f"a {type(groups).__name__}", "ends in a tensor, Groups or None are wanted"))
    if not isinstance(out, Tensor | None):
        found.append(_differ("out", f"a {type(out).__name__}", "a tensor is wanted"))
    return found


def problems_of_product(left: Rows, right: Blocks, out: Tensor | None, out_dtype: torch.dtype) -> tuple[Problem, ...]:
    """What is wrong with operands of fprop or dgrad. out: (R, N), its rows aligned to 16 bytes."""
    given = (layout_of(x) for x in (left.values, left.scales, right.values, right.scales))
    return _problems_of_product(*given, None if out is None else layout_of(out), out_dtype)


@lru_cache(maxsize=4096)
def _problems_of_product(
    left: Layout, left_scales: Layout, right: Layout, right_scales: Layout, out: Layout | None, out_dtype: torch.dtype
) -> tuple[Problem, ...]:
    found = list(_matrix("left.values", left, (None, TILE)))
    found += _contiguous("right.values", right, FP8, 3, (None, TILE, TILE))
    if found:
        return tuple(found)
    (num_rows, k), (num_groups, n, right_k) = left.shape, right.shape
    if k != right_k:
        found.append(_differ("right.values", f"K of {right_k}", f"left.values have K of {k}"))
    found += _scales_of_rows("left.scales", left.shape, left_scales)
    of_blocks = (num_groups, n // TILE, right_k // TILE)
    found += _contiguous("right.scales", right_scales, torch.float32, 3, (), of_blocks)
    found += _number_of_groups("right.values", num_groups)
    found += _lengths(R=num_rows, K=k, N=n, **{"groups x N": num_groups * n})
    if out_dtype not in OUT_DTYPES:
        found.append(_differ("out_dtype", str(out_dtype), "a product gives torch.bfloat16 or torch.float32"))
    elif out is not None:
        found += _matrix("out", out, (None, None), (num_rows, n), out_dtype)
    found += _devices(left=left, left_scales=left_scales, right=right, right_scales=right_scales, out=out)
    return tuple(found)


def problems_of_wgrad(left: Columns, right: Columns, num_groups: int, out: Tensor | None) -> tuple[Problem, ...]:
    """What is wrong with operands of wgrad. out: (e, N, K) in FP32, contiguous."""
    given = (layout_of(x) for x in (left.values, left.scales, right.values, right.scales))
    return _problems_of_wgrad(*given, num_groups, None if out is None else layout_of(out))


@lru_cache(maxsize=4096)
def _problems_of_wgrad(
    left: Layout, left_scales: Layout, right: Layout, right_scales: Layout, num_groups: int, out: Layout | None
) -> tuple[Problem, ...]:
    found = list(_matrix("left.values", left, (TURNED_ALIGNED, TILE)))
    found += _matrix("right.values", right, (TURNED_ALIGNED, TILE))
    if found:
        return tuple(found)
    (n, num_tokens), (k, right_tokens) = left.shape, right.shape
    if num_tokens != right_tokens:
        found.append(_differ("right.values", f"{right_tokens} tokens", f"left.values have {num_tokens}"))
    for name, values, scales in (("left.scales", left, left_scales), ("right.scales", right, right_scales)):
        size, tokens = values.shape
        found += _matrix(name, scales, (None, None), (tokens // TILE, size), torch.float32)
    if out is not None:
        found += _contiguous("out", out, torch.float32, 3, (), (num_groups, n, k))
    found += _number_of_groups("groups", num_groups)
    found += _lengths(P=num_tokens, N=n, K=k, **{"groups x N": num_groups * n})
    found += _devices(left=left, left_scales=left_scales, right=right, right_scales=right_scales, out=out)
    return tuple(found)


def problems_of_groups(
    groups: Tensor | Groups | None, num_groups: int | None, num_rows: int, device: torch.device, multiple: int = 1
) -> list[Problem]:
    """What is wrong with the groups of so many rows. num_groups: None where they alone say how many there are."""
    if isinstance(groups, Tensor):
        return _problems_of_ends(groups, num_groups, device)
    counts = (num_rows,) if groups is None else groups.counts
    if num_groups is not None and len(counts) != num_groups:
        return [_differ("groups", f"{len(counts)} groups", f"right.values are {num_groups} matrices")]
    if min(counts, default=0) < 0:
        return [Problem("", "groups", f"{min(counts)} rows of a group; 0 is the fewest")]
    total = sum(count + -count % multiple for count in counts)
    if total != num_rows:
        what = f"{total} rows" + (f", each group padded to {multiple}" if multiple > 1 else "")
        return [_differ("groups", what, f"the operands have {num_rows}")]
    return []


def num_groups_of(groups: Tensor | Groups | None) -> int:
    return 1 if groups is None else groups.numel() if isinstance(groups, Tensor) else len(groups.counts)


def ends_of(groups: Tensor | Groups | None, num_rows: int, device: torch.device, multiple: int = 1) -> Tensor:
    """Ends on the device, int32 (e,); of `Groups` those of each count rounded up to a multiple, copied there once."""
    if isinstance(groups, Tensor):
        return groups
    return (Groups((num_rows,)) if groups is None else groups.padded(multiple)).ends(device)


def _problems_of_ends(ends: Tensor, num_groups: int | None, device: torch.device) -> list[Problem]:
    wanted = None if num_groups is None else (num_groups,)
    found = list(_contiguous("groups", layout_of(ends), torch.int32, 1, (), wanted))
    if ends.device != device:
        found.append(_differ("groups", f"on {ends.device}", f"left.values are on {device}"))
    return found


@lru_cache(maxsize=4096)
def _lie_well(of_values: tuple[int, ...], scales: Layout) -> bool:
    return not list(_scales_of_rows("", of_values, scales))


def _scales_of_rows(name: str, of_values: tuple[int, ...], scales: Layout) -> Iterator[Problem]:
    num_rows, num_tiles = of_values[0], of_values[1] // TILE
    if scales.dtype != torch.float32:
        yield _differ(name, str(scales.dtype), "scales are torch.float32")
    if scales.shape != (num_rows, num_tiles):
        wanted = f"left.values {tuple(of_values)} want {(num_rows, num_tiles)}"
        yield _differ(name, f"shape {tuple(scales.shape)}", wanted)
    elif num_rows and num_tiles:
        step, pitch = scales.strides
        if num_rows > 1 and step != 1:
            yield _differ(name, f"strides {scales.strides}", "rows are innermost, of strides (1, pitch)")
        elif num_tiles > 1 and (pitch % 4 or pitch < num_rows):
            wanted = f"a multiple of 4, at least {num_rows}, is wanted"
            yield _differ(name, f"pitch {pitch}", wanted)
        if scales.misaligned:
            yield _misaligned(name, scales)


def _matrix(
    name: str,
    given: Layout,
    multiples: tuple[int | None, ...],
    shape: tuple[int, ...] | None = None,
    dtype: torch.dtype = FP8,
) -> Iterator[Problem]:
    """Two dimensions, the last one innermost, rows at distances of a multiple of 16 bytes."""
    yield from _kind(name, given, dtype, 2, multiples, shape)
    if len(given.shape) != 2 or not given.numel:
        return
    (height, width), (step, inner), size = given.shape, given.strides, given.dtype.itemsize
    if width > 1 and inner != 1:
        yield _differ(name, f"strides {given.strides}", "the last dimension is innermost, of stride 1")
    elif height > 1 and (step * size % ALIGNED_BYTES or step < width):
        wanted = f"a multiple of {ALIGNED_BYTES}, at least {width * size}, is wanted"
        yield _differ(name, f"rows {step * size} bytes apart", wanted)
    if given.misaligned:
        yield _misaligned(name, given)


def _contiguous(
    name: str,
    given: Layout,
    dtype: torch.dtype,
    dimensions: int,
    multiples: tuple[int | None, ...],
    shape: tuple[int, ...] | None = None,
) -> Iterator[Problem]:
    yield from _kind(name, given, dtype, dimensions, multiples, shape)
    if not given.is_contiguous:
        yield _differ(name, f"strides {given.strides}", "it has to be contiguous")
    elif dtype is not torch.int32 and given.misaligned:
        yield _misaligned(name, given)


def _kind(
    name: str,
    given: Layout,
    dtype: torch.dtype,
    dimensions: int,
    multiples: tuple[int | None, ...],
    shape: tuple[int, ...] | None,
) -> Iterator[Problem]:
    if given.dtype != dtype:
        yield _differ(name, str(given.dtype), f"{dtype} is wanted")
    if len(given.shape) != dimensions:
        yield _differ(name, f"shape {tuple(given.shape)}", f"{dimensions} dimensions are wanted")
    elif shape is not None and given.shape != shape:
        yield _differ(name, f"shape {tuple(given.shape)}", f"the other operands want {shape}")
    elif any(multiple and size % multiple for size, multiple in zip(given.shape, multiples, strict=False)):
        wanted = " x ".join("any" if multiple is None else str(multiple) for multiple in multiples)
        yield _differ(name, f"shape {tuple(given.shape)}", f"multiples of {wanted} are wanted")


def _number_of_groups(name: str, num_groups: int) -> Iterator[Problem]:
    if not 1 <= num_groups <= MOST_GROUPS:
        yield _differ(name, f"{num_groups} groups", f"1 to {MOST_GROUPS} are possible")


def _lengths(**lengths: int) -> Iterator[Problem]:
    for name, length in lengths.items():
        if length > LONGEST:
            yield _differ(name, f"{length}", f"{LONGEST} is the most that 32 bits count with a tile to spare")


def _devices(left: Layout, **others: Layout | None) -> Iterator[Problem]:
    for name, other in others.items():
        if other is not None and other.device != left.device:
            yield _differ(name.replace("_", "."), f"on {other.device}", f"left.values are on {left.device}")


def _misaligned(name: str, given: Layout) -> Problem:
    return _differ(name, f"an address {given.misaligned} bytes off", f"a multiple of {ALIGNED_BYTES} is wanted")


def _differ(name: str, found: str, wanted: str) -> Problem:
    return Problem("", name, f"{found}; {wanted}")
