"""The example of the documentation runs as printed there, from another folder, and says what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "docs" / "example.py"), "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"step \d+\.\d\d s \(\d+\.\d\d to \d+\.\d\d\)", lines[0])
    columns = [line.split() for line in lines if line.startswith("  ") and line.split()[0].endswith("_s")]
    step_s = float(lines[0].split()[1])
    for column in (1, 2, 3):
        assert abs(sum(float(row[column]) for row in columns) - step_s) < 0.01
    assert sum(bool(re.search(r": step \d+\.\d\d s, [+-]\d+\.\d%$", line)) for line in lines) == 2
    assert any(line.startswith("  warning: overrides[1]: parallel.overlap.ep") for line in lines)
    assert any("GPU-hours" in line for line in lines)
    assert any(" USD (" in line for line in lines)
