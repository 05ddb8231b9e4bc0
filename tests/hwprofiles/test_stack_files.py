"""Law: a stack is what its folder says; every stack of the catalogue loads and names a known GPU and its sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprofiles.catalog import CatalogError, list_names
from hwprofiles.collectives.rows import COLLECTIVE_COLUMNS
from hwprofiles.kernels.rows import KERNEL_COLUMNS
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.stack_choice import default_stack, load_stack, stack_names
from tests.hwprofiles.conftest import COMMITTED, forget

PROVENANCE = """\
gpu: h800
description: two rows for a test
software: none
state: sustained
is_default: {is_default}
is_whole: true
sources:
  here: {{kind: measurement, where: a test, date: 2025-05}}
"""
PARAMETERS = "memory.default: {value: 0.8, low: 0.7, high: 0.9, unit: share, source: me}\n"
ASSUMPTIONS = "launch_s: {value: 5e-6, low: 2e-6, high: 9e-6, unit: s, source: me, reason: usual}\n"
KERNEL = {
    "op": "gemm", "variant": "fprop", "dtype": "bf16", "m": "4096", "n": "7168", "k": "2048", "groups": "1",
    "sms": "132", "regime": "alone", "seconds": "2e-4", "low": "1.9e-4", "high": "2.2e-4", "basis": "measured",
    "source": "here",
}  # fmt: skip
COLLECTIVE = {
    "op": "combine", "regime": "alone", "ranks": "16", "nodes": "2", "tokens": "4096", "bytes_per_token": "14336",
    "nodes_per_token": "1.9", "bytes": "58720256", "seconds": "1.3e-3", "basis": "measured", "source": "here",
}  # fmt: skip


def write_csv(path: Path, columns: tuple[str, ...], row: dict[str, str]) -> None:
    path.write_text(",".join(columns) + "\n" + ",".join(row.get(column, "") for column in columns) + "\n")


def write_stack(root: Path, name: str, *, is_default: bool = False) -> Path:
    folder = root / "stacks" / name
    folder.mkdir(parents=True)
    (folder / "provenance.yaml").write_text(PROVENANCE.format(is_default=str(is_default).lower()))
    write_csv(folder / "kernels.csv", KERNEL_COLUMNS, KERNEL)
    write_csv(folder / "collectives.csv", COLLECTIVE_COLUMNS, COLLECTIVE)
    (folder / "parameters.yaml").write_text(PARAMETERS)
    (folder / "assumptions.yaml").write_text(ASSUMPTIONS)
    return folder


@pytest.fixture
def root(empty_catalogue: Path) -> Path:
    """A catalogue of the real GPUs without stacks."""
    (empty_catalogue / "gpus").symlink_to(COMMITTED / "gpus")
    return empty_catalogue


def test_a_stack_is_what_its_folder_says(root: Path) -> None:
    write_stack(root, "mine")
    stack = load_stack("mine")
    assert (stack.name, stack.gpu, stack.provenance.state) == ("mine", "h800", "sustained")
    row = stack.kernels.exact(KernelShape(op="gemm", variant="fprop", m=4096, n=7168, k=2048), "alone")
    assert row is not None and row.seconds == 2e-4
    assert stack.collectives.select("combine", "alone")[0].bytes == 58_720_256
    assert stack.parameters["memory.default"].high == 0.9
    assert stack.assumptions["launch_s"].key == "launch_s"
    assert load_stack("mine") is stack and "mine" in stack_names()


def test_the_hash_follows_each_file(root: Path) -> None:
    folder = write_stack(root, "mine")
    hashes = [load_stack("mine").sha256]
    for name, old, new in (
        ("kernels.csv", ",2e-4,", ",2.1e-4,"),
        ("collectives.csv", "1.3e-3", "1.4e-3"),
        ("parameters.yaml", "0.8", "0.81"),
        ("assumptions.yaml", "5e-6", "6e-6"),
        ("provenance.yaml", "two rows", "three rows"),
    ):
        path = folder / name
        path.write_text(path.read_text().replace(old, new))
        forget()
        hashes.append(load_stack("mine").sha256)
    assert len(set(hashes)) == len(hashes)
    path.write_text(f"# a comment\n{path.read_text()}")
    forget()
    assert load_stack("mine").sha256 == hashes[-1]


def test_parameters_may_stand_in_several_files_and_a_key_in_one(root: Path) -> None:
    folder = write_stack(root, "mine")
    (folder / "host_parameters.yaml").write_text(PARAMETERS.replace("memory.default", "kernel_gap_s"))
    assert set(load_stack("mine").parameters) == {"memory.default", "kernel_gap_s"}
    (folder / "host_parameters.yaml").write_text(PARAMETERS)
    forget()
    with pytest.raises(CatalogError, match=r"parameters\.yaml:1: memory\.default: a second file"):
        load_stack("mine")


def test_missing_tables_are_empty_ones(root: Path) -> None:
    folder = write_stack(root, "mine")
    for name in ("kernels.csv", "collectives.csv", "parameters.yaml", "assumptions.yaml"):
        (folder / name).unlink()
    stack = load_stack("mine")
    assert not (stack.kernels.rows or stack.collectives.rows or stack.parameters or stack.assumptions)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("kernels.csv", ",2e-4,", ",fast,", "kernels.csv:2"),
        ("kernels.csv", "op,", "operation,", "kernels.csv:1"),
        (
            "kernels.csv",
            ",2e-4,1.9e-4,",
            ",1e-4,1e-5,",
            "kernels.csv:2: seconds: 0.0001 is 1,203 TFLOP/s, above the dense",
        ),
        ("collectives.csv", "1.3e-3", "nan", "collectives.csv:2"),
        ("parameters.yaml", "unit: share, ", "", "memory.default.unit: is missing"),
        ("assumptions.yaml", "2e-6", "6e-6", "assumptions.yaml:1: launch_s: needs low <= value <= high"),
        ("provenance.yaml", "h800", "h900", "did you mean h800"),
        ("provenance.yaml", "state: sustained", "state: turbo", "provenance.yaml:4: state"),
        ("provenance.yaml", "software: none\n", "", "software: is missing"),
    ],
)
def test_a_wrong_file_is_named(root: Path, name: str, old: str, new: str, words: str) -> None:
    path = write_stack(root, "mine") / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CatalogError) as caught:
        load_stack("mine")
    assert words in str(caught.value)


def test_a_table_that_is_not_utf_8_is_refused(root: Path) -> None:
    (write_stack(root, "mine") / "collectives.csv").write_bytes(b"op,regime\n\xff\xfe\n")
    with pytest.raises(CatalogError):
        load_stack("mine")


def test_one_stack_of_a_gpu_is_its_default(root: Path) -> None:
    assert default_stack("h800") == "h800-public"
    write_stack(root, "a")
    write_stack(root, "b", is_default=True)
    forget()
    assert default_stack("h800") == "b" and default_stack("h100") == "h100-public"
    write_stack(root, "c", is_default=True)
    forget()
    with pytest.raises(CatalogError, match="several default stacks of h800: b, c"):
        default_stack("h800")


@pytest.mark.parametrize("name", stack_names())
def test_every_stack_of_the_catalogue_loads(name: str) -> None:
    stack = load_stack(name)
    assert stack.name == name and stack.gpu in list_names("gpus") and len(stack.sha256) == 64
    assert stack.kernels.rows or stack.parameters
    assert stack.provenance.sources
    for key, assumption in stack.assumptions.items():
        assert assumption.key == key and assumption.low < assumption.high, key
