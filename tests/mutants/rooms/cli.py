"""Faults of exit codes, files and streams."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

CLI = Room(
    "cli",
    ("tests/cli",),
    (
        Fault(
            "simulator/cli/output.py",
            "if path.exists() and not force:",
            "if path.exists() and force:",
            "a file is replaced without being asked",
        ),
        Fault(
            "simulator/cli/output.py",
            "temporary.replace(path)",
            "path.write_text(text)",
            "a file is not replaced at once",
        ),
        Fault(
            "simulator/cli/output.py",
            'print(f"warning: {warning}", file=sys.stderr)',
            'print(f"warning: {warning}")',
            "warnings stand in the document",
        ),
        Fault(
            "simulator/cli/output.py",
            "json.dumps(value, indent=2, allow_nan=False)",
            "json.dumps(value, indent=2)",
            "NaN is written as JSON",
        ),
        Fault(
            "simulator/cli/run.py",
            "LONG_S: Final = 60.0",
            "LONG_S: Final = 6000.0",
            "a long wait is not announced",
        ),
        Fault(
            "simulator/cli/run.py",
            "needed_s = num_ops * lanes * draws / OPS_PER_S",
            "needed_s = num_ops * draws / OPS_PER_S",
            "a wait is announced for one lane",
        ),
        Fault(
            "simulator/cli/run.py",
            "size = numbers.amount_of_bytes(num_ops * lanes * BYTES_PER_OP)",
            "size = numbers.amount_of_bytes(num_ops * lanes * draws * BYTES_PER_OP)",
            "memory is announced of all draws at once",
        ),
        Fault(
            "simulator/cli/run.py",
            "return StepSimulator(engine)",
            "return StepSimulator()",
            "the reference is the sweep",
        ),
        Fault(
            "simulator/cli/run.py",
            'scenario.moe.balance != "forced" and scenario.parallel.ep > 1',
            'scenario.moe.balance != "forced"',
            "a dense model is told to force its balance",
        ),
        Fault(
            "simulator/cli/run.py",
            "        check_output(out, force)\n        write_atomically",
            "        write_atomically",
            "a file that came in the meantime is replaced",
        ),
        Fault(
            "simulator/cli/list.py",
            "shown.pop()",
            "shown.pop(1)",
            "a narrow screen goes without the first figure",
        ),
        Fault(
            "simulator/cli/list.py",
            '_peak("fp8"), _peak("fp4"),',
            '_peak("fp4"), _peak("fp8"),',
            "columns of FP8 and FP4 change places",
        ),
        Fault(
            "simulator/cli/catalogues.py",
            "stack_choice.default_stack(provenance.gpu) == name",
            'stack_choice.stack_kind(name) == "measured"',
            "every measured stack is the default one",
        ),
        Fault(
            "simulator/cli/catalogues.py",
            "SHOWN_RANKS: Final = 8",
            "SHOWN_RANKS: Final = 16",
            "the fewest micro-batches are those of sixteen ranks",
        ),
        Fault(
            "simulator/cli/bench.py",
            "rows.max(axis=1, keepdims=True)",
            "rows.mean(axis=1, keepdims=True)",
            "the folded step has the mean rank's load",
        ),
        Fault(
            "simulator/cli/bench.py",
            'result["equal"] &= are',
            'result["equal"] |= are',
            "the last draws alone decide whether engines are equal",
        ),
        Fault(
            "validation/accuracy.py",
            "DIGITS: Final = 6",
            "DIGITS: Final = 2",
            "the accuracy table has two digits",
        ),
    ),
)
