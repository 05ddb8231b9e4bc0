"""What kernels mean at scale: a limit that no kernel beats, own kernels beside another stack's, and the table."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from hwprofiles.catalog import load_gpu, read_stack
from hwprofiles.kernel_answers import moved_bytes
from hwprofiles.kernels.rows import KernelRow, KernelTable
from hwprofiles.kernels.shape import OWN_GEMMS, OWN_STREAMS, KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.stack_folders import open_folder
from hwprofiles.stack_records import Stack
from simulator.errors import InputError
from validation.at_scale import runs, stacks
from validation.at_scale.__main__ import as_csv, main
from validation.at_scale.stacks import at_the_limit, with_library_products, with_own_kernels

GPU = load_gpu("h800")
SHAPES = (
    KernelShape("gemm", "fprop", "fp8-block", 4096, 4096, 7168),
    KernelShape("gemm", "dgrad", "bf16", 100, 129280, 7168),
    KernelShape("grouped_gemm", "wgrad", "fp8-block", 7168, 2048, 32_768, 4),
    KernelShape("gemm", "fprop", "fp8-block", 16, 4096, 7168),
)


@pytest.fixture(scope="module")
def limit(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return open_folder(at_the_limit(runs.BASE, tmp_path_factory.mktemp("limit") / "h800-limit")).stack


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gemm_at_the_limit_takes_its_flop_or_its_bytes(limit: Stack, shape: KernelShape) -> None:
    peak = GPU.peak_flop_per_s["bf16" if shape.dtype == "bf16" else "fp8"]
    least = max(shape.flop_of_sizes / peak, moved_bytes(shape) / GPU.hbm_bytes_per_s)
    for regime in ("alone", "overlapped"):
        assert least <= kernel_seconds(shape, limit, GPU, regime).seconds <= 1.02 * least  # type: ignore[arg-type]


def test_attention_and_bytes_at_the_limit(limit: Stack) -> None:
    core = KernelShape("attention_bwd", batch=1, seq=4096, heads=128, head_dim_qk=192, head_dim_v=128)
    least = core.attention_flop / GPU.peak_flop_per_s["bf16"]
    assert least <= kernel_seconds(core, limit, GPU, "alone").seconds <= 1.02 * least
    norm = KernelShape("rmsnorm", bytes=117_440_512, num_kernels=3)
    assert kernel_seconds(norm, limit, GPU, "overlapped").seconds == pytest.approx(
        norm.bytes / GPU.hbm_bytes_per_s, rel=1e-6
    )


def test_nothing_measured_on_the_chip_beats_the_limit(limit: Stack) -> None:
    """Rows of the training's trace, of GEMMs and attention."""
    rows = [row for row in read_stack(runs.BASE).kernels.rows if row.shape.bound != "memory"]
    assert len(rows) > 20
    for row in rows:
        assert kernel_seconds(row.shape, limit, GPU, "alone").seconds < row.seconds, row.shape


def test_links_and_host_are_the_base_stacks(limit: Stack) -> None:
    base = read_stack(runs.BASE)
    kept = {key for key in base.parameters if not key.startswith(("gemm.", "attention.", "memory.", "overlap."))}
    assert {key: limit.parameters[key].value for key in kept} == {key: base.parameters[key].value for key in kept}
    assert limit.collectives.rows == base.collectives.rows and not limit.kernels.rows


