"""Traces are read whole or refused with one message; what can still be used is, with a warning."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from hwprofiles.record_file import CatalogError
from hwprofiles.traces import events
from hwprofiles.traces.reading import read_trace
from tests.traces.kineto import ADD, GEMM, document, kernel, launch, operator, step, write

SMALL = [
    operator(1, "aten::mm", [[4, 8], [8, 2]], ["float", "float"]),
    launch(5, 10.0),
    kernel(GEMM, 20.0, 4.0, number=5, op=1),
]


@pytest.mark.parametrize("name", ["t.json", "t.json.gz", "gzipped-but-not-named-so"])
def test_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, SMALL)
    if "not-named" in name:
        path.write_bytes(gzip.compress(path.read_bytes()))
    trace = read_trace(path)
    activity = trace.activity
    assert trace.names[activity.name[0]] == GEMM
    assert activity.seconds[0] == pytest.approx(4e-6)
    assert activity.start_s[0] - activity.launch_s[0] == pytest.approx(10e-6)
    (place,) = np.flatnonzero(trace.calls.external == activity.external[0])
    call = trace.operators[trace.calls.operator[place]]
    assert (call.name, call.dims, call.types) == ("aten::mm", ((4, 8), (8, 2)), ("float", "float"))
    assert trace.device_names == {0: "NVIDIA H200"} and trace.has_shapes


def test_list_of_events_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(SMALL))
    assert len(read_trace(path).activity) == 1


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Numbers, texts with quotes, several bytes a letter: the same whatever the file is read in."""
    path = tmp_path / "t.json"
    names = ['with "quotes" and \\ and }', "größer ✓", GEMM]
    listed = [kernel(name, 100.125 * place, 12.5 + place) for place, name in enumerate(names)]
    path.write_bytes(json.dumps(document(listed, other=[1.5, {"a": "]"}]), ensure_ascii=False).encode())
    whole = read_trace(path)
    monkeypatch.setattr(events, "CHUNK_BYTES", chunk)
    parts = read_trace(path)
    assert parts.names == whole.names == tuple(names)
    assert np.array_equal(parts.activity.end_s, whole.activity.end_s)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello", "no JSON"),
        (b'{"a": 1}', "no list traceEvents"),
        (b'{"scenario": {"name": "x"}, "step": 1}', "keys: scenario, step"),
        (b'{"traceEvents": []}', "no kernel"),
        (b'{"traceEvents": [3]}', "no object"),
        (b'{"traceEvents": [{"ph": "X", "ts": 1}, {"ph": ', "cut off"),
        (b'{"traceEvents": [{"ph": "X"}', "cut off"),
        (b'{"traceEvents": [{"ph": "X"}]', "cut off"),
        (b'{"traceEvents": [{"ph": "X", "name": "half', "cut off"),
        (b'{"traceEvents": [{"ph": X, "name": 1}]}' + b" " * 100, "broken JSON"),
        (b'{"traceEvents" [1]}' + b" " * 100, "broken JSON"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=message) as caught:
        read_trace(path)
    assert len(caught.value.problems) == 1 and "t.json" in str(caught.value)


def test_cut_gzip_and_missing_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json.gz", SMALL * 200)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CatalogError, match="cut off or damaged"):
        read_trace(path)
    with pytest.raises(CatalogError, match="cannot be read"):
        read_trace(tmp_path / "none.json")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_trace(tmp_path)


def test_cpu_only_trace_says_how_to_record(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"CPU operators, but no kernel.*ProfilerActivity\.CUDA"):
        read_trace(write(tmp_path / "t.json", SMALL[:2]))


@pytest.mark.parametrize("bad", [-1.0, math.nan, None, "x"])
def test_durations_that_cannot_be(tmp_path: Path, bad: object) -> None:
    """Left out and said; none but them: refused."""
    wrong = kernel(ADD, 30.0, 1.0) | {"dur": bad}
    trace = read_trace(write(tmp_path / "t.json", [*SMALL, wrong, wrong]))
    assert len(trace.activity) == 1
    assert any(line.startswith("2 kernels") for line in trace.warnings)
    with pytest.raises(CatalogError, match="none of its 2 kernels has a duration"):
        read_trace(write(tmp_path / "u.json", [wrong, wrong]))


def test_overlap_on_a_stream_is_said(tmp_path: Path) -> None:
    apart = [kernel(GEMM, 0.0, 10.0), kernel(ADD, 9.95, 10.0), kernel(ADD, 5.0, 4.0, stream=8)]
    assert not read_trace(write(tmp_path / "t.json", apart)).warnings
    (said,) = read_trace(write(tmp_path / "u.json", [*apart, kernel(ADD, 15.0, 4.0)])).warnings
    assert "overlap on their stream" in said


def test_launches_of_several_processes_tell_nothing(tmp_path: Path) -> None:
    merged = [launch(5, 1.0, pid=1), launch(5, 2.0, pid=2), launch(6, 3.0, pid=1)]
    merged += [kernel(GEMM, 20.0, 4.0, number=5), kernel(GEMM, 30.0, 4.0, number=6), kernel(GEMM, 40.0, 4.0, number=99)]
    trace = read_trace(write(tmp_path / "t.json", merged))
    assert np.isnan(trace.activity.launch_s).tolist() == [True, False, True]
    assert trace.activity.launch_pid.tolist() == [-1, 1, -1]
    assert "give a file a rank" in trace.warnings[0]


def test_facts_of_the_head(tmp_path: Path) -> None:
    head = {
        "cuda_runtime_version": 12080,
        "distributedInfo": {"rank": 3, "world_size": 16},
        "baseTimeNanoseconds": 1_790_857_026 * 10**9,
    }
    trace = read_trace(write(tmp_path / "t.json", [*SMALL, step(4, 0.0, 9.0)], **head))
    assert (trace.rank, trace.world_size, trace.versions["CUDA"], trace.date) == (3, 16, "12.8", "2026-10-01")
    assert [trace.names[name] for name in trace.marks.name] == ["ProfilerStep#4"]
    assert read_trace(write(tmp_path / "u.json", SMALL)).date == ""


def test_a_time_that_cannot_be_is_left_out(tmp_path: Path) -> None:
    """One kernel ages after the others: no step lasts so long, and the warning counts it."""
    trace = read_trace(write(tmp_path / "t.json", [*SMALL, kernel(GEMM, 1e300, 4.0, number=6, op=1)]))
    assert len(trace.activity) == 1
    assert any(line.startswith("1 kernels") for line in trace.warnings)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"traceEvents": ' + "[" * 100_000])
def test_deep_nesting_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=r"t\.json: is no trace: its JSON is nested too deep"):
        read_trace(path)
