"""Laws of the Muon optimizer: which matrices, FLOP and bytes in closed form, who works on what, its state, what it refuses."""

from __future__ import annotations

from collections import Counter
from math import fsum

import pytest

from hwprofiles.kernels.anchoring import KernelCost
from simulator import load_scenario, simulate_step
from simulator.assembly.chunks import Segment
from simulator.errors import InputError
from simulator.step.muon import stage_matrices
from simulator.workload.muon import Matrix, dealt, evenly_cut, flop, iterations, passes
from simulator.workload.op import Op
from tests.laws.runs import changed
from tests.laws.scenarios import Document
from tests.laws.test_data_parallel import DENSE, MOE, seconds, sent_bytes, step_of
from tests.laws.test_memory_laws import memories

MUON = {"training": {"optimizer": "muon"}}
WHOLE = {"training": {"optimizer": "muon", "muon": {"shards": "whole"}}}
SHARED: Document = changed(DENSE, **MUON)
EXPERTS: Document = changed(MOE, **MUON)


def optimizer(document: Document, **sections: object) -> Segment:
    graph = step_of(document, **sections)[1]
    return next(row for label, row in zip(graph.labels, graph.classes, strict=True) if label == "rank_0.optimizer")


def work(segment: Segment, name: str) -> float:
    """FLOP of the pieces whose operator's name begins so."""
    return fsum(
        each.what.flop for each in segment.pieces if isinstance(each.what, Op) and each.what.name.startswith(name)
    )


def matrices(document: Document) -> Counter[Matrix]:
    prepared = step_of(document)[0]
    (stage,) = prepared.workload.stages
    return stage_matrices(prepared.scenario, stage)


def test_matrices_are_the_layers_products() -> None:
    """Six layers of 1024: queries, keys and values in one, output, gate and up in one, down; no embedding, head or norm."""
    found = Counter({(each.rows, each.columns): count for each, count in matrices(SHARED).items()})
    assert found == {(2048, 1024): 6, (1024, 1024): 6, (8192, 1024): 6, (1024, 4096): 6}
    experts = {(each.rows, each.columns): count for each, count in matrices(EXPERTS).items() if each.is_expert}
    assert experts == {(1024, 1024): 2 * 5, (1024, 512): 2 * 5}


@pytest.mark.parametrize(("rows", "columns"), [(7168, 2048), (2048, 7168), (1024, 1024)])
def test_flop_of_an_update(rows: int, columns: int) -> None:
    """Five times 4 m^2 n + 2 m^3, whichever side is longer."""
    m, n = min(rows, columns), max(rows, columns)
    matrix = Matrix(rows, columns, rows, columns, False)
    assert fsum(op.flop * times for op, times in iterations(matrix, 5)) == 5 * (4 * m * m * n + 2 * m**3)
    assert flop(matrix) * 5 == 5 * (4 * m * m * n + 2 * m**3)
    assert all(op.model_flop == 0 for op, _ in iterations(matrix, 5))


def test_whole_on_each_rank_where_nothing_is_shared() -> None:
    """ZeRO 0: every rank updates all matrices; the steps are a factor, the switch takes them away."""
    whole = fsum(flop(each) * count for each, count in matrices(SHARED).items())
    plan: Document = {"parallel": {"zero_stage": 0}}
    assert work(optimizer(SHARED, **plan), "muon_") == pytest.approx(5 * whole, rel=1e-9)
    three = changed(SHARED, training={"muon": {"steps": 3}})
    assert work(optimizer(three, **plan), "muon_") == pytest.approx(3 * whole, rel=1e-9)
    assert work(optimizer(SHARED, **plan, mechanisms={"orthogonalisation": False}), "muon_") == 0


def test_nothing_is_gathered_where_nothing_is_shared() -> None:
    for zero_stage in (0, 1):
        names = [each.name for each in optimizer(SHARED, parallel={"zero_stage": zero_stage}).messages]
        assert names.count("all_gather_momentum") == zero_stage


