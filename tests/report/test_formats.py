"""Formats of a report: one family, the same bytes for the same input wherever it is made, nothing of the machine inside."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import not_modelled
from simulator.report.formats import FORMATS, ReportItem, format_of_suffix
from simulator.results.run_result import from_json
from tests.report.made import small_item
from tests.report.test_console import RESULT

ROOT = Path(__file__).parents[2]
MAKE = """
from tests.report.test_formats import hashes
print(hashes({simulated}))
"""


def hashes(simulated: bool) -> list[tuple[str, str]]:
    """(format, hash of the file) of one item, a simulated or a made-up one, and of two."""
    one = small_item() if simulated else ReportItem(RESULT, None, "why")
    both = [one, ReportItem(RESULT, None, "why")]
    return [
        (name, hashlib.sha256(FORMATS[name].render(items)).hexdigest())
        for name in FORMATS
        for items in (both[:1], both)
    ]


def test_a_format_is_found_by_its_name_and_by_its_suffix() -> None:
    assert {"csv", "html", "json", "md", "xlsx"} >= set(FORMATS) >= {"html", "json", "md"}
    for name in FORMATS:
        found = FORMATS[name]
        assert found.name == name
        assert format_of_suffix(found.suffix.upper()) is found
    assert len({FORMATS[name].suffix for name in FORMATS}) == len(FORMATS)
    assert format_of_suffix(".docx") is None


def test_what_is_planned_is_refused_as_planned() -> None:
    for entry in not_modelled.entries("format"):
        assert "not modelled yet" in str(FORMATS.problem(entry.name))


def test_json_is_the_result_document_and_of_several_a_list() -> None:
    one, other = ReportItem(RESULT), small_item()
    alone = FORMATS["json"].render([one]).decode()
    assert from_json(alone) == RESULT
    both = json.loads(FORMATS["json"].render([one, other]))
    assert both == [json.loads(alone), json.loads(FORMATS["json"].render([other]))]


@pytest.mark.slow
@pytest.mark.parametrize("simulated", [False, True])
def test_the_same_input_gives_the_same_bytes_wherever_it_is_made(simulated: bool, tmp_path: Path) -> None:
    elsewhere = {
        "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "HOME": str(tmp_path), "LANG": "C",
        "USER": "somebody",
    }  # fmt: skip
    command = [sys.executable, "-c", MAKE.format(simulated=simulated)]
    environment = {**os.environ, **elsewhere}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(hashes(simulated))


@pytest.mark.parametrize("name", ["html", "json", "md"])
def test_no_user_no_host_and_no_path_is_inside(name: str) -> None:
    text = FORMATS[name].render([ReportItem(RESULT)]).decode()
    private = [str(ROOT), str(Path.home()), socket.gethostname()]
    assert [word for word in private if len(word) > 3 and word in text] == []
