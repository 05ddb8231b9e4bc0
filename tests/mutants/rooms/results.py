"""Faults of explanations, rates, ranges and the interval."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

RESULTS = Room(
    "results",
    ("tests/results",),
    (
        Fault(
            "simulator/results/widening.py",
            "key=lambda part: (-part.size, part.what)",
            "key=lambda part: (part.size, part.what)",
            "the least ranges are told first",
        ),
        Fault(
            "simulator/results/widening.py",
            "changes.interval(step.step_s)",
            "changes.interval(step.interval.low)",
            "the interval of the draws is of the low end of the measurements",
        ),
        Fault(
            "simulator/results/joint.py",
            "-held * self.at_low, held * self.at_high",
            "-held * self.at_high, held * self.at_low",
            "a source below its value does what it does above",
        ),
        Fault(
            "simulator/results/joint.py",
            'f"{seed}:{key}"',
            'f"{seed}"',
            "all sources are drawn as one",
        ),
        Fault(
            "simulator/results/joint.py",
            'return _strata()[np.argsort(bits.random_raw(NUM_DRAWS), kind="stable")]',
            "return _strata()",
            "a source's strata are drawn in ascending order",
        ),
        Fault(
            "simulator/results/joint.py",
            "low, high = 1.0 + low + found[0] - of_sum[0], 1.0 + high + found[1] - of_sum[1]",
            "low, high = 1.0 + low, 1.0 + high",
            "the ends are those of the sum, whatever the draws say",
        ),
        Fault(
            "simulator/results/joint.py",
            "math.fsum(share * getattr(each, end) for share, each in of)",
            "math.hypot(*(share * getattr(each, end) for share, each in of))",
            "one source of two phases is two",
        ),
        Fault(
            "simulator/results/joint.py",
            "np.minimum(np.maximum(positions, -below), above)",
            "np.minimum(positions, above)",
            "a source lies beyond what is possible",
        ),
        Fault(
            "simulator/results/explain.py",
            "own is None else np.maximum(0.0, graph.class_seconds() - own)",
            "own is None else graph.class_seconds() - max(graph.seconds_by_category.values(), key=sum)",
            "what binds frees the largest category",
        ),
        Fault(
            "simulator/results/explain.py",
            "is_compute[graph.tail_first :] = False",
            "is_compute[:0] = False",
            "the optimizer counts as compute of the actions",
        ),
        Fault(
            "simulator/results/metrics.py",
            "return tokens_per_step / (step_s * num_gpus)",
            "return tokens_per_step / step_s",
            "a GPU has the tokens of all",
        ),
        Fault(
            "simulator/results/metrics.py",
            "bf16_dense_causal=flop_per_token.causal * share",
            "bf16_dense_causal=flop_per_token.noncausal * share",
            "MFU counts the masked half",
        ),
        Fault(
            "simulator/results/interval.py",
            "low=self.low + other.low, high=self.high + other.high",
            "low=self.low + other.high, high=self.high + other.high",
            "low ends of a sum take a high one",
        ),
        Fault(
            "simulator/results/interval.py",
            "value=self.value * factor, low=self.low * factor, high=self.high * factor",
            "value=self.value * factor, low=self.low, high=self.high * factor",
            "the low end is not scaled",
        ),
        Fault(
            "simulator/results/step_result.py",
            "middle = by_rank[len(by_rank) // 2]",
            "middle = by_rank[(len(by_rank) - 1) // 2]",
            "the middle of an even number of ranks is the lower one",
        ),
        Fault(
            "simulator/results/step_result.py",
            "SUM_TOLERANCE = 1e-6",
            "SUM_TOLERANCE = 1e-2",
            "parts may miss a hundredth of the step",
        ),
        Fault(
            "simulator/results/explain.py",
            "float(all_of_it) * seconds",
            "float(on_compute) * seconds",
            "messages have no part in where the time comes from",
        ),
        Fault(
            "simulator/results/explain.py",
            "return graph.class_seconds() if own is None else np.maximum(0.0, graph.class_seconds() - own)",
            "return graph.class_seconds() if own is None else np.where(own > 0, 0.0, graph.class_seconds())",
            "with one category free, all of its operators are",
        ),
        Fault(
            "simulator/results/explain.py",
            "for name, seconds in added_s.items() if seconds > 0]",
            "for name, seconds in added_s.items()]",
            "what is not random binds with nothing",
        ),
        Fault(
            "simulator/results/explain.py",
            "waits = max(0.0, action_s - work.compute_s)",
            "waits = action_s",
            "all of the actions is exposed communication",
        ),
        Fault(
            "simulator/results/explain.py",
            "rows.sort(key=lambda row: (-row[1], row[0]))",
            "rows.sort(key=lambda row: row[0])",
            "what binds comes in the order of the alphabet",
        ),
        Fault(
            "simulator/results/step_memory.py",
            "return max(self.by_stage, key=lambda stage: stage.peak_bytes)",
            "return max(self.by_stage, key=lambda stage: stage.activations_bytes)",
            "the worst rank is that of most activations",
        ),
    ),
)
