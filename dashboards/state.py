"""What this browser tab asks for: read from the link when the tab opens, changed by controls, written back into the link.

asked = state.current()                 # .source, .scenario (None where it is none), .problems
state.change(pp="8", schedule="1f1b")   # from a control's callback; None takes a change back
state.start("mixtral-8x22b"); state.upload(text); state.pin(); state.unpin()
state.page("from"); state.set_page(**{"from": "0.5"})
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboards import link
from dashboards.keep import TEXTS
from dashboards.keys import BY_NAME
from dashboards.link import Asked
from dashboards.source import UPLOADED, Source
from simulator.errors import Problem
from simulator.scenario.scenario import Scenario

_STATE: Final = "moesim"


@dataclass
class _Tab:
    """What is kept of a browser tab."""

    asked: Asked
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Current:
    """The scenario that is asked for: `scenario` is None where there are `problems`."""

    source: Source
    scenario: Scenario | None
    problems: tuple[Problem, ...]
    pinned: Source | None


def current() -> Current:
    """What the tab asks for now."""
    asked = _tab().asked
    source = asked.source
    problems = source.problems()
    return Current(source, None if problems else source.load(), problems, asked.pinned)


def notice() -> str | None:
    """What of the link could not be used, until something is changed."""
    return _tab().notice


def value(name: str) -> str | None:
    """The text that a key of `keys.SCENARIO_KEYS` was changed to; None where it is as the preset or upload has it."""
    return _tab().asked.values.get(name)


def changed() -> tuple[str, ...]:
    """Names in the link of all that differs from the preset or upload."""
    return tuple(_tab().asked.values)


def change(**values: str | None) -> None:
    """Change keys of the scenario by their names in the link; None takes a change back. Raises ValueError on a bad text."""
    asked = _tab().asked
    merged = dict(asked.values)
    for name, text in values.items():
        if text is None:
            merged.pop(name, None)
        else:
            merged[name] = _checked(name, text)
    _become(replace(asked, values={name: merged[name] for name in BY_NAME if name in merged}))


def start(preset: str) -> None:
    """Begin again from a preset; what is pinned stays."""
    _become(replace(_tab().asked, base=preset, text=None, values={}))


def upload(text: str) -> None:
    """Begin again from an uploaded scenario's text."""
    _become(replace(_tab().asked, base=UPLOADED, text=text, values={}))


def pin() -> None:
    """Compare with what is asked for now."""
    asked = _tab().asked
    _become(replace(asked, pinned=asked.source))


def unpin() -> None:
    """Compare with nothing."""
    _become(replace(_tab().asked, pinned=None))


def page(name: str) -> str | None:
    """A page's own value in the link (a key of `keys.PAGE_KEYS`)."""
    return _tab().asked.page.get(name)


def set_page(**values: str | None) -> None:
    """Set a page's own values in the link; None takes one out. Raises ValueError on a bad text."""
    asked = _tab().asked
    merged = {**asked.page, **{name: _checked(name, text) for name, text in values.items() if text is not None}}
    _become(replace(asked, page={name: text for name, text in merged.items() if values.get(name, text) is not None}))


def is_kept_on_server() -> bool:
    """Whether the link names an uploaded text that only this server has."""
    return link.KEPT in link.write(_tab().asked, TEXTS.put)


def follow_link() -> None:
    """Take over the link with which a tab was opened, or to which its user went back; before a page is shown.

    Later runs of the page come with whatever the address shows, which lags behind quick clicks: it is not asked then.
    """
    if _STATE not in st.session_state or is_history_navigation():
        found = link.read({name: st.query_params.get_all(name) for name in st.query_params}, TEXTS.get)
        st.session_state[_STATE] = _Tab(found.asked, found.notice)


def is_history_navigation() -> bool:
    """Whether this run of the page was asked for by the browser's Back or Forward."""
    context = get_script_run_ctx(suppress_warning=True)
    return context is not None and getattr(context, "is_history_navigation", False)


def write_link() -> None:
    """Put what is asked for into the browser's address; after the page's controls were read."""
    parameters = link.write(_tab().asked, TEXTS.put)
    if {name: st.query_params.get_all(name) for name in st.query_params} != {k: [v] for k, v in parameters.items()}:
        st.query_params.from_dict(parameters)


def _tab() -> _Tab:
    if _STATE not in st.session_state:
        st.session_state[_STATE] = _Tab(Asked())
    tab: _Tab = st.session_state[_STATE]
    return tab


def _become(asked: Asked) -> None:
    tab = _tab()
    tab.asked, tab.notice = asked, None


def _checked(name: str, text: Any) -> str:
    key = BY_NAME.get(name)
    read = None if key is None else key.read(str(text))
    if key is None or read is None:
        raise ValueError(f"{name}={text!r} is nothing that a link can say")
    return read
