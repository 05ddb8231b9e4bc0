"""Every page opens, with and without a link, and the link stays what is shown."""

from __future__ import annotations

import pytest

from dashboards.views import PAGES
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

SMALL = {"preset": "mixtral-8x22b", "draws": "1"}


@pytest.mark.parametrize("slug", [page.slug for page in PAGES])
def test_every_page_opens(slug: str, inline_jobs: Inline) -> None:
    page = opened(slug, **SMALL)
    assert not page.exception
    assert [title.value for title in page.title] == [next(each.title for each in PAGES if each.slug == slug)]
    assert not page.error, texts(page)
    assert link_of(page) == SMALL
