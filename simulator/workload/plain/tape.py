"""A tape of torch functions: what each launches, what its derivative launches, and what autograd keeps for that.

As torch.autograd does it: a function that needs a tensor for its derivative keeps its storage (views share one); gradients of a
value that several functions read are added pair by pair as they arrive, the first in memory taking the others. A kernel whose
operands do not lie in memory in the order in which it walks (transposed, sliced, broadcast ones) computes an address for each
element: such kernels are of other classes than the contiguous ones (pytorch aten/src/ATen/native/cuda/CUDALoops.cuh).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

SIZES: Final = {"bf16": 2, "fp32": 4, "int64": 8, "bool": 1}
"""Bytes of an element."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor, or a view of one. number: its own; storage: of the memory that it shows, which has stored elements.

    elements, width: all, and those of its last dimension. is_strided: does not lie in memory in the order of its dimensions,
    or not next to each other. has_grad: a gradient of it is wanted. is_weight: is there anyway, as a parameter.
    """

    number: int
    storage: int
    elements: int
    width: int
    dtype: str = "bf16"
    stored: int = 0
    is_strided: bool = False
    is_sliced: bool = False
    has_grad: bool = True
    is_weight: bool = False

    @property
    def num_bytes(self) -> int:
        """Of its elements."""
        return self.elements * SIZES[self.dtype]

    @property
    def rows(self) -> int:
        """Elements over width."""
        return self.elements // self.width


@dataclass(frozen=True, slots=True)
class Launch:
    """A function's kernels. kernel: a class of hwprofiles.kernels.shape; elements: that it computes; read, written: bytes.
    library: of several kernels of the class. sizes: m, n, k of a product. width: of a row, where a kernel works by rows.
    """

    kernel: str
    elements: int
    read: int
    written: int
    kernels: int = 1
    library: str = ""
    sizes: tuple[int, int, int] | None = None
    width: int = 0


Arrived = tuple[Value, bool]
"""A value whose gradient arrives, and whether that is strided."""
Derivative = Callable[[bool], Iterable[Arrived]]
"""Of a function: emits its launches and gives its inputs' gradients. The argument: whether the output's gradient is strided."""


@dataclass(frozen=True, slots=True)
class _Node:
    segment: str
    output: Value
    derivative: Derivative
    kept: tuple[int, ...]


@dataclass(slots=True)
class Kept:
    """A storage that autograd keeps."""

    name: str
    num_bytes: int


@dataclass
class Tape:
    """Functions in order. `segment` names what they belong to: launches are summed by it."""

    segment: str = ""
    forward: dict[str, list[Launch]] = field(default_factory=dict)
    backward: dict[str, list[Launch]] = field(default_factory=dict)
    kept: dict[int, Kept] = field(default_factory=dict)
    working_forward: int = 0
    working_backward: int = 0
    _nodes: list[_Node] = field(default_factory=list)
    _numbers: int = 0
    _is_back: bool = False
    _held: list[int] = field(default_factory=list)
    _needed: int = 0

    def value(
        self, elements: int, width: int, dtype: str = "bf16", *, is_strided: bool = False, has_grad: bool = True,
        is_weight: bool = False,
    ) -> Value:  # fmt: skip
        """A tensor of its own."""
        self._numbers += 1
        number = self._numbers
        return Value(number, number, elements, width, dtype, elements, is_strided, False, has_grad, is_weight)

    def view(self, x: Value, *, elements: int | None = None, width: int | None = None, is_strided: bool,
             is_sliced: bool = False) -> Value:  # fmt: skip
        """The same memory, seen otherwise."""
        self._numbers += 1
        return replace(
            x, number=self._numbers, elements=x.elements if elements is None else elements,
            width=x.width if width is None else width, is_strided=is_strided, is_sliced=is_sliced,
        )  # fmt: skip

    def launch(
        self, kernel: str, elements: int, read: int, written: int, kernels: int = 1, library: str = "", width: int = 0
    ) -> None:
        """A function's kernels, in the pass that is walked."""
        into = self.backward if self._is_back else self.forward
        into.setdefault(self.segment, []).append(Launch(kernel, elements, read, written, kernels, library, width=width))

    def multiply(self, m: int, n: int, k: int) -> None:
        """A product of matrices, of all heads together, that no other part of the counting has."""
        into = self.backward if self._is_back else self.forward
        sizes = 2 * (m * k + n * k), 2 * m * n
        into.setdefault(self.segment, []).append(Launch("gemm", m * n, *sizes, sizes=(m, n, k)))

    def needs(self, num_bytes: int) -> None:
        """Temporaries of a derivative that are there beside the gradients that it takes and gives."""
        self._needed = max(self._needed, num_bytes)

    def keep(self, x: Value, name: str) -> None:
        """Autograd keeps the value's storage for the function that is put next; parameters are there anyway."""
        if x.is_weight:
            return
        self._held.append(x.storage)
        if x.storage not in self.kept:
            self.kept[x.storage] = Kept(f"{self.segment}.{name}", x.stored * SIZES[x.dtype])

    def put(self, output: Value, derivative: Derivative, *, temporary: int = 0) -> Value:
        """A function behind its launches. temporary: bytes of its inputs that are there for it alone. Gives `output`."""
        held, self._held = tuple(self._held), []
        self._nodes.append(_Node(self.segment, output, derivative, held))
        self.working_forward = max(self.working_forward, temporary + output.stored * SIZES[output.dtype])
        return output

    def walk_back(self, output: Value, *, is_strided: bool = False) -> None:
        """The backward from one output's gradient: launches by segment, and the most that is there beside what is kept."""
        self._is_back = True
        grads: dict[int, Arrived] = {output.number: (output, is_strided)}
        users = _users(self._nodes)
        freed = 0
        for node in reversed(self._nodes):
            if node.output.number not in grads:
                continue
            self.segment = node.segment
            value, strided = grads.pop(node.output.number)
            before = sum(each.num_bytes for each, _ in grads.values())
            self._needed = 0
            arrived = list(node.derivative(strided))
            made = max(self._needed, sum(each.num_bytes for each, _ in arrived))
            self.working_backward = max(self.working_backward, before + value.num_bytes + made - freed)
            for each, is_so in arrived:
                self._arrive(grads, each, is_so)
            for storage in node.kept:
                users[storage] -= 1
                freed += self.kept[storage].num_bytes if not users[storage] else 0
        self._is_back = False

    def _arrive(self, grads: dict[int, Arrived], x: Value, strided: bool) -> None:
        """A gradient more of a value: the first one stays where it is, others are added to it."""
        if not x.has_grad:
            return
        if x.number not in grads:
            grads[x.number] = (x, strided)
            return
        kernel = "elementwise_strided" if grads[x.number][1] or strided else "elementwise"
        self.launch(kernel, x.elements, 2 * x.num_bytes, x.num_bytes)


def _users(nodes: Iterable[_Node]) -> dict[int, int]:
    """Storage → functions that keep it."""
    users: dict[int, int] = {}
    for node in nodes:
        for storage in node.kept:
            users[storage] = users.get(storage, 0) + 1
    return users
