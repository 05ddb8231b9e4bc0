"""Faults of phases of other kinds: packing, generating, the lines of their hours."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

KINDS = Room(
    "kinds",
    ("tests/run/kinds", "tests/scenario/test_phase_kinds.py", "tests/report/test_parts_section.py"),
    (
        Fault(
            "simulator/run/kinds/packing.py",
            "for length in sorted(kept, reverse=True):",
            "for length in sorted(kept):",
            "the shortest instances are placed first",
        ),
        Fault(
            "simulator/run/kinds/packing.py",
            'kept = drawn if rule == "stream" else',
            "kept = drawn if cv < 0 else",
            "a stream drops what is longer than a sequence",
        ),
        Fault(
            "simulator/run/kinds/sft.py",
            "instances = phase.samples * (phase.epochs or 1.0)",
            "instances = phase.samples",
            "epochs are not counted",
        ),
        Fault(
            "simulator/run/kinds/cache.py",
            "attention.num_heads * (2 * latent + rope), None",
            "attention.num_heads * (latent + rope), None",
            "attention in the latent space has no second product",
        ),
        Fault(
            "simulator/run/kinds/decode.py",
            "halves = max(2.0 * self._kernels_s(values, rows / 2) + attention,",
            "halves = max(self._kernels_s(values, rows / 2) + attention,",
            "weights are read once for two halves of a batch",
        ),
        Fault(
            "simulator/run/kinds/decode.py",
            'room = values["rollout_memory_frac"] * self.memory_bytes - self.weight_bytes',
            'room = values["rollout_memory_frac"] * self.memory_bytes',
            "weights take no memory from the cache",
        ),
        Fault(
            "simulator/run/kinds/decode.py",
            "max(each.bytes_per_token / read, self.rows_per_sequence * each.flop_per_pair / rate)",
            "max(each.bytes_per_token / read, 0.0 * each.flop_per_pair / rate)",
            "arithmetic never bounds attention over a cache",
        ),
        Fault(
            "simulator/run/kinds/rollout.py",
            "waiting = (answers.number - batch) * answers.tokens / (batch * a_step)",
            "waiting = 0.0",
            "answers beyond the batch cost nothing",
        ),
        Fault(
            "simulator/run/kinds/rollout.py",
            "engine.step_s(values, batch * alive, context)",
            "engine.step_s(values, batch, context)",
            "the batch does not shrink as answers end",
        ),
        Fault(
            "simulator/run/kinds/rl.py",
            "return max(1, ceil(work.sequences / scenario.training.global_batch_size))",
            "return max(1, work.sequences // scenario.training.global_batch_size)",
            "what is left of an update's sequences takes no step",
        ),
        Fault(
            "simulator/run/kinds/rl.py",
            '"critic": reads + update if rl.algorithm == "ppo" else 0.0,',
            '"critic": reads if rl.algorithm == "ppo" else 0.0,',
            "a critic is not updated",
        ),
        Fault(
            "simulator/run/kinds/rl.py",
            'rollouts = updates / (values["rl_steps_per_rollout"] * epochs)',
            "rollouts = updates / epochs",
            "a rollout serves one update whatever is said",
        ),
        Fault(
            "simulator/run/kinds/evaluation.py",
            'return tokens * a_token * values["forward_share"] / SECONDS_PER_HOUR',
            "return tokens * a_token / SECONDS_PER_HOUR",
            "reading costs as much as training",
        ),
        Fault(
            "simulator/run/kinds/evaluation.py",
            "(1 if every is None else steps // every)",
            "(1 if every is None else 1)",
            "a phase is evaluated once",
        ),
        Fault(
            "simulator/run/kinds/kind_model.py",
            "held = (min(1.0, max(-1.0, place)) for place in at.tolist())",
            "held = (place for place in at.tolist())",
            "a draw leaves its range",
        ),
        Fault(
            "simulator/run/kinds/engines.py",
            "if most * engine.gpus >= 1.0:",
            "if engine.gpus >= 1.0:",
            "an engine without room for a sequence generates",
        ),
    ),
)
