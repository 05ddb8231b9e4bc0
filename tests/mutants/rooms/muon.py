"""Faults of the Muon optimizer: FLOP, who updates which matrices, bytes and state."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

MUON = Room(
    "muon",
    ("tests/laws/test_muon.py",),
    (
        Fault(
            "simulator/workload/muon.py",
            'sizes = (("gram", m, m, n), ("gram_square", m, m, m), ("apply", m, n, m))',
            'sizes = (("gram", n, n, m), ("gram_square", n, n, n), ("apply", n, m, n))',
            "iterations run over the longer side",
        ),
        Fault(
            "simulator/workload/muon.py",
            'if unit.kind == "head":',
            "if False:",
            "the head is orthogonalised",
        ),
        Fault(
            "simulator/workload/muon.py",
            "touched[each] = float((last - 1) // each.size - first // each.size + 1)",
            "touched[each] = (last - first) / each.size",
            "a matrix that is cut is updated in parts",
        ),
        Fault(
            "simulator/workload/muon.py",
            "held[turn if turn < ranks else 2 * ranks - 1 - turn][matrix] += 1",
            "held[turn % ranks][matrix] += 1",
            "the first rank always has the larger ones",
        ),
        Fault(
            "simulator/step/data_parallel.py",
            "is_whole = not self.scenario.parallel.zero_stage or deals_whole_matrices(self.scenario)",
            "is_whole = not self.scenario.parallel.zero_stage",
            "a rank updates whole matrices with a shard of their gradient",
        ),
        Fault(
            "simulator/step/muon.py",
            "got = max(0.0, sum(each.size * count for each, count in held.items()) - shard)",
            "got = 0.0",
            "momentum is gathered for free",
        ),
        Fault(
            "simulator/step/tail.py",
            "dense, expert = stage.dense_params - matrices[0], stage.expert_params - matrices[1]",
            "dense, expert = stage.dense_params, stage.expert_params",
            "AdamW updates matrices too",
        ),
        Fault(
            "simulator/workload/model_state.py",
            '("moments", r.moment_dtype, 2 * number - single))',
            '("moments", r.moment_dtype, 2 * number))',
            "matrices have two moments",
        ),
        Fault(
            "simulator/step/muon.py",
            "ranks = group.ranks if scenario.parallel.zero_stage else 1",
            "ranks = group.ranks",
            "momentum is gathered where every rank has all of it",
        ),
        Fault(
            "simulator/step/muon.py",
            "yield scaled(one, count)",
            "yield one",
            "one matrix of a shape is gathered for all",
        ),
        Fault(
            "simulator/step/muon.py",
            '"etp" if matrix.is_expert else "tp"',
            '"tp"',
            "experts' matrices are gathered over tp",
        ),
        Fault(
            "simulator/workload/muon.py",
            "owned * (gradient_bytes + MOMENTUM_BYTES),",
            "owned * gradient_bytes,",
            "momentum is not read",
        ),
    ),
)
