"""Opens pages of the dashboard in Streamlit's own test runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import dashboards
from dashboards.views import PAGES

APP = Path(dashboards.__file__).with_name("app.py")
TIMEOUT_S = 60.0


def opened(slug: str = "what_if", **link: str) -> AppTest:
    """A page after its first run. link: parameters of its address ("from_" stands for "from")."""
    test = AppTest.from_file(str(APP), default_timeout=TIMEOUT_S)
    for name, text in link.items():
        test.query_params[name.rstrip("_")] = text
    if slug != PAGES[0].slug:
        test._page_hash = calc_hash(slug)  # switch_page knows pages that are files alone
    return test.run()


def link_of(test: AppTest) -> dict[str, Any]:
    """The parameters of the page's link now."""
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in test.query_params.items()}


def texts(test: AppTest) -> str:
    """All that the page says in headings, text, captions, warnings and errors."""
    kinds = (test.title, test.header, test.subheader, test.markdown, test.caption, test.warning, test.error, test.info)
    return "\n".join(str(element.value) for kind in kinds for element in kind)
