"""The command line: declares the commands, turns errors into exit codes. Imports nothing heavy before a command runs.

Exit codes: 0 done, 1 failed at run time, 2 bad input (nothing written), 3 inconsistent simulation, 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from simulator import not_modelled
from simulator.cli.catalogues import CATALOGUES

INTERRUPTED: Final = 130
DEBUG: Final = "--debug"
VERSION: Final = "--version"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

ScenarioArgument = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A preset's name or the path of a YAML file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set a key of the scenario; may be repeated."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, and nothing else there.")
]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from simulator.version import package_version

        print(f"moesim {package_version()}")
        raise typer.Exit


@app.callback()
def moesim(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an unexpected error.")] = False,
    version: Annotated[
        bool, typer.Option(VERSION, is_eager=True, callback=_print_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """Predicts how long a mixture-of-experts model trains on a GPU cluster, what it costs, and what holds it back."""


@app.command()
def run(
    scenario: ScenarioArgument,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the JSON document to a file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --out.")] = False,
    engine: Annotated[
        str, typer.Option("--engine", metavar="ENGINE", help="sweep, or reference: simpy, the same numbers, slowly.")
    ] = "sweep",
) -> None:
    """Predict the step time, memory, GPU-hours and cost of a scenario."""
    from simulator.cli.run import run_scenario

    run_scenario(scenario, overrides or [], as_json, out, force, engine)


@app.command()
def plan(
    scenario: ScenarioArgument,
    overrides: SetOption = None,
    sizes: Annotated[
        str | None,
        typer.Option("--num-gpus", metavar="N,N,...|MIN..MAX", help="Cluster sizes; default: from the smallest on."),
    ] = None,
    max_days: Annotated[float | None, typer.Option("--max-days", metavar="D", help="Days that it may take.")] = None,
    max_usd: Annotated[float | None, typer.Option("--max-usd", metavar="USD", help="What it may cost.")] = None,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE.yaml", help="Write the plan as a scenario file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of -o.")] = False,
) -> None:
    """Find the smallest cluster that fits, and the best layout, days and cost of each size."""
    from simulator.cli.plan import PlanQuestion, plan_clusters

    plan_clusters(PlanQuestion(scenario, tuple(overrides or ()), sizes, max_days, max_usd, as_json, out, force))


@app.command()
def report(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SCENARIO|RESULT.json...", help="Presets, YAML files, documents of `run --json`."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write.")],
    report_format: Annotated[
        str | None,
        typer.Option(
            "-f", "--format", metavar="FORMAT",
            help="html, xlsx, csv, md or json; default: by the suffix of FILE. Of several scenarios json is a list.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set a key of every scenario; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
) -> None:  # fmt: skip
    """Write a report of a scenario, or of several side by side, to hand over.

    A RESULT.json of this very version is checked by simulating its step again; of another version, all figures are the
    file's own. Where -f and the suffix of FILE differ, -f decides.
    """
    from simulator.cli.report import write_report

    write_report(sources, overrides or [], report_format, out, force)


@app.command()
def sensitivity(scenario: ScenarioArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print what would move a run's GPU-hours: every range at its ends, and its share of the variance of joint draws."""
    from simulator.cli.sensitivity import print_sensitivity

    print_sensitivity(scenario, overrides or [], as_json)


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="BASE OTHER...",
            help="Presets, YAML files, documents of `run --json`; or traces of torch's profiler (.json, .json.gz; a file a "
            "rank) and one scenario.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY.PATH=VALUE",
            help="Set a key of every scenario but the base; may be repeated. With BASE alone: BASE as changed.",
        ),
    ] = None,
    as_json: JsonOption = False,
    form: Annotated[str | None, typer.Option("-f", "--format", metavar="FORMAT", help="text, markdown or json.")] = None,
) -> None:  # fmt: skip
    """Print what differs between runs: inputs, results, and the step's time by category.

    Of a result file all figures are its own, whatever version wrote it. Of a trace: compute by class of kernel, exposed and
    overlapped communication, idle time and launch gaps beside the scenario's.
    """
    from simulator.cli.compare import compare_runs

    compare_runs(runs, overrides or [], as_json, form)


