"""What the page Compare sets side by side: entries of the link, each a scenario or a saved result.

now: what the tab asks for; plain: that without its changes; pinned: what is pinned; the name of a preset; file:HASH: an
uploaded scenario or result that this server keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from dashboards import state
from dashboards.answers import Answer
from dashboards.keep import TEXTS
from dashboards.keys import FILE, NOW, PINNED, PLAIN
from dashboards.source import Source, presets
from dashboards.uploads import Uploaded, read_upload
from simulator.errors import InputError, Problem
from simulator.results.document import to_json
from simulator.results.run_result import RunResult

MAX_FILES: Final = 8
MARK: Final = 4
"""Characters of a file's hash that tell it from another one of the same name."""


@dataclass(frozen=True, slots=True)
class Side:
    """An entry, and what it stands for: a scenario or a result, or why it is neither."""

    entry: str
    label: str
    source: Source | None = None
    result: RunResult | None = None
    problems: tuple[Problem, ...] = ()


def usual(current: state.Current) -> list[str]:
    """What is compared where the link does not say: the pinned one, or the plain one, with what is asked for now."""
    if current.pinned is not None and current.pinned != current.source:
        return [PINNED, NOW]
    return [PLAIN, NOW] if current.source.overrides else [NOW]


def choices(current: state.Current, asked: Sequence[str]) -> list[str]:
    """Entries that can be chosen."""
    own = [NOW, *([PLAIN] if current.source.overrides else []), *([PINNED] if current.pinned is not None else [])]
    return list(dict.fromkeys([*own, *presets(), *asked]))


def side(entry: str, current: state.Current) -> Side:
    """What an entry stands for now."""
    if entry.startswith(FILE):
        return _of_file(entry)
    sources = {NOW: current.source, PLAIN: current.source.plain(), PINNED: current.pinned}
    source = sources.get(entry, Source(entry))
    if source is None:
        return Side(entry, "nothing is pinned", problems=(Problem("", "", "nothing is pinned: pin a run on What if"),))
    problems = source.problems()
    name = source.base if problems else source.load().name
    labels = {NOW: f"{name}, as asked for now", PLAIN: f"{name}, unchanged", PINNED: f"{name}, pinned"}
    return Side(entry, labels.get(entry, name), source, problems=problems)


def keep(uploaded: Uploaded) -> str:
    """Keep what was uploaded on this server; its entry."""
    if uploaded.result is not None:
        return FILE + TEXTS.put(to_json(uploaded.result))
    assert uploaded.source is not None
    return FILE + TEXTS.put(uploaded.source.text or "")


def result_of(chosen: Side, answer: Answer | None) -> RunResult | None:
    """The side's run; of a first answer with the number of draws that was asked for, as it differs in nothing else."""
    if answer is None:
        return chosen.result  # None where a scenario has no answer
    if answer.result is None or not answer.is_first:
        return answer.result
    return answer.result.model_copy(update={"scenario": {**answer.result.scenario, "draws": answer.all_draws}})


def _of_file(entry: str) -> Side:
    text = TEXTS.get(entry.removeprefix(FILE))
    if text is None:
        gone = Problem("", "", "an uploaded file is gone from the server; upload it again")
        return Side(entry, f"file {entry.removeprefix(FILE)[:MARK]} that is gone", problems=(gone,))
    read, mark = _read(text), entry.removeprefix(FILE)[:MARK]  # the list of choices needs labels that differ
    if isinstance(read, tuple):
        return Side(entry, f"file {mark}", problems=read)
    if read.result is not None:
        return Side(entry, f"{read.result.scenario.get('name', '')}, result file {mark}", result=read.result)
    assert read.source is not None
    return Side(entry, f"{read.source.load().name}, scenario file {mark}", source=read.source)


@lru_cache(maxsize=MAX_FILES)
def _read(text: str) -> Uploaded | tuple[Problem, ...]:
    try:
        return read_upload(text.encode(), "file")
    except InputError as error:
        return error.problems
