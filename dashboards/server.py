"""Serves the dashboard to the browsers of this machine, until it is interrupted."""

from __future__ import annotations

import gc
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from dashboards import answers, jobs
from dashboards.index_page import PATHS, index_page
from dashboards.late_timers import let_go_of_late_timers
from dashboards.link import MAX_LINK, OVERLONG, Asked
from dashboards.settings import HOSTS, LOOPBACK, MAX_MESSAGE_MB, options
from hwprofiles.units import MEBI
from simulator.errors import InputError, Problem

APP: Final = Path(__file__).with_name("app.py")
NEAR: Final = 20
"""Ports above the one asked for among which a free one is looked for, to be named."""

POLICY: Final = "; ".join(
    (
        "default-src 'self'", "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:", "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:", "font-src 'self' data:", "connect-src 'self' data: blob:", "media-src 'self' data: blob:",
        "worker-src 'self' blob:", "frame-src 'self' data: blob:", "object-src 'none'", "base-uri 'self'",
        "form-action 'self'", "frame-ancestors 'none'",
    )
)  # fmt: skip
"""What the browser itself keeps pages to: nothing from another host, shown in no other page."""
HEADERS: Final = tuple(
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }.items()
)
MAX_REQUEST_BYTES: Final = 2_000_000
"""Longest head of a request: a link of any length that a browser sends is answered."""


def bind(port: int) -> socket.socket:
    """A listening socket of this machine's own address. Raises InputError where the port is in use or not allowed."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        why = "is in use" if not isinstance(error, PermissionError) else "needs rights that you do not have"
        raise InputError([Problem("", "--port", f"{port} {why}; use --port {free_port(port)}")]) from None
    return listener


def free_port(near: int) -> int:
    """A port that is free now: one of the next, else any."""
    for port in (*range(max(near, 1024) + 1, min(max(near, 1024) + NEAR, 65536)), 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise InputError([Problem("", "--port", "no port of this machine is free")])


def serve(port: int, opens_browser: bool) -> None:
    """Serve until an interrupt; the page that opens by itself is computed already. Raises InputError: a port in use."""
    listener = bind(port)
    try:
        _configure(listener.getsockname()[1])
        _run(listener, opens_browser)
    finally:
        listener.close()
        jobs.close()


def _configure(port: int) -> None:
    """Give every option of Streamlit its value, over whatever configuration files say."""
    from streamlit import config

    config.get_config_options(force_reparse=True, options_from_flags=options(port))
    let_go_of_late_timers()


def _run(listener: socket.socket, opens_browser: bool) -> None:
    import uvicorn
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from streamlit.starlette import App

    address = f"http://{LOOPBACK}:{listener.getsockname()[1]}"

    @asynccontextmanager
    async def announced(app: Any) -> AsyncIterator[None]:
        answers.of(Asked().source, wait_s=0.0)
        gc.collect()
        gc.freeze()
        print(f"moesim dashboard: {address} (Ctrl-C ends it)", flush=True)
        if opens_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        yield

    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False), Middleware(_Guard)]
    app = App(APP, lifespan=announced, middleware=guards)
    settings = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_MB * MEBI,
        access_log=False,
        log_level="warning",
        server_header=False,
        http="h11",
        h11_max_incomplete_event_size=MAX_REQUEST_BYTES,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(settings).run(sockets=[listener])


class _Guard:
    """Puts the policy on every answer, our own page in the place of Streamlit's, a short link for one that no page can hold."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.page = index_page()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        is_page = scope["type"] == "http" and scope["path"] in PATHS and scope["method"] in ("GET", "HEAD")
        if scope["type"] == "http" and len(scope["query_string"]) > MAX_LINK:
            await _answer(sent, 303, b"", location=f"?{OVERLONG}=1")
        elif is_page:
            body = b"" if scope["method"] == "HEAD" else self.page
            await _answer(sent, 200, body, **{"content-type": "text/html; charset=utf-8", "cache-control": "no-cache"})
        else:
            await self.app(scope, receive, sent)


async def _answer(send: Any, status: int, body: bytes, **headers: str) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
