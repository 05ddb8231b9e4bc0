"""The page that a browser loads first: Streamlit's own with our title, told where its server is, without what is not used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dashboards.views import PAGES
from simulator.report import theme

PATHS: Final = frozenset({"/", *(f"/{page.slug}" for page in PAGES)})
"""Addresses that are pages."""

_SERVER: Final = "<script>window.__streamlit = { BACKEND_BASE_URL: `${window.location.origin}/` };</script>"
"""Else the browser looks for the server below the page's own address first, which is an error in its console."""

_SKIP: Final = f"""
<style>
  [data-tag], [data-tag] *, [data-testid^=stBaseButton-primary], [data-testid^=stBaseButton-primary] * {{
    color: light-dark({theme.PAGES["light"].background}, {theme.PAGES["dark"].background}) !important;
  }}
  #skip {{ position: fixed; left: 0.5rem; top: -4rem; z-index: 1000000; padding: 0.5rem 1rem; }}
  #skip:focus {{ top: 0.5rem; }}
</style>
<button id="skip" onclick="const main = document.querySelector('[data-testid=stMain]');
  if (main) {{ main.tabIndex = -1; main.focus(); }}">Skip to the page</button>
"""
"""Words on the accent's colour stand out in both themes; first stop of those who use a keyboard: past the navigation."""

_NOSCRIPT: Final = re.compile(r"<noscript>.*?</noscript>", re.DOTALL)
_WITHOUT: Final = (
    "<noscript><p>These pages need JavaScript. Without it: moesim run, moesim report, moesim compare.</p></noscript>"
)
_TITLE: Final = re.compile(r"<title>.*?</title>", re.DOTALL)
_UNUSED: Final = re.compile(r"<link\s+rel=\"(?:preload|service-desc)\".*?/>", re.DOTALL)
_COMMENT: Final = re.compile(r"<!--.*?-->\s*", re.DOTALL)


def index_page() -> bytes:
    """The HTML of the page."""
    import streamlit

    assert streamlit.__file__ is not None
    text = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    head, body, rest = _UNUSED.sub("", _COMMENT.sub("", text)).partition("<body>")
    head = _TITLE.sub("<title>moesim</title>", head).replace("<head>", f"<head>{_SERVER}", 1)
    return f"{head}{body}{_SKIP}{_NOSCRIPT.sub(_WITHOUT, rest)}".encode()
