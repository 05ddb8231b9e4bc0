"""The code of docs/model.md runs as it is printed, and says what the page says."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs/model.md"


def test_the_code_of_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    loss, moe, counts = capsys.readouterr().out.splitlines()
    told = re.search(r"# ([0-9.]+): nothing is learned yet; ln 256 is ([0-9.]+)", page)
    assert told is not None and float(loss) == pytest.approx(float(told[1]), abs=0.005)
    assert float(told[2]) == pytest.approx(math.log(256), abs=0.005)
    assert "is_normalised=False, weight_scale=16.0" in moe
    forward, of_inputs, of_weights, kept = (int(count) for count in counts.split())
    assert forward == of_inputs == of_weights > kept > 0
