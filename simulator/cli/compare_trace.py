"""`moesim compare TRACE SCENARIO`: a step that the torch profiler recorded beside the simulated one."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hwprofiles.record_file import CatalogError
from simulator.check import load_scenario
from simulator.cli.output import option_position, print_as, print_warnings
from simulator.cli.sources import LOOKED_AT_BYTES, beginning_of, is_result_file
from simulator.errors import InputError, Problem
from simulator.scenario.scenario import Scenario

if TYPE_CHECKING:
    from hwprofiles.traces.summary import TraceSummary
    from simulator.results.trace_comparison import TraceComparison

SUFFIXES: Final = (".json.gz", ".trace.json")
MARK: Final = re.compile(rb'"(traceEvents|deviceProperties|ph)"\s*:')
"""A key of every trace."""
OTHERS: Final = re.compile(rb'"(schema_version|extends|model|cluster)"\s*:')
"""A key of every scenario and result: a file of JSON without one is best refused as a trace."""


def is_trace_file(source: str) -> bool:
    """Whether a command's argument is a file of the profiler, whole or not: by its suffix, or by what it begins with."""
    start = beginning_of(source)
    if start is None:
        return False
    if source.endswith(SUFFIXES):
        return True
    text = _unzipped(start)
    if MARK.search(text) is not None:
        return not is_result_file(source)
    return Path(source).suffix == ".json" and OTHERS.search(text) is None


def _unzipped(start: bytes) -> bytes:
    """The first bytes of a file; of what is cut off or damaged as many as there are."""
    if start[:2] != b"\x1f\x8b":
        return start
    try:
        return zlib.decompressobj(wbits=31).decompress(start, LOOKED_AT_BYTES)
    except (zlib.error, gzip.BadGzipFile):
        return b""


def compare_traces(sources: Sequence[str], overrides: Sequence[str], form: str) -> None:
    """Print traces (files of one step's ranks) beside the one scenario among `sources`.

    Raises InputError before anything is simulated: no scenario or several, a result file, a trace that is none.
    """
    from hwprofiles.traces.summary import summarise

    scenario = _scenario(sources, overrides)
    try:
        summary = summarise([Path(source) for source in sources if is_trace_file(source)])
    except CatalogError as error:
        raise InputError(error.problems) from None
    print_warnings(dict.fromkeys((*scenario.warnings, *summary.warnings)))
    comparison = _compared(summary, scenario)
    print_warnings(comparison.others[0].warnings)
    _print(comparison, form)


def _scenario(sources: Sequence[str], overrides: Sequence[str]) -> Scenario:
    others = [source for source in sources if not is_trace_file(source)]
    if len(others) != 1:
        text = f"{len(others)} scenarios beside a trace; give one: `moesim compare TRACE SCENARIO`, a trace a rank"
        raise InputError([Problem("", "RUN", text)])
    if is_result_file(others[0]):
        text = "a result file holds no kernels that a trace could stand beside; give its scenario"
        raise InputError([Problem(others[0], "", text)])
    return load_scenario(others[0], overrides, position_of=option_position)


def _compared(summary: TraceSummary, scenario: Scenario) -> TraceComparison:
    from hwprofiles.stack_choice import stack_kind
    from hwprofiles.stack_folders import plain_name
    from simulator.results.stream_time import rank_time
    from simulator.results.trace_comparison import Predicted, TraceComparison, difference, trace_times
    from simulator.step.hardware import look_up
    from simulator.step.timeline import step_timeline
    from simulator.version import package_version

    hardware, timeline = look_up(scenario), step_timeline(scenario)
    ranks = [rank_time(timeline, rank) for rank in range(timeline.num_ranks)]
    times = trace_times(summary, ranks, _pp_ranks(summary, scenario))
    predicted = Predicted(
        scenario=scenario.name,
        scenario_sha256=scenario.scenario_sha256,
        version=package_version(),
        stack=plain_name(scenario.stack),
        stack_sha256=hardware.stack.sha256,
        stack_kind=stack_kind(scenario.stack),
        step_s=timeline.step_s,
        step_difference=difference(times),
        warnings=tuple(_warnings(summary, scenario, hardware.gpu.name, timeline.num_draws)),
    )
    return TraceComparison(base=times.files[0], others=(predicted,), trace=times)


def _pp_ranks(summary: TraceSummary, scenario: Scenario) -> dict[int, int]:
    """Pipeline rank of each traced rank: pipelines are the outermost dimension, so that a stage's ranks are consecutive. Empty
    where the traces do not say their ranks, or are of another number of GPUs.
    """
    num_gpus, pp = scenario.cluster.num_gpus, scenario.parallel.pp
    if pp == 1:
        return {each.rank: 0 for each in summary.devices}
    if not summary.has_ranks or summary.world_size != num_gpus:
        return {}
    return {each.rank: each.rank * pp // num_gpus for each in summary.devices if each.rank < num_gpus}


def _warnings(summary: TraceSummary, scenario: Scenario, gpu: str, num_draws: int) -> list[str]:
    from hwprofiles.catalog import gpu_of_device

    found = []
    others = [name for name in summary.gpus if gpu_of_device(name) not in (gpu, None)]
    if others:
        found.append(
            f"the trace is of {', '.join(others)}, the scenario's GPU is {gpu}: their times differ by the chip too"
        )
    if summary.world_size not in (None, scenario.cluster.num_gpus):
        found.append(f"the trace is of {summary.world_size} GPUs, the scenario has {scenario.cluster.num_gpus}")
    if num_draws > 1:
        found.append(f"the predicted step is the first of {num_draws} random draws; `moesim run` gives their mean")
    return found


def _print(comparison: TraceComparison, form: str) -> None:
    from simulator.report.trace_text import document, print_comparison

    print_as(form, comparison, document, print_comparison)