def test_own_kernels_stand_beside_the_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, public = read_stack(runs.BASE), read_stack("h800-notrace")
    own = {
        key.replace("fp8-block", f"fp8-block.{OWN_GEMMS}"): entry
        for key, entry in public.parameters.items()
        if key.startswith("gemm.fp8-block.")
    }
    own |= {f"memory.quantise.{OWN_STREAMS}": public.parameters["memory.quantise"]}
    shape = KernelShape("gemm", "fprop", "fp8-block", 4096, 4096, 7168, library=OWN_GEMMS)
    row = KernelRow(shape, "alone", 2e-4, 2e-4, 2e-4, "measured", "calibrate")
    chain = {"memory.swiglu.moesim": public.parameters["memory.swiglu"]}
    measured = replace(public, parameters={**public.parameters, **own, **chain}, kernels=KernelTable((row,)))
    monkeypatch.setattr(stacks, "read_stack", lambda name: measured if name == runs.MEASURED else read_stack(name))
    found = open_folder(with_own_kernels(runs.BASE, runs.MEASURED, tmp_path / "h800-own")).stack
    assert kernel_seconds(shape, found, GPU, "alone").seconds == 2e-4
    library = replace(shape, library="")
    assert kernel_seconds(library, found, GPU, "overlapped") == kernel_seconds(library, base, GPU, "overlapped")
    assert found.parameters.keys() == base.parameters.keys() | own.keys()
    assert found.parameters[f"memory.quantise.{OWN_STREAMS}"].basis == "transferred"


def test_library_products_take_the_place_of_the_bases(tmp_path: Path) -> None:
    base, other = read_stack(runs.BASE), read_stack("h800-notrace")
    found = open_folder(with_library_products(runs.BASE, "h800-notrace", tmp_path / "h800-library")).stack
    shape = KernelShape("gemm", "fprop", "fp8-block", 4096, 4096, 7168)
    assert kernel_seconds(shape, found, GPU, "alone").seconds == kernel_seconds(shape, other, GPU, "alone").seconds
    norm = KernelShape("rmsnorm", bytes=117_440_512)
    assert kernel_seconds(norm, found, GPU, "alone").seconds == kernel_seconds(norm, base, GPU, "alone").seconds
    assert len({row.shape.op for row in found.kernels.rows}) == len({row.shape.op for row in base.kernels.rows})
    by_blocks = [
        {row.seconds for row in stack.kernels.rows if row.shape.dtype == "fp8-block"} for stack in (found, other)
    ]
    assert by_blocks[0] == by_blocks[1], "none of the training's is left"


def test_a_stack_of_another_chip_or_without_own_kernels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another chip than a100"):
        with_own_kernels_of("a100", tmp_path)
    with pytest.raises(InputError, match="has no rates of this project's products"):
        with_own_kernels(runs.BASE, "h800-notrace", tmp_path / "x")


def with_own_kernels_of(gpu: str, folder: Path) -> None:
    patch = pytest.MonkeyPatch()
    try:
        provenance = stacks.read_provenance(runs.BASE).model_copy(update={"gpu": gpu})
        patch.setattr(stacks, "read_provenance", lambda _: provenance)
        with_own_kernels(runs.BASE, "h800-notrace", folder / "y")
    finally:
        patch.undo()


def test_the_table_has_a_row_a_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = dict.fromkeys(runs.COLUMNS, 1.0 / 3.0) | {"variant": "training", "what": "a, b", "fits": True}
    (read,) = csv.DictReader(as_csv([row]).splitlines())
    assert (read["what"], read["step_s"], read["fits"]) == ("a, b", "0.333333", "True")
    assert main(["-o", str(tmp_path / "x.csv"), "trainin"]) == 2
    assert "did you mean training" in capsys.readouterr().err
    names = [variant.name for variant in runs.VARIANTS]
    assert len(set(names)) == len(names) and not (tmp_path / "x.csv").exists()


def test_a_file_that_cannot_be_is_refused_before_the_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("validation.at_scale.__main__.rows", lambda *_: pytest.fail("a run took place"))
    assert main(["-o", str(tmp_path / "none" / "x.csv"), "own"]) == 2
    assert "-o: the folder of " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("variant", runs.VARIANTS, ids=lambda variant: variant.name)
def test_the_committed_table_is_what_the_runs_give(variant: runs.Variant, tmp_path: Path) -> None:
    table = Path(runs.__file__).parents[1] / "data" / "kernels_at_scale.csv"
    with table.open(encoding="utf-8", newline="") as file:
        committed = {row["variant"]: row for row in csv.DictReader(file)}
    (made,) = csv.DictReader(as_csv([runs.run(variant, tmp_path)]).splitlines())
    assert made == committed[variant.name]
