"""Faults of the comparison with published figures."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

VALIDATION = Room(
    "validation",
    ("tests/validation", "tests/published"),
    (
        Fault(
            "validation/instrument/convention.py",
            "return (4.0 / 3.0 * (flop_per_token - logits) + logits) / flop_per_token",
            "return 4.0 / 3.0",
            "logits are counted as computed again",
        ),
        Fault(
            "validation/instrument/prediction.py",
            "value, low, high = value * counted, low * counted, high * counted",
            "value = value * counted",
            "a figure's interval is of other FLOP than the figure",
        ),
        Fault(
            "validation/published/layout.py",
            'draft.give("parallel.cp", row.count("cp"))',
            'draft.give("parallel.cp", 1)',
            "rows with context parallelism are stated without it",
        ),
        Fault(
            "validation/published/software.py",
            "return max(found)[1] if found else None",
            "return min(found)[1] if found else None",
            "of several releases that fit a row the least specific one is taken",
        ),
        Fault(
            "validation/published/layout.py",
            "if num_gpus and dp and num_gpus != dp * tp * pp",
            "if False and num_gpus and dp and num_gpus != dp * tp * pp",
            "a dp that contradicts the degrees is not seen",
        ),
        Fault(
            "validation/published/row.py",
            "is_repeated = bool(name) and name in seen",
            "is_repeated = False and name in seen",
            "a case_id that is there twice is stated twice",
        ),
        Fault(
            "validation/published/problems.py",
            "abs(speed / derived - 1) > MOST_APART",
            "abs(speed / derived - 1) > 30 * MOST_APART",
            "a step time and tokens/s of two runs pass",
        ),
        Fault(
            "validation/published/batch.py",
            'draft.assume("training.micro_batch_size", 1, "not stated; the smallest")',
            'draft.give("training.micro_batch_size", 1)',
            "a micro-batch that is not stated is not listed as assumed",
        ),
        Fault(
            "validation/published/model.py",
            'return min(count, 1) if row.says("layers cut") else count',
            "return count",
            "a model cut to four layers keeps all of its dense ones",
        ),
        Fault(
            "validation/published/family.py",
            "return families()[max(known, key=len)] if known else None",
            "return families()[min(known, key=len)] if known else None",
            "a model of a family is the shortest name's",
        ),
        Fault(
            "validation/statable.py",
            "if len(each.missing) == 1)",
            "if len(each.missing) >= 1)",
            "a reason stands alone beside others",
        ),
        Fault(
            "validation/measured_memory.py",
            "if name not in OUTSIDE)",
            'if name != "buffers.context")',
            "libraries' buffers count as allocated by the framework",
        ),
        Fault(
            "validation/compare.py",
            "return self.predicted / self.measured - 1.0",
            "return 1.0 - self.predicted / self.measured",
            "errors have the wrong sign",
        ),
        Fault(
            "validation/compare.py",
            "return value / high, value / max(low, LEAST)",
            "return value * low, value * high",
            "the range of a rate is not inverted",
        ),
        Fault(
            "validation/errors.py",
            "sizes = sorted(map(abs, errors))",
            "sizes = sorted(errors)",
            "errors of both signs cancel in the mean size",
        ),
        Fault(
            "validation/compare.py",
            'row.reading == "edge" and row.quantity.endswith("_s")',
            'row.quantity.endswith("_s")',
            "other readings of one figure count in the summary",
        ),
        Fault(
            "validation/compare.py",
            "row.low <= row.measured <= row.high for row in times",
            "row.low <= row.predicted <= row.high for row in times",
            "coverage asks whether the interval holds the prediction",
        ),
        Fault(
            "validation/trace_pair.py",
            "stream_free.get(op.stream, 0.0)",
            "0.0",
            "kernels of one stream of the traced pair run at once",
        ),
        Fault(
            "validation/compare.py",
            "if row.stack == stack and row.quantity",
            "if row.quantity",
            "every stack has the step errors of all",
        ),
        Fault(
            "validation/trace_pair.py",
            "    return max(finish)",
            "    return finish[-1]",
            "a pair ends with the operator that was placed last",
        ),
        Fault(
            "validation/trace_pair.py",
            "fsum(segment.low for segment in segments),\n        fsum(segment.high",
            "fsum(segment.high for segment in segments),\n        fsum(segment.low",
            "ends of a phase's range swapped",
        ),
        Fault(
            "validation/trace_pair.py",
            "pairing=Pairing(), wait",
            "pairing=Pairing(beside=False), wait",
            "the traced pair runs one half after the other",
        ),
        Fault(
            "validation/lock.py",
            "if last.get(name) != digest]",
            "if name not in last]",
            "a changed file passes the lock",
        ),
        Fault(
            "validation/table.py",
            "if value < 1e5 else",
            "if value < 1e9 else",
            "large counts are told in powers of ten",
        ),
        Fault(
            "validation/instrument/statistics.py",
            "2.0 / MISSED * (max(0.0, lower) + max(0.0, -upper))",
            "1.0 / MISSED * (max(0.0, lower) + max(0.0, -upper))",
            "a wrong interval costs half of what makes the score proper",
        ),
        Fault(
            "validation/instrument/outcome.py",
            "return 1.0 / found[0], 1.0 / found[2], 1.0 / found[1]",
            "return 1.0 / found[0], 1.0 / found[1], 1.0 / found[2]",
            "the interval of a speed is not turned round",
        ),
        Fault(
            "validation/instrument/document.py",
            "return [row for row in rows if row.figure is not None and row.is_eligible]",
            "return [row for row in rows if row.figure is not None]",
            "rows with an error of their source count",
        ),
        Fault(
            "validation/instrument/pool.py",
            "return [found[place] for place in range(len(rows))]",
            "return list(found.values())",
            "rows come in the order in which they were predicted",
        ),
        Fault(
            "validation/instrument/change.py",
            "change = new / old if row.is_time else old / new",
            "change = new / old",
            "a faster prediction counts as a slower one",
        ),
        Fault(
            "validation/instrument/prediction.py",
            "stack = stack_without(node_of(scenario).gpu, without)",
            "stack = stack_without(node_of(scenario).gpu, NOTHING)",
            "what is left out is used",
        ),
        Fault(
            "validation/instrument/plausible.py",
            "if share > step_s:",
            "if share > 1e3 * step_s:",
            "a speed beyond the chip's peak is compared",
        ),
        Fault(
            "validation/instrument/named.py",
            'if reason.partition(": ")[0] in WRONG',
            "if reason in WRONG",
            "values that cannot be are not told",
        ),
        Fault(
            "validation/instrument/pool.py",
            "pool.shutdown(wait=False, cancel_futures=True)",
            "pool.shutdown(wait=True)",
            "an interrupt waits for all rows",
        ),
        Fault(
            "validation/published/layout.py",
            "ranks = (replicas or 1) * tp",
            'ranks = (row.count("dp") or 1) * tp',
            "replicas that a row leaves out are one",
        ),
        Fault(
            "validation/instrument/ablation.py",
            "if reduce(getattr, path, scenario) == off:",
            "if reduce(getattr, path, scenario) != off:",
            "a mechanism that is on is told as one that is off anyway",
        ),
        Fault(
            "validation/instrument/ablation.py",
            "return row.steps_without[name] / row.figure.step_s",
            "return row.figure.step_s / row.steps_without[name]",
            "what a mechanism is worth has the wrong sign",
        ),
        Fault(
            "validation/instrument/page.py",
            "tables(runs))",
            "tables(document))",
            "the table of mechanisms stands twice in the page",
        ),
    ),
)
