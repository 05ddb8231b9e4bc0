"""The torch model's tests: skipped with the reason where torch is missing; on one thread: the test run has a process a core."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

HAS_TORCH = find_spec("torch") is not None

if HAS_TORCH:
    import torch

    torch.set_num_threads(1)


class NeedsTorch(pytest.Module):
    """A file of tests that is not imported."""

    def collect(self) -> Iterator[pytest.Item]:  # type: ignore[override]
        pytest.skip("needs torch: pip install 'moesim[calibrate]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Every file here is one of these where torch is missing."""
    return None if HAS_TORCH else NeedsTorch.from_parent(parent, path=module_path)
