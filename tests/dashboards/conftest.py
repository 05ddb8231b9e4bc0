"""Pages without a browser and without processes: the work is done at once, where the page is made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dashboards import jobs
from tests.dashboards.inline import Inline


@pytest.fixture
def inline_jobs() -> Iterator[Inline]:
    """Work is done here and now; what was asked for stands in `.jobs`."""
    inline = Inline()
    jobs.install(inline)
    yield inline
    jobs.install(None)
