"""Faults of the orders of actions, their check and their closed forms."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "simulator/schedule"
DUALPIPE = f"{ROOT}/schedules/dualpipe.py"
PAIRED = f"{ROOT}/paired_order.py"

SCHEDULE = Room(
    "schedule",
    ("tests/schedule",),
    (
        Fault(
            f"{ROOT}/schedules/one_f_one_b_ep_overlap.py",
            "warmup = min(2 * (num_ranks - 1 - rank) + 1,",
            "warmup = min(num_ranks - rank,",
            "neighbours take turns: one micro-batch more than in 1F1B on every rank",
        ),
        Fault(
            f"{ROOT}/schedules/interleaved_1f1b_ep_overlap.py",
            "warm_up(rank, num_ranks, num_chunks) + 1,",
            "warm_up(rank, num_ranks, num_chunks),",
            "the halves of a pair depend on one another",
        ),
        Fault(
            PAIRED,
            "if index == 0 and to_middle == 0:",
            "if index < 0:",
            "the middle ranks overlap their first pair, which the other one waits for",
        ),
        Fault(
            PAIRED,
            "zero_bubble=2 * index >= num_backwards",
            "zero_bubble=2 * index < num_backwards",
            "the first half of the cool-down defers its weight parts, not the second",
        ),
        Fault(
            PAIRED,
            "            yield self.forward(NEAR)\n            yield self.forward(FAR)\n",
            "            yield self.forward(FAR)\n            yield self.forward(NEAR)\n",
            "phase 2 begins with the direction that arrives later",
        ),
        Fault(
            PAIRED,
            'return Action("W", *self._waiting_weights.popleft())',
            'return Action("W", *self._waiting_weights.pop())',
            "the newest deferred weight part comes first",
        ),
        Fault(
            DUALPIPE,
            "num_micro_batches >= 2 * num_ranks",
            "num_micro_batches >= num_ranks",
            "DualPipe runs half its least number of micro-batches",
        ),
        Fault(
            f"{ROOT}/schedules/one_f_one_b.py",
            "warmup = min(num_ranks - 1 - rank, num_micro_batches)",
            "warmup = min(num_ranks - rank, num_micro_batches)",
            "one forward more before the steady pairs",
        ),
        Fault(
            f"{ROOT}/schedules/zb_h1.py",
            "if micro_batch >= rank:",
            "if micro_batch >= rank - 1:",
            "a rank puts off a weight gradient less than 1F1B's memory allows",
        ),
        Fault(
            f"{ROOT}/schedules/zb_v.py",
            "for _ in range(2 * self.to_turn - 1):",
            "for _ in range(2 * self.to_turn):",
            "the V fills with a forward more than 1F1B's memory allows",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "(rank, 2 * num_ranks - 1 - rank)",
            "(rank, num_ranks + rank)",
            "the pipeline goes round and does not fold back",
        ),
        Fault(
            f"{ROOT}/measure.py",
            'held -= kinds.count("B") + kinds.count("W")',
            'held -= kinds.count("B") + kinds.count("I")',
            "activations go with the input gradient, though the weight gradient needs them",
        ),
        Fault(
            f"{ROOT}/schedules/gpipe.py",
            "for micro_batch in reversed(range(num_micro_batches)))",
            "for micro_batch in range(num_micro_batches))",
            "GPipe's backwards begin with the first micro-batch",
        ),
        Fault(
            f"{ROOT}/schedules/interleaved_1f1b.py",
            "2 * (num_ranks - 1 - rank) + (num_chunks - 1) * num_ranks",
            "(num_ranks - 1 - rank) + (num_chunks - 1) * num_ranks",
            "one forward a hop, not two, before the first backward",
        ),
        Fault(
            f"{ROOT}/schedules/interleaved_1f1b.py",
            "(num_chunks - 1 - chunk) * num_ranks + rank",
            "chunk * num_ranks + rank",
            "backwards begin with the first chunk",
        ),
        Fault(
            f"{ROOT}/schedules/interleaved_1f1b.py",
            "num_micro_batches >= num_ranks and num_micro_batches % num_ranks == 0",
            "num_micro_batches >= num_ranks",
            "groups of micro-batches need not be whole",
        ),
        Fault(
            f"{ROOT}/family.py",
            "if vpp >= fewest:",
            "if vpp >= 1:",
            "interleaving runs with one chunk a rank",
        ),
        Fault(
            f"{ROOT}/bubble.py",
            "chunk.pair_s + chunk.backward_s - 3 * chunk.weight_s",
            "chunk.pair_s + chunk.backward_s - 2 * chunk.weight_s",
            "DualPipe's published bubble with two weight parts",
        ),
        Fault(
            f"{ROOT}/bubble.py",
            "_dualpipe, 2, lambda p, _: p + 1)",
            "_dualpipe, 2, lambda p, _: p)",
            "DualPipe holds P micro-batches, not P + 1",
        ),
        Fault(
            f"{ROOT}/check.py",
            '{"B": "F", "I": "F", "W": "I"}.get(kind)',
            '{"B": "F", "I": "F"}.get(kind)',
            "a weight part may precede its input part",
        ),
        Fault(
            f"{ROOT}/check.py",
            "backward not in ((1, 0, 0), (0, 1, 1))",
            "backward not in ((1, 0, 0), (0, 1, 1), (0, 1, 0))",
            "a weight part may be missing",
        ),
        Fault(
            f"{ROOT}/check.py",
            'needs.append(("gradient", stage + 1, micro_batch))',
            'needs.append(("output", stage + 1, micro_batch))',
            "a backward waits for the next stage's output, not for its gradient",
        ),
        Fault(
            f"{ROOT}/family.py",
            "for m in range(num_micro_batches - 1, 0, -1) if is_valid(m)",
            "for m in range(1, num_micro_batches) if is_valid(m)",
            "the valid count below is the least, not the nearest",
        ),
        Fault(
            "simulator/schedule/bubble.py",
            "_full_pipeline, 1, lambda p, m: min(p, m)",
            "_full_pipeline, 1, lambda p, m: p",
            "1F1B holds more micro-batches than there are",
        ),
        Fault(
            "simulator/schedule/check.py",
            '"W": 1, "FB": 3}',
            '"W": 1, "FB": 2}',
            "a pair takes two slots",
        ),
        Fault(
            "simulator/schedule/check.py",
            " or stage not in schedule.placement[rank]:",
            ":",
            "a rank may execute a stage that it does not hold",
        ),
        Fault(
            "simulator/schedule/check.py",
            "not in ((1, 0, 0), (0, 1, 1)):",
            "not in ((1, 0, 0), (0, 1, 1), (1, 0, 1)):",
            "weights may be computed twice",
        ),
    ),
)
