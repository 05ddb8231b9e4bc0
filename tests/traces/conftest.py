"""Where public traces and tables are, which are not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.traces import kineto


@pytest.fixture(scope="session")
def reference() -> Path:
    if not kineto.REFERENCE.is_dir():
        pytest.skip("public tables are not part of the repository")
    return kineto.REFERENCE
