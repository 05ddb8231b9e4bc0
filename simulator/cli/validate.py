"""`moesim validate`: predicted beside what was published or measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from hwprofiles.names import nearest
from hwprofiles.problems import show
from simulator.cli.output import check_output, chosen_format, print_json, write_atomically
from simulator.errors import InputError, Problem

if TYPE_CHECKING:
    from simulator.results.run_result import RunResult
    from validation.case import Case
    from validation.compare import Row
    from validation.instrument.leave_out import LeaveOut
    from validation.instrument.outcome import Outcome
    from validation.proof.compare import Proof
    from validation.whole_run import WholeRun

ACCURACY = Path(__file__).parent.parent / "report" / "data" / "accuracy.csv"
FORMATS: Final = ("text", "markdown", "json")
EVERY: Final = 50
"""Rows between two lines of progress."""


@dataclass(frozen=True)
class Question:
    """What was asked for. cases: a table of measured runs; leave_out: what its rows' stacks are built without; old: an older
    document of it; form: one of FORMATS, None: by as_json.

    ablate: mechanisms, by commas, without each of which the table is predicted too.
    write: also into simulator/report/data/accuracy.csv, the committed accuracy table; what was not compared stays there.
    """

    names: tuple[str, ...] = ()
    cases: Path | None = None
    as_json: bool = False
    form: str | None = None
    leave_out: str | None = None
    old: Path | None = None
    write: bool = False
    ablate: str | None = None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The names of `ablate`, as they were given."""
        return tuple(name.strip() for name in (self.ablate or "").split(",") if name.strip())


def validate_cases(asked: Question) -> None:
    """Compare the named cases (default: all) and a table of runs, and print tables or one document.

    With a table and without names the table alone is compared. Raises InputError for an unknown case, options that do not go
    together, a table or an older document that cannot be read.
    """
    from validation.case import case_names, load_case
    from validation.compare import compare_case
    from validation.proof.compare import BEGINNING, load_proof, proof_names

    form = chosen_format(asked.as_json, asked.form, FORMATS)
    _check(asked)
    if asked.write:
        check_output(ACCURACY, force=True, field="--write")
    names = asked.names or (() if asked.cases else (*case_names(), *proof_names()))
    proofs = [load_proof(name) for name in names if name.startswith(BEGINNING)]
    cases = [load_case(name) for name in names if not name.startswith(BEGINNING)]
    told, runs = _of_table(asked) if asked.cases else ({}, [])
    rows = {case.case_id: compare_case(case) for case in cases}
    whole = _whole_runs(asked.names)
    figures = [row for each in rows.values() for row in each]
    if asked.write:
        _write(figures, runs)
    if form == "json":
        _print_json(figures, told, proofs, whole)
    else:
        _print(cases, rows, told, form, proofs, whole)


def _whole_runs(names: Sequence[str]) -> list[tuple[WholeRun, RunResult]]:
    """Published runs of cases that are named, and their predictions: minutes of searching for layouts, so of no others."""
    from validation.whole_run import load_whole_run, predicted, whole_run_names

    runs = [load_whole_run(name) for name in names if name in whole_run_names()]
    return [(run, predicted(run)) for run in runs]


def _check(asked: Question) -> None:
    """Raise InputError for options that do not go together, all problems at once."""
    from validation.instrument.ablation import problem
    from validation.instrument.leave_out import MODES

    of_tables = {"--leave-out": asked.leave_out, "--compare": asked.old, "--ablate": asked.ablate}
    problems = [
        Problem("", option, "works on a table of runs; give --cases FILE.csv too")
        for option, value in of_tables.items()
        if value is not None and asked.cases is None
    ]
    if asked.leave_out not in (None, *MODES):
        text = f"no group is called {show(asked.leave_out)}{nearest(str(asked.leave_out), MODES)}"
        problems.append(Problem("", "--leave-out", text))
    if asked.ablate is not None and (text := problem(asked.mechanisms)):
        problems.append(Problem("", "--ablate", text))
    if asked.ablate is not None and asked.leave_out is not None:
        text = "mechanisms are told of the stacks that users have; leave one of the two out"
        problems.append(Problem("", "--ablate", text))
    if asked.write and asked.leave_out is not None:
        text = "the accuracy table is of the stacks that users have; leave one of the two out"
        problems.append(Problem("", "--write", text))
    if problems:
        raise InputError(problems)


def _of_table(asked: Question) -> tuple[dict[str, Any], list[Outcome]]:
    """The document of a table of runs, and its rows. Files are read before anything is predicted.

    What is wrong with skipped rows goes to standard error, with their lines.
    """
    from validation.instrument.ablation import chosen
    from validation.instrument.change import compared, read_old
    from validation.instrument.named import wrong_rows
    from validation.instrument.run import run_table
    from validation.published.row import read_rows

    assert asked.cases is not None
    if not asked.cases.is_file():
        raise InputError([Problem("", "--cases", f"{asked.cases} is no file; give a CSV with measured runs")])
    given = read_rows(asked.cases)
    old = read_old(asked.old) if asked.old else None
    names = chosen(asked.mechanisms)
    progress = partial(_progress, len(given)) if names else lambda _: None
    told, runs = run_table(given, cast("LeaveOut | None", asked.leave_out), names, progress)
    wrong = wrong_rows(asked.cases.name, given, runs)
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
    return told | ({"compared": compared(old, runs)} if old else {}), runs


def _progress(total: int, done: int) -> None:
    """A line on standard error every EVERY rows, and at the end."""
    if done % EVERY == 0 or done == total:
        print(f"{done} of {total} rows", file=sys.stderr, flush=True)


def _write(figures: Sequence[Row], runs: Sequence[Outcome]) -> None:
    from validation.accuracy import case_line, merged, read_table, run_line, table_text
    from validation.instrument.document import eligible

    lines = [*map(case_line, figures), *map(run_line, eligible(runs))]
    write_atomically(ACCURACY, table_text(merged(read_table(ACCURACY), lines)))


def _print_json(
    figures: Sequence[Row],
    told: dict[str, Any],
    proofs: Sequence[Proof],
    whole: Sequence[tuple[WholeRun, RunResult]],
) -> None:
    """One document; beside a table of runs the summary is the table's."""
    from validation.compare import as_json
    from validation.proof.tables import document
    from validation.whole_run import document as of_whole_run

    of_cases = as_json(figures) | ({"proofs": [document(proof) for proof in proofs]} if proofs else {})
    if whole:
        of_cases["whole_runs"] = [of_whole_run(*each) for each in whole]
    print_json({**told, "cases": [*of_cases["cases"], *told["cases"]]} if told else of_cases)


def _print(
    cases: Sequence[Case],
    rows: dict[str, list[Row]],
    told: dict[str, Any],
    form: str,
    proofs: Sequence[Proof],
    whole: Sequence[tuple[WholeRun, RunResult]],
) -> None:
    from validation.instrument.show import markdown, print_tables
    from validation.instrument.tables import tables
    from validation.proof.tables import tables as proof_tables
    from validation.table import case_table, print_table
    from validation.whole_run import table as whole_run_table

    found = [
        *(whole_run_table(*each) for each in whole),
        *(table for proof in proofs for table in proof_tables(proof)),
        *(tables(told) if told else []),
    ]
    if form == "markdown":
        sys.stdout.write(markdown([*(case_table(case, rows[case.case_id]) for case in cases), *found]))
        return
    for case in cases:
        print_table(case, rows[case.case_id], sys.stdout)
    print_tables(found, sys.stdout)
