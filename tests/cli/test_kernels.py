"""`moesim kernels`: a row for every row, physical answers on every stack, and errors that name line and column."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.catalog import load_gpu
from hwprofiles.kernel_answers import KernelAnswers
from hwprofiles.kernels.shape import KERNELS, PEAK_OF_DTYPE, KernelShape
from hwprofiles.power.model import Load, solve
from hwprofiles.stack_choice import load_stack
from simulator.cli.app import main
from tests.stack_folder import write_folder

STACKS = (
    "h800-notrace",
    "h800-deepseek-2024",
    "h100-measured",
    "h100-public",
    "h200-public",
    "b200-public",
    "gb200-transfer",
)
FORMATS = ("bf16", "fp8-block", "fp8-row", "fp8-tensor", "mxfp8", "nvfp4")


def answers(capsys: pytest.CaptureFixture[str], stack: str, path: Path, text: str) -> list[dict[str, Any]]:
    path.write_text(text)
    assert main(["kernels", stack, str(path), "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return rows


def refused(capsys: pytest.CaptureFixture[str], path: Path, text: str) -> str:
    path.write_text(text)
    assert main(["kernels", "h100-public", str(path)]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err


def broad_list() -> str:
    """Kernels of every kind and format, sizes from one row to a million."""
    lines = ["op,dtype,m,n,k,groups,batch,seq,heads,kv_heads,head_dim_qk,head_dim_v,bytes,regime"]
    for clock in ("", "sustained"):
        for dtype in FORMATS:
            lines += [f"gemm,{dtype},{m},7168,2048,,,,,,,,,{clock}" for m in (1, 500, 4096, 10**6)]
            lines += [f"grouped_gemm,{dtype},{m},4096,7168,32,,,,,,,,{clock}" for m in (64, 8192, 131072)]
        for op in ("attention_fwd", "attention_bwd"):
            lines += [f"{op},bf16,,,,,1,{seq},128,,192,128,,{clock}" for seq in (512, 4096, 65536)]
            lines += [f"{op},bf16,,,,,2,{seq},32,8,128,128,,{clock}" for seq in (512, 4096, 65536)]
    lines += [
        f"{op},,,,,,,,,,,,{size}," for op, kind in KERNELS.items() if kind.bound == "memory" for size in (10**6, 10**9)
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_answers_every_row_within_physics(
    stack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = broad_list()
    rows = answers(capsys, stack, tmp_path / "shapes.csv", text)
    assert len(rows) == len(text.splitlines()) - 1
    gpu = load_gpu(stack.split("-")[0])
    before: dict[str, Any] = {}
    for row in rows:
        if "error" in row:
            assert "basis" not in row and "seconds" not in row
            assert stack.startswith("h800") or row["dtype"] == "nvfp4"
            continue
        assert 0 < row["low"] <= row["seconds"] <= row["high"]
        assert row["basis"] in ("measured", "interpolated", "extrapolated", "transferred", "assumed")
        sizes = {
            name: row[name]
            for name in ("m", "n", "k", "batch", "seq", "heads", "head_dim_qk", "head_dim_v")
            if row[name]
        }
        shape = KernelShape(row["op"], dtype=row["dtype"] or "bf16", bytes=row["bytes"] or 0, **sizes)
        if shape.bound == "memory":
            assert shape.bytes / row["seconds"] < gpu.hbm_bytes_per_s
        else:
            assert shape.flop_of_sizes / row["seconds"] < gpu.peak_flop_per_s[PEAK_OF_DTYPE[shape.dtype]]  # type: ignore[index]
        alike = {**row, "m": 0, "seq": 0, "bytes": 0, "seconds": 0, "low": 0, "high": 0, "basis": 0}
        if stack.endswith(("-public", "-transfer")) and alike == before.get("alike"):
            assert row["seconds"] >= before["seconds"], "more rows are never faster"
        before = {"alike": alike, "seconds": row["seconds"]}


def test_a_loop_of_one_kernel_is_as_fast_as_its_watts_allow() -> None:
    """Of an FP8 GEMM of a million rows the mean power is the board's limit, to a watt; a copy draws less and loses nothing."""
    stack = load_stack("h100-public")
    found, shape = KernelAnswers(stack), KernelShape("gemm", "fprop", "bf16", m=2**20, n=8192, k=8192)
    burst, long = (found.cost(shape, clock).seconds for clock in ("burst", "sustained"))
    power, chip = found.power, found.power.chip(found.gpu.tdp_w)
    flop_j, byte_j = power.flop_j(shape, shape.flop_of_sizes), power.byte_j(2.0 * (2**20 * 16384 + 8192**2))
    first = burst  # the public constants are of first launches
    speed = first / long
    assert speed < 0.95 and speed == pytest.approx(solve(Load(first, 0.0, flop_j, byte_j), chip), rel=1e-9)
    watts = chip.p0_w + (flop_j * chip.scale(speed) + byte_j) / long
    assert watts == pytest.approx(found.gpu.tdp_w, abs=1.0)
    copy = KernelShape("copy", bytes=10**9)
    assert found.cost(copy, "sustained") == found.cost(copy, "burst")


