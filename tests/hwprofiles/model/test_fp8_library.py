"""The library's FP8 products: who has them, how their operands lie, and the check of a device."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration import kernels
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics import blockwise_library, check, comparing, library
from hwprofiles.calibration.numerics.blockwise import COLUMNS, ROWS, Blockwise, EmulatedBlockwise
from hwprofiles.calibration.numerics.blockwise_library import LibraryBlockwise
from hwprofiles.calibration.numerics.comparing import SMALL, Shape, compare, distance, products_of
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.quantise import Quantised, padded, quantise, transposed
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.numerics.rounded import RoundedBf16
from tests.hwprofiles.model.fp8_library import stand_in

CPU = torch.device("cpu")


def recipe(products: Blockwise[Any, Any]) -> Fp8:
    return Fp8("fp8-blockwise", products, RoundedBf16())


# Who has them


@pytest.mark.parametrize("name", ["fp8-blockwise", "fp8-row"])
def test_library_products_on_a_cpu_are_refused_with_the_remedy(name: str) -> None:
    told = rf"gemms: 'library': cpu has no FP8 products for recipe '{name}'.*needs a CUDA GPU.*use 'emulated'"
    with pytest.raises(CalibrationError, match=told):
        numerics(name, "cpu", "library")


def test_a_torch_without_scaled_mm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delattr(functional, "scaled_mm")
    reason = library.reason_against.__wrapped__(torch.device("cuda"), library.probe_block_wise)
    assert reason == "torch.nn.functional.scaled_mm is missing; torch 2.11 has it"


def test_a_gpu_without_the_products_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(device: torch.device) -> None:
        raise RuntimeError("only on compute capability 9.0\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    reason = library.reason_against.__wrapped__(torch.device("cuda"), probe)
    assert reason == "A GPU, compute capability 8.0: only on compute capability 9.0"


# The library's layouts


@pytest.mark.parametrize("shape", [*SMALL, Shape((3,), 128, 640), Shape((130,), 136, 144), Shape((0, 0, 17), 256, 384)])
def test_operands_lie_as_the_library_wants_them(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    ours, emulated = (
        products_of(recipe(products), shape, CPU) for products in (LibraryBlockwise(), EmulatedBlockwise())
    )
    for name, values in ours.items():
        assert values.shape == emulated[name].shape and distance(values, emulated[name]) < 1e-3, name


class InTorch:
    """What the kernels of one pass are to give."""

    @staticmethod
    def quantise_rows(x: Tensor, *, power_of_two: bool) -> tuple[Tensor, Tensor]:
        made = quantise(x, ROWS, power_of_two=power_of_two)
        return made.values, library.rows_innermost(made.scales)

    @staticmethod
    def quantise_columns(
        x: Tensor, scales: Tensor | None, num_columns: int, sources: Tensor, aligned: int, *, power_of_two: bool
    ) -> tuple[Tensor, Tensor]:
        numbers = x.float() if scales is None else Quantised(x, scales, ROWS).numbers
        rows = torch.where(sources[:, None] >= 0, numbers[sources.clamp(min=0), :num_columns], 0.0)
        made = quantise(padded(rows, (1, aligned)), COLUMNS, power_of_two=power_of_two)
        return transposed(made.values), made.scales


@pytest.mark.parametrize(
    "shape", [*SMALL, Shape((130,), 136, 144), Shape((16, 0, 1, 255), 384, 200), Shape((0,), 128, 128)]
)
def test_kernels_of_one_pass_get_the_rows_that_are_summed_over(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    monkeypatch.setattr(blockwise_library, "fused_kernels", lambda device: InTorch)
    ours, emulated = (
        products_of(recipe(products), shape, CPU) for products in (LibraryBlockwise(), EmulatedBlockwise())
    )
    for name, values in ours.items():
        assert values.shape == emulated[name].shape and distance(values, emulated[name]) < 1e-3, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_kernels_of_one_pass_quantise_as_torch_does() -> None:
    rows = list(comparing.compare_kernels(torch.device("cuda")))
    if not rows:
        pytest.skip("needs Triton and a C compiler")
    assert [row for row in rows if not row["equal"]] == []


@pytest.mark.parametrize("name", ["tiles", "streams", "swiglu", "permuting"])
def test_annotations_of_kernels_are_names_of_triton(name: str) -> None:
    """It refuses others when it compiles, which only a GPU's machine does."""
    tree = ast.parse((Path(kernels.__file__).parent / f"{name}.py").read_text())
    made = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    assert len(made) >= 4
    for kernel in made:
        named = [argument.annotation for argument in kernel.args.args] + [kernel.returns]
        allowed = {"tl.tensor", "tl.constexpr", "None", "tuple[tl.tensor, tl.tensor]"}
        assert {ast.unparse(name) for name in named if name} <= allowed