@app.command()
def bench(
    scenario: ScenarioArgument,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    num_draws: Annotated[
        int, typer.Option("--draws", metavar="N", help="Random draws in which the engines must agree.")
    ] = 1,
) -> None:
    """Time the compiled engine beside the reference on a scenario's step, and compare them bit for bit."""
    from simulator.cli.bench import bench_scenario

    bench_scenario(scenario, overrides or [], as_json, num_draws)


@app.command()
def validate(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CASE]...", help="Default: all cases.")] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            "--cases", metavar="FILE.csv",
            help="Predict a table of measured runs, row by row, as validation/data/published_cases.csv has them.",
        ),
    ] = None,
    as_json: JsonOption = False,
    form: Annotated[str | None, typer.Option("-f", "--format", metavar="FORMAT", help="text, markdown or json.")] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            "--leave-out", metavar="GROUP",
            help="Of --cases, gpu, source or family: without what was measured on the row's GPU, by its source, on the family.",
        ),
    ] = None,
    old: Annotated[
        Path | None,
        typer.Option("--compare", metavar="OLD.json", help="Of --cases: what moved since a document of --json."),
    ] = None,
    ablate: Annotated[
        str | None,
        typer.Option(
            "--ablate", metavar="NAMES",
            help="Of --cases, mechanisms by commas, or all: what each is worth, predicting every row without it too.",
        ),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Also refresh the committed accuracy table.")] = False,
) -> None:  # fmt: skip
    """Print predicted beside published figures, with signed errors; of a table of runs, how right they are together."""
    from simulator.cli.validate import Question, validate_cases

    validate_cases(Question(tuple(names or ()), cases, as_json, form, leave_out, old, write, ablate))


