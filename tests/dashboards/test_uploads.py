"""Uploads are what their content is; whatever else comes is refused with one message, without growing in memory."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile

import pytest

from dashboards.source import UPLOADED, Source
from dashboards.uploads import Uploaded, read_upload
from simulator.check import load_scenario
from simulator.errors import InputError
from simulator.results.document import to_json
from simulator.run.training_run import simulate_run

SCENARIO = b"schema_version: 1\nextends: mixtral-8x22b\nname: mine\ndraws: 1\n"


def refused(data: bytes, name: str = "mine.yaml") -> str:
    with pytest.raises(InputError) as caught:
        read_upload(data, name)
    (problem,) = caught.value.problems
    text = str(problem)
    assert "\n" not in text and len(text) < 400
    return text


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "a" * 10_000_000)
    return packed.getvalue()


def test_a_scenario_is_one_whatever_its_name() -> None:
    for name in ("mine.yaml", "x.json", "../../etc/passwd", "C:" + "\\secret\\mine.yaml", "", "\x00", "a" * 10_000):
        assert read_upload(SCENARIO, name).source == Source(UPLOADED, SCENARIO.decode())
    assert read_upload(SCENARIO, "../../etc/passwd").name == "passwd"


def test_a_scenario_whose_keys_do_not_fit_is_taken_only_where_it_can_be_mended() -> None:
    unfit = b"schema_version: 1\nextends: mixtral-8x22b\nparallel: {pp: 3}\n"
    with pytest.raises(InputError, match="pp"):
        read_upload(unfit, "mine.yaml")
    assert read_upload(unfit, "mine.yaml", takes_unfit=True).source == Source(UPLOADED, unfit.decode())
    with pytest.raises(InputError, match="unknown"):
        read_upload(b"schema_version: 1\nextends: mixtral-8x22b\nparalel: {pp: 2}\n", "mine.yaml", takes_unfit=True)


def test_a_result_is_one_whatever_its_name() -> None:
    result = simulate_run(load_scenario("mixtral-8x22b", ["draws=1"]))
    data = to_json(result).encode()
    assert read_upload(data, "mine.yaml") == Uploaded("mine.yaml", result=result)
    assert read_upload(data, "mine.json").result == result
    assert "cut off" in refused(data[:-200]) or "ends" in refused(data[:-200])
    assert "schema_version" in refused(data.replace(b'"schema_version": 1', b'"schema_version": 7', 1))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(SCENARIO, mtime=0), "gzip"),
        (gzip.compress(b"a" * 50_000_000, mtime=0), "gzip"),
        (zipped(), "zip archive"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"\x7fELF\x02", "a program"),
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
        (b"caf\xe9: 1\n", "is not UTF-8"),
        ("schema_version: 1\n".encode("utf-16"), "UTF-8"),
        (b"x" * 21_000_000, "21,000,000 bytes; allowed 10,000,000"),
        (SCENARIO + b"# " + b"x" * 1_000_000, "a scenario has at most 1,000,000"),
        (b"a,b,c\n1,2,3\n", "is no scenario"),
        (b"<html><script>alert(1)</script></html>", "is no scenario"),
        (b"just words", "is no scenario"),
        (b"- 1\n- 2\n", "is no scenario"),
        (b"{}", "is no scenario"),
        (b'{"a": [', "not YAML"),
        (b"a: &x [1]\nb: *x\n", "anchor"),
        (b"a: !!python/object/apply:os.system ['true']\n", "tag"),
        (b"[" * 100, "levels deep"),
        (b"schema_version: 1\nname: a\x00b\n", "control character"),
        (b"k: [" + b"1," * 10_500 + b"1]", "more than 10000 values"),
    ],
)
def test_whatever_else_is_one_clear_message(data: bytes, says: str) -> None:
    assert says in refused(data)


def test_memory_does_not_grow_with_what_is_refused() -> None:
    bomb, large = gzip.compress(b"a" * 100_000_000), b"[]," * 3_000_000
    tracemalloc.start()
    for data in (bomb, b"{" + large, b'{"scenario": 1, "scenario_sha256": [' + large):
        with pytest.raises(InputError):
            read_upload(data, "x.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000
