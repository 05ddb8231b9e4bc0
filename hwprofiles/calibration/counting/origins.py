"""Which tensors are made of parameters alone: a weight, its transpose, its cast, its FP8 values and their scales.

A product with such an operand is one of a layer's forward, or gives its input's gradient; one without multiplies activations
(attention), or gives a weight's gradient. Followed by storage from operator to operator, so that formats do not hide it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

Origin = Literal["weight", "constant", "data"]
"""weight: made of parameters, perhaps with constants; constant: of no tensor at all; data: of anything else."""


class Origins:
    """Origin of every storage seen. A weak reference to each keeps its identity from being given to another."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._of: dict[int, tuple[Origin, StorageWeakRef]] = {}
        for parameter in parameters:
            self._set(parameter, "weight")

    def of(self, tensor: Tensor) -> Origin:
        """Where the tensor's numbers come from."""
        known = self._of.get(tensor.untyped_storage()._cdata)
        return known[0] if known else "data"

    def follow(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """Notes what an operator has made."""
        origins = {self.of(tensor) for tensor in inputs}
        origin: Origin = "data" if "data" in origins else "weight" if "weight" in origins else "constant"
        for tensor in outputs:
            self._set(tensor, origin)

    def _set(self, tensor: Tensor, origin: Origin) -> None:
        storage = tensor.untyped_storage()
        if origin == "data":
            self._of.pop(storage._cdata, None)
        else:
            self._of[storage._cdata] = (origin, StorageWeakRef(storage))


def tensors_in(values: object) -> list[Tensor]:
    """The tensors of an operator's arguments or results, lists opened."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        return [each for value in values.values() for each in tensors_in(value)]
    if isinstance(values, (list, tuple)):
        return [each for value in values for each in tensors_in(value)]
    return []