@app.command()
def calibrate(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="The stack folder to write, or to go on with.")
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Few kernels, under a minute: a rehearsal.")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="cuda, or cpu: a rehearsal without a GPU.")
    ] = "cuda",
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME", help="The catalogue's GPU, where the device's name does not tell."),
    ] = None,
    parts: Annotated[
        list[str] | None, typer.Option("--part", metavar="PART", help="Measure this alone; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure a finished folder anew.")] = False,
    limit: Annotated[
        float | None, typer.Option("--limit", metavar="SECONDS", help="Of measuring; a later call goes on.")
    ] = None,
    repeat_of: Annotated[
        Path | None,
        typer.Option("--repeat-of", metavar="DIR", help="An earlier calibration, which this one is compared with."),
    ] = None,
    from_trace: Annotated[
        list[Path] | None,
        typer.Option(
            "--from-trace",
            metavar="TRACE",
            help="Measure nothing: take kernel times out of a trace of torch's profiler (.json, .json.gz); once a rank.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the GPU of this machine and write a stack folder, in 8 minutes at most; killed, the same command goes on.

    Needs torch: pip install 'moesim[calibrate]'. With --from-trace neither torch nor a GPU: kernel times come out of traces.
    """
    if from_trace:
        from simulator.cli.calibrate_trace import calibrate_from_traces

        others = {
            "--quick": quick,
            "--device": device != "cuda",
            "--part": parts,
            "--limit": limit,
            "--repeat-of": repeat_of,
        }
        calibrate_from_traces(from_trace, out, gpu, force, as_json, others)
        return
    from simulator.cli.calibrate import calibrate_gpu

    calibrate_gpu(
        out, quick=quick, device=device, gpu=gpu, parts=tuple(parts or ()), force=force, as_json=as_json, limit_s=limit,
        repeat_of=repeat_of,
    )  # fmt: skip


@app.command("list")
def list_entries(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help=f"{', '.join(CATALOGUES)}."),
    ],
    as_json: JsonOption = False,
) -> None:
    """List a catalogue."""
    from simulator.cli.list import print_entries

    print_entries(kind, as_json)


@app.command()
def kernels(
    stack: Annotated[
        str, typer.Argument(metavar="STACK", help="A stack of `moesim list stacks`, or the path of a stack's folder.")
    ],
    shapes: Annotated[
        Path,
        typer.Argument(metavar="SHAPES.csv", help="A row a kernel: op, dtype, its sizes; see docs/calibration.md."),
    ],
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write to a file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of -o.")] = False,
) -> None:
    """Predict the seconds of a list of kernels on a stack, as CSV."""
    from simulator.cli.kernels import predict_kernels

    predict_kernels(stack, shapes, as_json, out, force)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the scenario file."""
    from simulator.cli.schema import print_schema

    print_schema()


@app.command()
def schedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A schedule of `moesim list schedules`, or all.")],
    pp: Annotated[int, typer.Option("--pp", metavar="P", help="Pipeline ranks.")],
    micro_batches: Annotated[int, typer.Option("--micro-batches", metavar="M", help="Micro-batches of a step.")],
    vpp: Annotated[
        int | None,
        typer.Option("--vpp", metavar="V", help="Chunks of the model a rank; default: the schedule's fewest."),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths", metavar="F,I,W[,FB]", help="Lengths of the passes, with all; default: 1,1,1 and F+I+W."
        ),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split/--no-split", help="Weight gradients apart where a schedule has them so.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Print the order of actions of every pipeline rank; with all in place of a name, compare the schedules."""
    from simulator.cli.schedule import print_schedule

    print_schedule(name, pp, micro_batches, vpp, as_json, split=split, lengths=lengths)


@app.command()
def dashboard(
    port: Annotated[int, typer.Option("--port", metavar="N", help="Port on this machine; 0: any that is free.")] = 8501,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")] = False,
    stacks: Annotated[
        list[str] | None,
        typer.Option("--stack", metavar="DIR", help="A stack's folder that pages know by name; may be repeated."),
    ] = None,
) -> None:
    """Ask in a browser: what if, plan, timeline, memory, network, compare, how right, report."""
    from simulator.cli.dashboard import serve_dashboard

    serve_dashboard(port, not no_browser, stacks or [])


RARELY: Final = (100_000, 50, 100)
"""How often Python looks for cycles: steps are made of a million small objects without any, through which it would go again and
again (a tenth of a run's time).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, and prints errors on standard error, a line a problem."""
    gc.set_threshold(*RARELY)
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_debug = DEBUG in given
    given = [argument for argument in given if argument != DEBUG] or ["--help"]
    try:
        instead = not_modelled.instead("command", given[0])
        if instead is not None:
            return _fail(f"{given[0]}: not modelled yet; {instead}", 2)
        # Not app(...): that one turns an interrupt and a closed pipe into exit codes of its own.
        command = typer.main.get_command(app)
        with command.make_context("moesim", given) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as early:
        return early.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _forget_output()
        return 1
    except Exception as error:
        if is_debug and not hasattr(error, "exit_code"):
            raise
        return _fail(_message(error), getattr(error, "exit_code", 1))


def _message(error: Exception) -> str:
    """The text of an error: ours and the parser's are for users, others are named with their kind."""
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        text = str(error.format_message())
        return text if context is None else f"{text.rstrip('.')}; see `{context.command_path} --help`"
    if hasattr(error, "exit_code"):
        return str(error)
    first = (str(error).splitlines() or [""])[0]
    return f"failed: {type(error).__name__}: {first[:300]} (--debug shows where)"


def _fail(message: str, exit_code: int) -> int:
    print(message, file=sys.stderr)
    return exit_code


def _forget_output() -> None:
    """The reader of standard output is gone: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
