"""Where public traces and tables are, which are not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    if not REFERENCE.is_dir():
        pytest.skip("public tables are not part of the repository")
    return REFERENCE