def test_a_gpu_whose_triton_fails_quantises_in_torch_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise NameError("no compiler")

    monkeypatch.setattr(blockwise_library, "find_spec", lambda name: name)
    monkeypatch.setattr(blockwise_library, "import_module", fails)
    reason = blockwise_library.reason_against_kernels.__wrapped__(torch.device("cuda"))
    assert reason == "NameError: no compiler"


def test_the_probe_runs_both_kinds_of_product(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    library.probe_block_wise(CPU)
    library.probe_row_wise(CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["fp8-blockwise", "fp8-row"])
def test_the_devices_products_are_the_emulated_ones(name: str) -> None:
    assert [row for row in compare(name, SMALL, torch.device("cuda"), "library") if not row["equal"]] == []


def test_the_check_runs_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "REPETITIONS", 2)
    monkeypatch.setattr(check, "WARM_UP", 0)
    assert check.main(["--small", "--device", "cpu", "-o", str(tmp_path / "check.json")]) == 0
    result = json.loads((tmp_path / "check.json").read_text())
    assert result["emulated_because"] == {"fp8-blockwise": "needs a CUDA GPU", "fp8-row": "needs a CUDA GPU"}
    assert result["kernels"] == [] and result["several_passes_because"] == "needs a CUDA GPU"
    assert len(result["products"]) == 6 and all(row["equal"] for row in result["products"])
    assert [(row["layer"], row["recipe"]) for row in result["times"]] == [
        (layer, name) for layer in ("dense", "experts") for name in ("bf16", "fp8-blockwise", "fp8-row")
    ]
    assert all(row["forward_s"] > 0 and row["backward_s"] > 0 for row in result["times"])
    assert all(value > 0 for row in result["parts"] for part, value in row.items() if part not in ("layer", "gemms"))


def test_a_product_that_differs_or_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    whole = EmulatedBlockwise.fprop
    monkeypatch.setattr(EmulatedBlockwise, "fprop", lambda *a: 1.01 * whole(*a))
    rows = list(compare_with(monkeypatch, LibraryBlockwise()))
    assert [row["equal"] for row in rows] == [False] * 3 and all(row["fprop"] > 0.005 > row["dgrad"] for row in rows)

    def fails(*_: Any) -> Tensor:
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED\nat")

    broken = LibraryBlockwise()
    monkeypatch.setattr(broken, "dgrad", fails)
    rows = list(compare_with(monkeypatch, broken))
    assert [(row["equal"], row["error"]) for row in rows] == [(False, "CUBLAS_STATUS_NOT_SUPPORTED")] * 3


def compare_with(monkeypatch: pytest.MonkeyPatch, products: Blockwise[Any, Any]) -> Iterator[dict[str, Any]]:
    """`compare` where "auto" gives these products."""
    by_gemms = {"emulated": recipe(EmulatedBlockwise()), "auto": recipe(products)}
    monkeypatch.setattr(comparing, "numerics", lambda name, device, gemms: by_gemms[gemms])
    return compare("fp8-blockwise", SMALL, CPU)
