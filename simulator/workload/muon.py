"""Muon (kellerjordan.github.io/posts/muon; at scale: arXiv:2502.16982): which matrices, and what an update of them takes.

Every weight of a GEMM in a layer is a matrix of its own, as the framework holds it (queries, keys and values in one, gate and
up projection in one; each routed expert its own); embeddings, heads, norms and biases keep AdamW. An update orthogonalises the
momentum X, m x n with m <= n, by Newton-Schulz iterations in BF16: A = X X^T, B = b A + c A A, X = a X + B X: 2 m^2 n + 2 m^3 +
2 m^2 n FLOP an iteration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil

from simulator.workload.counting import fprop, moved
from simulator.workload.op import Op, StageWorkload

MOMENTUM_BYTES = 4
"""Of a parameter's momentum, FP32."""
MASTER_BYTES, WEIGHT_BYTES, UPDATE_BYTES = 4, 2, 2
"""Of a parameter's FP32 master and BF16 weight, and of its update, which the iterations make in BF16."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Weights of one shape on a rank. rows, columns: as held; whole_rows, whole_columns: of what tp or etp ranks share."""

    rows: int
    columns: int
    whole_rows: int
    whole_columns: int
    is_expert: bool

    @property
    def size(self) -> int:
        """Parameters on the rank."""
        return self.rows * self.columns

    @property
    def is_cut(self) -> bool:
        """Whether ranks share it."""
        return (self.rows, self.columns) != (self.whole_rows, self.whole_columns)

    def whole(self) -> Matrix:
        """The matrix as if one rank held it."""
        return replace(self, rows=self.whole_rows, columns=self.whole_columns)


Matrices = Counter[Matrix]
"""How many there are of each."""


def matrices_of(stage: StageWorkload, uncut: StageWorkload) -> Matrices:
    """The matrices of a stage on one rank, by their weight gradients. uncut: the same stage with tp and etp of 1."""
    found: Matrices = Counter()
    for unit, other in zip(stage.units, uncut.units, strict=True):
        if unit.kind == "head":
            continue
        shapes = {op.name: op.shape for op in _weight_gradients(other.ops())}
        for op in _weight_gradients(unit.ops()):
            held, all_of = op.shape, shapes[op.name]
            is_expert = held.op == "grouped_gemm"
            found[Matrix(held.m, held.n, all_of.m, all_of.n, is_expert)] += held.groups
    return found


def _weight_gradients(ops: Iterable[Op]) -> Iterator[Op]:
    return (op for op in ops if op.shape.variant == "wgrad")


def parameters(matrices: Matrices, *, is_expert: bool) -> int:
    """Parameters of all routed experts' matrices, or of all others."""
    return sum(each.size * count for each, count in matrices.items() if each.is_expert == is_expert)


def iterations(matrix: Matrix, steps: int) -> list[tuple[Op, int]]:
    """The GEMMs of one update of a matrix as it is held, and how often each runs."""
    m, n = sorted((matrix.rows, matrix.columns))
    sizes = (("gram", m, m, n), ("gram_square", m, m, m), ("apply", m, n, m))
    return [
        (fprop(f"muon_{name}", "bf16", rows, cols, inner, recompute=True), steps) for name, rows, cols, inner in sizes
    ]


def passes(owned: int, computed: int, gradient_bytes: int) -> list[Op]:
    """What is read and written besides: the momentum of the owned parameters, with a BF16 copy; its scale to norm 1 in what the
    iterations compute; master and weight.
    """
    return [
        moved(
            "muon_momentum", "adamw", "W", owned * (gradient_bytes + MOMENTUM_BYTES),
            owned * (MOMENTUM_BYTES + UPDATE_BYTES),
        ),
        moved("muon_scale", "adamw", "W", 2 * computed * UPDATE_BYTES, computed * UPDATE_BYTES),
        moved(
            "muon_update", "adamw", "W", owned * (MASTER_BYTES + UPDATE_BYTES), owned * (MASTER_BYTES + WEIGHT_BYTES)
        ),
    ]  # fmt: skip


def flop(matrix: Matrix) -> float:
    """Of one iteration."""
    m, n = sorted((matrix.rows, matrix.columns))
    return 4.0 * m * m * n + 2.0 * m**3


def evenly_cut(matrices: Matrices, ranks: int) -> dict[Matrix, float]:
    """How many of each kind the rank with most FLOP works on whole where all are laid end to end, the largest first, and cut in
    equal shards: a matrix that is cut is worked on by each rank that has a part of it.
    """
    laid = sorted_by_size(matrices)
    shard = ceil(sum(each.size * count for each, count in laid) / ranks)
    found: list[dict[Matrix, float]] = []
    for rank in range(ranks):
        low, high, start = rank * shard, (rank + 1) * shard, 0
        touched: dict[Matrix, float] = {}
        for each, count in laid:
            first, last = max(low, start) - start, min(high, start + each.size * count) - start
            if first < last:
                touched[each] = float((last - 1) // each.size - first // each.size + 1)
            start += each.size * count
        found.append(touched)
    return max(found, key=lambda touched: sum(flop(each) * count for each, count in touched.items()))


def dealt(matrices: Matrices, ranks: int) -> dict[Matrix, float]:
    """How many of each kind the rank with most parameters has where whole matrices are dealt, the largest first, to the ranks
    there and back (NVIDIA/Megatron-LM megatron/core/optimizer/layer_wise_optimizer.py).
    """
    held: list[Counter[Matrix]] = [Counter() for _ in range(ranks)]
    place = 0
    for matrix, count in sorted_by_size(matrices):
        whole, rest = divmod(count, 2 * ranks)
        for counts in held:
            counts[matrix] += 2 * whole
        for _ in range(rest):
            turn = place % (2 * ranks)
            held[turn if turn < ranks else 2 * ranks - 1 - turn][matrix] += 1
            place += 1
    most = max(held, key=lambda counts: sum(each.size * count for each, count in counts.items()))
    return {matrix: float(count) for matrix, count in most.items() if count}


def sorted_by_size(matrices: Matrices) -> list[tuple[Matrix, int]]:
    """Largest first; equals in the order of their sides."""
    return sorted(matrices.items(), key=lambda item: (-item[0].size, item[0].rows, item[0].columns))


def ranks_of_a_matrix(size: int, shard: int, ranks: int) -> int:
    """Neighbours that share a matrix of equal shards: as many as it spans, and one."""
    return min(ranks, 1 + ceil(size / max(1, shard)))