@pytest.mark.parametrize(("parallel", "ranks"), [({"tp": 2, "sequence_parallel": True}, 2), ({"ep": 2, "etp": 4}, 4)])
def test_each_cut_matrix_is_gathered_over_the_ranks_that_share_it(parallel: Document, ranks: int) -> None:
    """Once an update, in BF16: experts' over etp, all others over tp."""
    document = changed(SHARED if "tp" in parallel else EXPERTS, parallel={**parallel, "zero_stage": 0})
    prepared = step_of(document)[0]
    (stage,) = prepared.workload.stages
    cut = {each: count for each, count in stage_matrices(prepared.scenario, stage).items() if each.is_cut}
    found = optimizer(document)
    gathers = [each for each in found.messages if each.name == "tp_all_gather_momentum"]
    sizes = [(each.cost.counted.ranks, each.cost.counted.num_bytes) for each in gathers if each.cost.counted]
    assert sorted(sizes) == sorted((ranks, 2 * each.whole().size) for each in cut)
    by_size = {each.cost.counted.num_bytes: each.cost.seconds for each in gathers if each.cost.counted}
    whole = fsum(by_size[2 * each.whole().size] * count for each, count in cut.items())
    assert found.by_category["tp_collectives"] == pytest.approx(whole)
    assert any(each.is_expert for each in cut) == ("etp" in parallel)


def test_ends_of_the_range_are_of_all_updates() -> None:
    found = optimizer(SHARED)
    pieces = [each for each in found.pieces if isinstance(each.cost, KernelCost)]
    low, value, high = (fsum(getattr(each.cost, end) for each in pieces) for end in ("low", "seconds", "high"))
    assert 0.5 * value < low < value < high < 2.0 * value
    assert low <= found.low and high <= found.high


def test_bytes_besides_the_products() -> None:
    """Of 10 owned and 30 computed parameters: gradient and momentum 4 each, copy and update 2, master 4, weight 2."""
    momentum, scale, update = passes(10, 30, 4)
    assert (momentum.bytes_read, momentum.bytes_written) == (10 * 8, 10 * 6)
    assert (scale.bytes_read, scale.bytes_written) == (30 * 4, 30 * 2)
    assert (update.bytes_read, update.bytes_written) == (10 * 6, 10 * 6)


def test_shared_matrices_are_split_or_dealt() -> None:
    """Of eight ranks the busiest does an eighth or more, and no more than an eighth and the matrices that are cut."""
    found = matrices(SHARED)
    whole = fsum(flop(each) * count for each, count in found.items())
    largest = max(flop(each) for each in found)
    for document in (SHARED, changed(DENSE, **WHOLE)):
        done = work(optimizer(document), "muon_") / 5
        assert whole / 8 <= done <= whole / 8 + 2 * largest


def test_dealing_and_cutting_by_hand() -> None:
    """Four matrices of 6, three of 4, over two and three ranks."""
    a, b = Matrix(2, 3, 2, 3, False), Matrix(2, 2, 2, 2, False)
    several = Counter({a: 4, b: 3})
    assert dealt(several, 2) == {a: 2.0, b: 2.0}
    assert dealt(several, 1) == {a: 4.0, b: 3.0}
    # 64 and 48 FLOP. 36 parameters in shards of 12: two a, two a, three b; of 18: three a, then the last a and three b.
    assert evenly_cut(several, 3) == {b: 3.0}
    assert evenly_cut(several, 2) == {a: 1.0, b: 3.0}
    sides = [Matrix(size, 1, size, 1, False) for size in (8, 6, 5, 1)]
    assert dealt(Counter(sides), 2) == {sides[1]: 1.0, sides[2]: 1.0}
    # In five shards of 8: each of the first three has parts of two a's.
    assert evenly_cut(several, 5) == {a: 2.0}


def test_bytes_on_the_wire() -> None:
    """As ZeRO 1 and the momentum of neighbours; whole: gradients all-reduced, weights gathered, nothing else."""
    plain = {name: sent_bytes(DENSE, name) for name in ("all_gather_dense", "reduce_scatter", "all_reduce")}
    assert {name: sent_bytes(SHARED, name) for name in plain} == plain
    extra = sent_bytes(SHARED, "all_gather_momentum")
    matrix_bytes = 2 * fsum(each.size * count for each, count in matrices(SHARED).items())
    assert 0 < extra < matrix_bytes * 7 / 8, "less than all of it (arXiv:2502.16982: at most 1.25 of AdamW's bytes)"
    whole = changed(DENSE, **WHOLE)
    assert sent_bytes(whole, "all_reduce") == pytest.approx(2 * plain["reduce_scatter"], rel=1e-9)
    assert sent_bytes(whole, "reduce_scatter") == 0 == sent_bytes(whole, "all_gather_momentum")
    assert sent_bytes(whole, "all_gather_dense") == plain["all_gather_dense"]


