"""How Streamlit is set up, every option of it: what a user's own configuration files say is not asked.

Loopback only, no usage statistics, no error details in the browser, nothing fetched from elsewhere, small uploads.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any, Final

from simulator.report import theme

LOOPBACK: Final = str(ipaddress.IPv4Address(socket.INADDR_LOOPBACK))
"""The address of this machine to itself."""
HOSTS: Final = (LOOPBACK, "localhost")
"""Names by which a browser on this machine may ask."""

MAX_UPLOAD_MB: Final = 10
MAX_MESSAGE_MB: Final = 50
MAX_WIDGET_STATE_MB: Final = 4
SESSION_TTL_S: Final = 120
"""How long a closed tab's state is kept, for a reload or a lost connection."""


def options(port: int) -> dict[str, Any]:
    """Every option of Streamlit and its value: ours, and Streamlit's default for the others."""
    from streamlit import config

    ours = {**_server(port), **_theme()}
    template = config._config_options_template
    unknown = sorted(set(ours) - set(template))
    assert not unknown, f"this release of Streamlit does not know {', '.join(unknown)}"
    return {
        name: ours.get(name, option.default_val) for name, option in template.items() if _is_plain(name, option, ours)
    }


def _is_plain(name: str, option: Any, ours: Mapping[str, Any]) -> bool:
    """Whether an option has a value here; the secret of a server's cookies is made when it starts."""
    return name in ours or not option.sensitive


def _server(port: int) -> dict[str, Any]:
    return {
        "server.address": LOOPBACK,
        "server.port": port,
        "server.headless": True,
        "server.allowedHosts": list(HOSTS),
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.xsrfCookieSameSite": "strict",
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.allowRunOnSave": False,
        "server.maxUploadSize": MAX_UPLOAD_MB,
        "server.maxMessageSize": MAX_MESSAGE_MB,
        "server.maxWidgetStateSize": MAX_WIDGET_STATE_MB,
        "server.maxCacheDataSize": "50mb",
        "server.disconnectedSessionTTL": SESSION_TTL_S,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": LOOPBACK,
        "browser.serverPort": port,
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "minimal",
        "client.allowedOrigins": [],
        "runner.magicEnabled": False,
        "runner.postScriptGC": False,
        "logger.level": "warning",
        "logger.hideWelcomeMessage": True,
        "secrets.files": [],
    }


def _theme() -> dict[str, Any]:
    """Light and dark, from the one palette; the browser's preference decides."""
    shared = {
        "theme.base": None,
        "theme.font": theme.FONT,
        "theme.headingFont": theme.FONT,
        "theme.codeFont": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
        "theme.headingFontSizes": ["1.75rem", "1.375rem", "1.125rem", "1rem", "1rem", "1rem"],
        "theme.metricValueFontSize": "1.5rem",
        "theme.paddingTop": "1rem",
        "theme.baseRadius": "small",
        "theme.showWidgetBorder": True,
        "theme.chartCategoricalColors": list(theme.SERIES),
    }
    return {**shared, **_colours("light"), **_colours("dark")}


def _colours(mode: theme.Mode) -> dict[str, Any]:
    page = theme.PAGES[mode]
    return {
        f"theme.{mode}.primaryColor": page.accent,
        f"theme.{mode}.linkColor": page.accent,
        f"theme.{mode}.backgroundColor": page.background,
        f"theme.{mode}.secondaryBackgroundColor": page.surface,
        f"theme.{mode}.textColor": page.text,
        f"theme.{mode}.borderColor": page.line,
    }
