"""The bench of own kernels: what it counts, what it compares, and that a wrong kernel does not pass."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernel_bench import cli, correct, operands, rows, shapes, summary
from hwprofiles.calibration.kernel_bench.save import save_table
from hwprofiles.calibration.kernel_bench.shapes import Product
from hwprofiles.calibration.kernel_bench.turns import Times, Turns
from hwprofiles.calibration.kernels import products
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.gemm_formula import moved_bytes

CPU = torch.device("cpu")
ODD = Product("fprop", (5, 0, 40), 128, 128)


def test_products_are_of_equal_flop_in_all_passes_and_count_no_padding() -> None:
    for product in (*shapes.dense(small=False), *shapes.grouped(small=False)):
        assert product.flop == 2.0 * product.rows * product.n * product.k
        assert product.bytes == pytest.approx(moved_bytes(product.size), rel=0.04), (
            "but for scales, the formula's bytes"
        )
    assert Product("fprop", (4096,), 2112, 7168).padded == (2176, 7168)
    assert sum(shapes.UNEVEN) == sum(shapes.EVEN) and not any(count % 16 for count in shapes.UNEVEN)
    assert len({product.name for product in shapes.dense(small=False)}) == 12 + 6 + 12


@pytest.mark.parametrize("variant", shapes.PASSES)
def test_right_products_pass(variant: shapes.Pass) -> None:
    found = list(correct._checked(operands.of(Product(variant, ODD.counts, 128, 128), CPU), "triton"))
    assert found and all(each.right for each in found), found


def _unscaled(out: Tensor) -> None:
    out[-1] *= 1.05


def _unwritten(out: Tensor) -> None:
    out[3, 5] = math.nan


def _beyond(out: Tensor) -> None:
    out.untyped_storage()  # the row behind the last one, which is of the border
    torch.as_strided(out, (1,), (1,), out.storage_offset() + out.numel()).fill_(7.0)


@pytest.mark.parametrize("spoil", [_unscaled, _unwritten, _beyond])
def test_a_spoiled_product_does_not_pass(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = products.fprop

    def wrong(*given: Any, out: Tensor, **more: Any) -> Tensor:
        right(*given, out=out, **more)
        spoil(out)
        return out

    made = operands.of(Product("fprop", (1,) if spoil is _unscaled else (8,), 128, 128), CPU)
    assert all(each.right for each in correct._checked(made, "triton"))
    monkeypatch.setattr(products, "fprop", wrong)
    assert not any(each.right for each in correct._checked(made, "triton"))


def test_turns_take_one_call_of_each_a_round_and_give_medians() -> None:
    order: list[str] = []
    times = Turns(CPU, rounds=3).times({name: lambda name=name: order.append(name) for name in ("a", "b")})  # type: ignore[misc]
    assert {name: found.calls for name, found in times.items()} == {"a": 3, "b": 3}
    assert order[-6:] == ["a", "b", "b", "a", "a", "b"]
    assert all(found.low <= found.seconds <= found.high for found in times.values())


def test_shares_are_of_the_datasheet() -> None:
    gpu = load_gpu("h100")
    half = Times(2.0, 2.0, 2.0, 15, 1.7e9)
    found = rows.row(rows.What({}, gpu.peak_flop_per_s["fp8"], gpu.hbm_bytes_per_s / 4.0), "moesim", half, gpu)
    assert (found["peak_share"], found["roofline_share"]) == (0.5, 0.5)
    moved = rows.row(rows.What({}, 0.0, gpu.hbm_bytes_per_s, moves=True), "moesim", half, gpu)
    assert (moved["peak_share"], moved["roofline_share"]) == (0.5, 0.5)


def _row(name: str, library: str, variant: str, seconds: float, **more: Any) -> dict[str, Any]:
    cells = {"kind": "dense", "name": name, "variant": variant, "m": 4, "n": 8, "k": 16, "loads": "4"}
    return {**cells, "library": library, "seconds": seconds, "tflops": 1.0 / seconds, "gb_per_s": 1.0 / seconds, **more}


def test_a_summary_has_geometric_means_and_says_what_is_reached() -> None:
    own = [_row("a", "moesim", "fprop", 1.0), _row("b", "moesim", "fprop", 2.0, m=5, loads="5")]
    other = [_row("a", "torch-block", "fprop", 2.0), _row("b", "torch-block", "fprop", 1.0)]
    wgrad = _row("c", "moesim", "wgrad", 1.25, m=8, n=16, k=4)
    failed = {**_row("d", "moesim", "fprop", 1.0), "seconds": None}
    found = {line["what"]: line for line in summary.summary([*own, *other, wgrad, failed])}
    dense = found["dense fprop over cuBLAS block-wise"]
    assert (dense["mean"], dense["least"], dense["most"], dense["reached"]) == (1.0, 0.5, 2.0, True)
    assert found["wgrad over fprop of equal FLOP"]["mean"] == pytest.approx(0.8)
    assert "0.800" in "\n".join(summary.lines(found.values()))
    streamed = [
        _row("q", library, "stream", seconds, kind="streaming")
        for library, seconds in (("copy", 1.0), ("moesim", 1.25))
    ]
    (line,) = summary.summary(streamed)
    assert line["mean"] == pytest.approx(0.8) and not line["reached"]


def test_the_command_rehearses_on_a_cpu_and_its_rows_become_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "SMALL_DENSE", ((128, 128),))
    out = tmp_path / "bench.json"
    assert cli.main(["-o", str(out), "--device", "cpu", "--only", "dense"]) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    assert {row["library"] for row in document["rows"]} == {"moesim", "moesim-added"}
    save_table(out, tmp_path / "bench.csv")
    header, *lines = (tmp_path / "bench.csv").read_text(encoding="utf-8").splitlines()
    assert header.split(",") == list(rows.COLUMNS) and len(lines) == len(document["rows"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--only", "dens"], "'dens' is no part; allowed correct, dense"),
        (["--table", "/no/such.json"], "is no result of the bench"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["-o", str(tmp_path / "x.json"), "--device", "cpu", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_document_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"rows": 3}')
    with pytest.raises(CalibrationError, match="is no result of the bench"):
        save_table(tmp_path / "other.json", tmp_path / "x.csv")
