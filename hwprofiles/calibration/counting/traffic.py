"""Bytes that torch functions read and write, and how many kernels they are: `with Traffic() as traffic: …`.

Each function reads every operand once and writes its result once; a view moves nothing; of an operand that is repeated over a
dimension the numbers that it has are read; rows that are looked up count as often as they are. On the device `meta` nothing is
computed: a chain of functions is counted whatever its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NOTHING: Final = frozenset(("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"))
"""Functions that make a tensor and write nothing, or only look like functions."""
REPLACING: Final = frozenset(("copy_", "fill_", "zero_"))
"""Those that write their first operand and do not read it."""
PICKING: Final = frozenset(("gather", "index_select", "index", "embedding"))
"""Of the first operand those that read as many numbers as they write."""
TARGETS: Final = {"nll_loss_forward": 0, "nll_loss_backward": 1}
"""Function that takes one number a row of the operand of this place, or none: its other numbers are not read."""
PLACING: Final = frozenset(("scatter_", "index_copy_", "scatter"))
"""Those that write into the first operand as many numbers as the last one has."""
ADDING: Final = frozenset(("scatter_add_", "index_add_", "index_put_", "_index_put_impl_", "scatter_add"))
"""The same, which add to what stands there."""


class Traffic(TorchDispatchMode):
    """Sums what runs inside. bytes_read, bytes_written; launches: functions that move something."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_read = self.bytes_written = 0.0
        self.launches = 0

    @property
    def bytes(self) -> int:
        """Read and written."""
        return round(self.bytes_read + self.bytes_written)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        if name in NOTHING or _is_view(func):
            return result
        read, written = _moved(name, list(_tensors((args, kwargs))), list(_tensors(result)))
        self.bytes_read, self.bytes_written = self.bytes_read + read, self.bytes_written + written
        self.launches += bool(read + written)
        return result


def _is_view(func: Any) -> bool:
    """Whether the result is the operand's memory, unchanged."""
    return any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)


def _moved(name: str, operands: list[Tensor], results: list[Tensor]) -> tuple[float, float]:
    """Bytes read and written."""
    if name in PICKING:
        return total(operands[1:]) + total(results), total(results)
    if name in TARGETS:
        return total(each for idx, each in enumerate(operands) if idx != TARGETS[name]), total(results)
    if name in PLACING | ADDING:
        source = _source(operands)
        others = total(operands[1:])
        made = 0.0 if results[0] is operands[0] else 2.0 * numbers_bytes(operands[0])  # a copy of it first
        return others + (source if name in ADDING else 0.0) + made / 2, source + made / 2
    if name in REPLACING:
        return total(operands[1:]), numbers_bytes(operands[0])
    return total(operands), total(results)


def _source(operands: list[Tensor]) -> float:
    """Bytes of the first operand that are written: as many numbers as the last operand has, or as it is spread to."""
    return operands[-1].numel() * operands[0].element_size() if len(operands) > 2 else operands[1].numel() * (
        operands[0].element_size()
    )  # fmt: skip


def total(tensors: Iterable[Tensor]) -> float:
    """Bytes of them all, each counted once."""
    return sum(numbers_bytes(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values())


def numbers_bytes(tensor: Tensor) -> float:
    """Of the numbers that a tensor has, not of those that it repeats."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride or size == 0 else 1
    return float(count * tensor.element_size())


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