def test_one_momentum_a_matrix() -> None:
    """4 bytes less than AdamW for each parameter of a matrix; the fullest rank of dealt ones has at least its share."""
    for document in (DENSE, changed(MOE, parallel={"ep": 1})):
        size = sum(each.size * count for each, count in matrices(changed(document, **MUON)).items())
        before, after = (memories(changed(document, **each))[0] for each in ({}, MUON))
        assert before.optimizer_bytes - after.optimizer_bytes == pytest.approx(4 * size / 8, rel=1e-6)
        fullest = memories(changed(document, **WHOLE))[0].optimizer_bytes
        largest = max(each.size for each in matrices(changed(document, **MUON)))
        assert after.optimizer_bytes <= fullest <= after.optimizer_bytes + 8 * 2 * largest


def test_all_else_is_updated_by_adamw() -> None:
    """30 bytes a parameter of embedding, head and norms, an eighth of each."""
    (stage,) = step_of(SHARED)[0].workload.stages
    size = sum(each.size * count for each, count in matrices(SHARED).items())
    pieces = [each.what for each in optimizer(SHARED).pieces if isinstance(each.what, Op) and each.what.name == "adamw"]
    assert sum(op.bytes_read + op.bytes_written for op in pieces) == 30 * -(-(stage.dense_params - size) // 8)


def test_ranks_that_share_a_product() -> None:
    """tp 2: each gathers matrices and does all of them, or half matrices with fewer FLOP and no gather."""
    cut = changed(SHARED, parallel={"tp": 2, "zero_stage": 0})
    assert work(optimizer(cut), "muon_") == pytest.approx(
        work(optimizer(SHARED, parallel={"zero_stage": 0}), "muon_"), rel=1e-9
    )
    gathered = 2 * fsum(
        each.whole_rows * each.whole_columns for each, count in matrices(cut).items() for _ in range(count)
    )
    assert optimizer(cut).by_category["tp_collectives"] > 0
    named = [row for row in optimizer(cut).messages if row.name == "tp_all_gather_momentum"]
    assert {row.cost.counted.num_bytes for row in named} == {
        2 * each.whole_rows * each.whole_columns for each in matrices(cut) if each.is_cut
    }  # fmt: skip
    assert gathered > 0
    blocks = optimizer(cut, training={"muon": {"tensor_parallel": "blockwise"}})
    assert work(blocks, "muon_") < 0.8 * work(optimizer(cut), "muon_")
    assert "tp_collectives" not in blocks.by_category


def test_a_step_is_longer_by_the_updates() -> None:
    """By the iterations, at the speed of GEMMs; nothing else of the step changes."""
    plain = changed(DENSE, parallel={"overlap": {"dp": False}})
    added = optimizer(changed(plain, **MUON)).seconds - optimizer(plain).seconds
    assert seconds(changed(plain, **MUON)) - seconds(plain) == pytest.approx(added, rel=1e-6)
    assert added > 0
    result = simulate_step(load_scenario(SHARED))
    assert result.step.optimizer_s > simulate_step(load_scenario(DENSE)).step.optimizer_s


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ({"parallel": {"zero_stage": 3}}, r"training\.optimizer: muon with zero_stage 3: .* use zero_stage: 1 or 2, or opt"),
        ({"parallel": {"zero_stage": 3}, **WHOLE}, r"training\.optimizer: muon with .* use zero_stage: 1, or opt"),
        ({"parallel": {"zero_stage": 2}, **WHOLE}, r"training\.muon\.shards: whole with zero_stage 2"),
        ({"data_parallel": {"hsdp_group": 4}, **WHOLE}, r"shards: whole is not modelled with shard groups of 4"),
        ({"offload": {"optimizer": 0.5}}, r"offload\.optimizer: 0\.5 with training\.optimizer: muon"),
    ],
)  # fmt: skip
def test_what_cannot_be(sections: Document, match: str) -> None:
    with pytest.raises(InputError, match=match):
        load_scenario(changed(SHARED, **sections))


def test_keys_without_meaning_are_named() -> None:
    unused = load_scenario(changed(DENSE, training={"muon": {"steps": 3}})).warnings
    assert any("training.muon" in text and "has no meaning" in text for text in unused)
    both = {"muon": {"shards": "whole", "tensor_parallel": "blockwise"}}
    alone = load_scenario(changed(SHARED, parallel={"zero_stage": 0}, training=both))
    assert sum("training.muon." in text and "has no meaning" in text for text in alone.warnings) == 2