def test_a_folder_answers_with_its_own_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "mine")
    text = "op,m,n,k\ngemm,4096,4096,4096\ngemm,4096,4096,4000\n"
    own, near = answers(capsys, str(folder), tmp_path / "shapes.csv", text)
    assert (own["seconds"], own["basis"], near["basis"]) == (4e-4, "measured", "interpolated")


def test_csv_keeps_the_columns_and_adds_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "shapes.csv", tmp_path / "answer.csv"
    path.write_text("my label,op,dtype,m,n,k\nhead,gemm,bf16,4096,129280,7168\nhead,gemm,nvfp4,4096,129280,7168\n")
    assert main(["kernels", "h100-public", str(path)]) == 0
    printed = capsys.readouterr().out
    assert main(["kernels", "h100-public", str(path), "-o", str(out)]) == 0 and out.read_text() == printed
    good, bad = csv.DictReader(io.StringIO(printed))
    assert list(good) == ["my label", "op", "dtype", "m", "n", "k", "seconds", "low", "high", "basis", "error"]
    assert good["my label"] == "head" and float(good["seconds"]) > 0 and not good["error"]
    assert "no fp4 peak" in bad["error"] and not bad["seconds"]
    assert main(["kernels", "h100-public", str(path), "-o", str(out)]) == 2
    assert "--force replaces it" in capsys.readouterr().err


def test_uneven_loads_cost_more_than_even_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "op,n,k,loads\ngrouped_gemm,4096,7168,1024 1024 1024 1024\ngrouped_gemm,4096,7168,2900 700 300 196\n"
    even, uneven = answers(capsys, "h100-public", tmp_path / "shapes.csv", text)
    assert uneven["seconds"] > even["seconds"]


def test_loads_of_a_weight_gradient_are_its_summed_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "op,dtype,variant,m,n,k,groups,loads\ngrouped_gemm,fp8-row,wgrad,2048,1408,4096,4,\n"
        "grouped_gemm,fp8-row,wgrad,2048,1408,,,1024 1024 1024 1024\n"
        "grouped_gemm,fp8-row,wgrad,2048,1408,4096,4,2900 700 300 196\n"
    )
    even, of_loads, uneven = answers(capsys, "h100-measured", tmp_path / "shapes.csv", text)
    assert of_loads["seconds"] == even["seconds"] < uneven["seconds"]


def test_a_weight_gradient_that_is_only_written_moves_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "op,variant,m,n,k,groups,result\n" + "".join(
        f"grouped_gemm,wgrad,2048,1408,1024,32,{result}\n" for result in ("", "added", "fp32", "bf16")
    )
    usual, added, fp32, bf16 = (row["seconds"] for row in answers(capsys, "h100-public", tmp_path / "s.csv", text))
    assert usual == added > fp32 > bf16


