"""A browser tab without a browser: speaks the protocol of Streamlit's pages over a WebSocket, as quickly as it can.

A tab keeps the elements of its page, sends what a control was set to, and repeats what the page asks to be repeated (a
fragment that polls), as the browser's script does. Requests go to this machine alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

from dashboards.settings import LOOPBACK

PATIENCE_S: Final = 60.0
STALL_S: Final = 10.0
"""After so long without a word from the server a page is asked for again, and the wait goes on."""


@dataclass
class Element:
    """One element of the page: its kind ("metric", "number_input" …), its message, the run and the fragment that made it."""

    kind: str
    message: Any
    run: str
    fragment: str


@dataclass
class Tab:
    """One open page. num_made: whole runs of the page that have ended; num_asked: as many have to have, to be up to date."""

    port: int
    query: str = ""
    page: str = ""
    elements: dict[tuple[int, ...], Element] = field(default_factory=dict)
    states: dict[str, WidgetState] = field(default_factory=dict)
    is_running: bool = False
    run: str = ""
    is_whole_run: bool = False
    num_asked: int = 0
    num_made: int = 0
    stalls: list[str] = field(default_factory=list)
    num_received: int = 0
    num_bytes: int = 0
    heard: deque[str] = field(default_factory=lambda: deque(maxlen=60))
    socket: ClientConnection | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    timers: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def open(self) -> None:
        """Open the page and have it made."""
        origin = f"http://{LOOPBACK}:{self.port}"
        address = f"ws://{LOOPBACK}:{self.port}/_stcore/stream"
        self.socket = await connect(address, origin=origin, subprotocols=["streamlit"], max_size=None)  # type: ignore[list-item, arg-type]
        self.tasks.append(asyncio.create_task(self._listen()))
        await self._ask()

    async def visit(self, parameters: Mapping[str, str], condition: Callable[[Tab], bool]) -> float:
        """Go to a link of the page, as Back and Forward do; the seconds until it is made and the condition holds."""
        self.query = urlencode(parameters)
        if self.socket is None:
            await self.open()
        else:
            await self._ask(is_history=True)
        return await self.until(condition)

    async def close(self) -> None:
        for task in (*self.tasks, *self.timers.values()):
            task.cancel()
        if self.socket is not None:
            await self.socket.close()

    async def set(self, label: str, value: float | str) -> None:
        """Set a number or a choice by its label, as a user does."""
        kind, message = next(
            (element.kind, element.message)
            for element in self.elements.values()
            if getattr(element.message, "label", None) == label and hasattr(element.message, "id")
        )
        state = WidgetState(id=message.id)
        if kind == "number_input" and message.data_type == message.DataType.INT:
            state.int_value = int(value)
        elif kind == "number_input":
            state.double_value = float(value)
        elif kind in ("selectbox", "text_input"):
            state.string_value = str(value)
        else:
            raise AssertionError(f"{label} is a {kind}")
        self.states[message.id] = state
        await self._ask()

    async def until(self, condition: Callable[[Tab], bool]) -> float:
        """Wait until the page is made and a condition holds; the seconds that it took. Raises TimeoutError."""
        start = time.perf_counter()
        while self.num_made < self.num_asked or self.is_running or not condition(self):
            self.news.clear()
            if self.tasks[0].done():
                self.tasks[0].result()
            if time.perf_counter() - start > PATIENCE_S:
                raise TimeoutError(f"nothing in {PATIENCE_S:g} s: {self.described()}")
            try:
                await asyncio.wait_for(self.news.wait(), STALL_S)
            except TimeoutError:  # as a user who presses R: a run that was overtaken left a part of a page
                self.stalls.append(self.described())
                await self._ask()
        return time.perf_counter() - start

    def described(self) -> str:
        """What the page shows, for messages."""
        kinds = Counter(element.kind for element in self.elements.values())
        runs = f"{self.num_made} of {self.num_asked} runs, {'running' if self.is_running else 'still'}"
        progress = [str(message.text) for message in self.of("progress")]
        return f"?{self.query}: {runs}, {len(self.timers)} timers, {dict(kinds)}, {progress}, last {list(self.heard)}"

    def of(self, kind: str) -> Iterator[Any]:
        """The messages of the page's elements of a kind, from above."""
        for path in sorted(self.elements):
            if self.elements[path].kind == kind:
                yield self.elements[path].message

    async def _ask(self, fragment: str = "", is_history: bool = False) -> None:
        """Have the page, or one of its fragments, made anew."""
        assert self.socket is not None
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash = self.query, self.page
        state.fragment_id, state.is_auto_rerun, state.is_history_navigation = fragment, bool(fragment), is_history
        state.widget_states.widgets.extend(self.states.values())
        if not fragment:
            self.is_running = True
            self.num_asked = self.num_made + 1
        self.heard.append(f"{time.monotonic():.2f} asked for {'a part' if fragment else 'the page'}")
        await self.socket.send(message.SerializeToString())

    async def _listen(self) -> None:
        assert self.socket is not None
        try:
            async for data in self.socket:
                assert isinstance(data, bytes)
                self.num_received += 1
                self.num_bytes += len(data)
                message = ForwardMsg()
                message.ParseFromString(data)
                self._hear(message)
                self.news.set()
        finally:
            self.news.set()

    def _hear(self, message: ForwardMsg) -> None:
        kind, run = message.WhichOneof("type"), message.metadata.run
        if kind != "delta":
            part = "a part" if run.fragment_ids else "the page"
            ended = ForwardMsg.ScriptFinishedStatus.Name(message.script_finished) if kind == "script_finished" else ""
            self.heard.append(f"{time.monotonic():.2f} {kind} {part} {run.script_run_id[-4:]} {ended}")
        if kind == "new_session":
            if self.is_whole_run and run.fragment_ids:
                self._end_whole_run()  # its end is not told where a fragment's run begins at the same moment
            self.is_running, self.run, self.is_whole_run = True, run.script_run_id, not run.fragment_ids
            if self.is_whole_run:
                self.page = message.new_session.page_script_hash
                self._stop_timers()
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "navigation":
            self.page = message.navigation.page_script_hash
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            what = element.WhichOneof("type")
            place = tuple(message.metadata.delta_path)
            self.elements[place] = Element(what, getattr(element, what), self.run, message.delta.fragment_id)
        elif kind == "auto_rerun":
            rerun = message.auto_rerun
            if rerun.fragment_id in self.timers:
                self.timers[rerun.fragment_id].cancel()
            self.timers[rerun.fragment_id] = asyncio.create_task(self._repeat(rerun.fragment_id, rerun.interval))
        elif kind == "script_finished":
            self._finish(message)

    def _finish(self, message: ForwardMsg) -> None:
        """A run has ended: what it has not made again is gone from its part of the page."""
        status, parts = message.script_finished, set(message.metadata.run.fragment_ids)
        if status == ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY:
            self.elements = {
                place: each
                for place, each in self.elements.items()
                if each.run == self.run or each.fragment not in parts
            }
        elif status != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            self._end_whole_run()
        self.is_whole_run = False
        self.is_running = self.is_running and status == ForwardMsg.FINISHED_EARLY_FOR_RERUN

    def _end_whole_run(self) -> None:
        self.elements = {place: each for place, each in self.elements.items() if each.run == self.run}
        self.num_made += 1

    def _stop_timers(self) -> None:
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()

    async def _repeat(self, fragment: str, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._ask(fragment)