def test_what_is_left_out_has_its_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = "attention_fwd,1,4096,32,128"
    columns = "op,batch,seq,heads,head_dim_qk,causal,kv_heads,regime,dtype"
    text = f"{columns}\n{sizes},,,,\n{sizes},TRUE,32,burst,bf16\n{sizes},false,,,\n"
    bare, full, whole = answers(capsys, "h100-public", tmp_path / "shapes.csv", text)
    assert bare["seconds"] == full["seconds"] < whole["seconds"]
    assert (bare["causal"], full["causal"], full["kv_heads"]) == (None, True, 32)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("op,m,n,k\ngem,1,2,3\n", ':2: op: is not one of the allowed values ("gem")'),
        ("op,m,n,k\ngemm,1,2,3\ngemm,1.5,2,3\n", ':3: m: is no whole number of 1 to'),
        ("op,m,n,k\ngemm,nan,2,3\n", ":2: m: is no whole number"),
        ("op,m,n,k\ngemm,1,-2,3\n", ":2: n: is no whole number"),
        ("op,m,n\ngemm,1,2\n", ":2: k: is missing; gemm needs m, n, k"),
        ("op,m,n,k\ngrouped_gemm,1,2,3\n", ":2: groups: is missing"),
        ("op,m,n,k,dtype\ngemm,1,2,3,fp7\n", ":2: dtype: is not one of the allowed values"),
        ("op,m,n,k,regime\ngemm,1,2,3,steady\n", ":2: regime: is not one of the allowed values"),
        ("op,batch,seq,heads,kv_heads,head_dim_qk\nattention_fwd,1,4096,32,5,128\n", ":2: kv_heads: 5 does not divide heads"),
        ("op,seq,heads,kv_head\nattention_fwd,1,2,3\n", ":1: kv_head: unknown column; did you mean kv_heads?"),
        ("op,Head_Dim_QK\nattention_fwd,1\n", ":1: Head_Dim_QK: unknown column; did you mean head_dim_qk?"),
        ("op,M,n,k\ngemm,1,2,3\n", ":1: M: unknown column; did you mean m?"),
        ("op,m,n,k,seconds\ngemm,1,2,3,4\n", ":1: seconds: is a column of the answer"),
        ("op,op\ngemm,gemm\n", ":1: op: the column stands there twice"),
        ("m,n\n1,2\n", ":1: op: the column is missing"),
        ("op,m\ngemm\n", ":2: 1 cells, and there are 2 columns"),
        ("op,bytes\n", ":1: no row follows"),
        ("", "is empty"),
        ("op,n,k,m,loads\ngrouped_gemm,1,2,9,4 4\n", ":2: loads: 8 together, but m is 9"),
        ("op,variant,m,n,k,loads\ngrouped_gemm,wgrad,8,2,9,4 4\n", ":2: loads: 8 together, but k is 9"),
        ('op,m\n"gemm,1\n', "cannot be read as CSV"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_with_line_and_column(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"shapes.csv{words}" in refused(capsys, tmp_path / "shapes.csv", text).replace("shapes.csv: ", "shapes.csv")


def test_all_problems_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, tmp_path / "shapes.csv", "op,m,n,k\ngemm,x,2,3\nnorm,1,2,3\n").splitlines()
    assert len(told) == 2
    assert main(["kernels", "h100-pubic", str(tmp_path / "shapes.csv")]) == 2
    assert main(["kernels", "h100-public", str(tmp_path / "none.csv")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_library_that_the_stack_lacks_is_told_with_the_call_and_a_remedy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (row,) = answers(
        capsys, "h100-public", tmp_path / "shapes.csv", "op,dtype,library,m,n,k\ngemm,fp8-block,moesim,64,128,256\n"
    )
    assert (
        "for op=gemm variant=fprop dtype=fp8-block m=64 n=128 k=256 library=moesim; leave the library out"
        in row["error"]
    )
    assert row["error"].endswith("of `moesim calibrate` of a GPU that runs it") and not row.get("seconds")
