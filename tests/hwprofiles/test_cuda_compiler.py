"""Kernels' sources become machine code once: its name tells all that it depends on, and a file on disk is whole or unused."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")


from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernels.cuda import compiler
from hwprofiles.calibration.kernels.cuda.compiler import Source, key_of, machine_code, options_of, read_source


@dataclass
class Counting:
    """A compiler whose code tells of its input."""

    build: str = "13.0.88"
    made: list[tuple[Source, tuple[str, ...]]] = field(default_factory=list)

    def compile(self, source: Source, options: tuple[str, ...]) -> bytes:
        self.made.append((source, options))
        return f"{source.text} {options}".encode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel that includes a header, which includes another; and an empty cache."""
    monkeypatch.setenv("MOESIM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "add.cu").write_text('#include "first.cuh"\nint add;\n')
    (tmp_path / "first.cuh").write_text('  #  include "second.cuh"\n#include "first.cuh"\n')
    (tmp_path / "second.cuh").write_text("int second;\n")
    return tmp_path


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "cuda").iterdir())


def test_code_is_made_once_and_then_read(folder: Path) -> None:
    made = Counting()
    codes = {machine_code(folder / "add.cu", {"N": 2}, made) for _ in range(3)}
    assert (len(codes), len(made.made), len(kept(folder))) == (1, 1, 1)
    assert made.made[0][1][-1] == "-DN=2"
    assert [name for name, _ in made.made[0][0].headers] == ["first.cuh", "second.cuh"]


@pytest.mark.parametrize("changed", ["add.cu", "first.cuh", "second.cuh"])
def test_a_changed_file_is_compiled_anew(folder: Path, changed: str) -> None:
    made = Counting()
    machine_code(folder / "add.cu", {}, made)
    (folder / changed).write_text((folder / changed).read_text() + "int more;\n")
    machine_code(folder / "add.cu", {}, made)
    assert len(made.made) == 2


def test_constants_and_the_compilers_version_are_part_of_the_name(folder: Path) -> None:
    made = [Counting(), Counting("13.0.90")]
    for with_it in made:
        for constants in ({}, {"A": 1}, {"A": 2}, {"B": 1}):
            machine_code(folder / "add.cu", constants, with_it)
    assert len(kept(folder)) == 8 == sum(len(with_it.made) for with_it in made)


def test_options_do_not_depend_on_the_constants_order() -> None:
    assert options_of({"B": 1, "A": True}) == options_of({"A": 1, "B": 1})
    assert "--gpu-architecture=sm_90a" in options_of({})


def test_text_does_not_slip_from_one_part_of_a_key_into_another() -> None:
    assert key_of(Source("a", "b", ()), ("c",), "d") != key_of(Source("a", "bc", ()), (), "d")


@pytest.mark.parametrize("content", [b"", b"short", bytes(32), b"x" * 100])
def test_a_spoiled_file_is_made_anew(folder: Path, content: bytes) -> None:
    made = Counting()
    code = machine_code(folder / "add.cu", {}, made)
    kept(folder)[0].write_bytes(content)
    assert machine_code(folder / "add.cu", {}, made) == code
    assert machine_code(folder / "add.cu", {}, made) == code
    assert len(made.made) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("MOESIM_CACHE", str(folder / "file"))
    made = Counting()
    assert machine_code(folder / "add.cu", {}, made) == machine_code(folder / "add.cu", {}, made)
    assert len(made.made) == 2


def test_a_write_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    machine_code(folder / "add.cu", {}, Counting())
    assert kept(folder) == []


def test_folders_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOESIM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/ada")
    assert compiler.cache_folder() == Path("/ada/.cache/moesim/cuda")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert compiler.cache_folder() == Path("/var/cache/moesim/cuda")
    monkeypatch.setenv("MOESIM_CACHE", "/fast")
    assert compiler.cache_folder() == Path("/fast/cuda")


def test_a_missing_header_is_named(folder: Path) -> None:
    (folder / "second.cuh").unlink()
    with pytest.raises(CalibrationError, match=r"first\.cuh includes 'second\.cuh'"):
        read_source(folder / "add.cu")


class Library:
    """NVRTC's functions, of which one may fail."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.given, self.destroyed = failing, {}, 0  # type: tuple[str, dict[str, Any], int] | Any

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvrtc"):
            raise AttributeError(name)
        return lambda *arguments: 6 if name == self.failing else 0

    def nvrtcVersion(self, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = 13, 2
        return 0

    def nvrtcCreateProgram(self, program: Any, text: bytes, name: bytes, num: int, headers: Any, names: Any) -> int:
        self.given = {"name": name, "headers": dict(zip(names[:num], headers[:num], strict=True))}
        return 0

    def nvrtcGetProgramLogSize(self, program: Any, size: Any) -> int:
        size._obj.value = 20
        return 0

    def nvrtcGetProgramLog(self, program: Any, into: Any) -> int:
        ctypes.memmove(into, b"add.cu(1): error: x\0", 20)
        return 0

    def nvrtcGetCUBINSize(self, program: Any, size: Any) -> int:
        size._obj.value = 4
        return 0

    def nvrtcGetCUBIN(self, program: Any, into: Any) -> int:
        ctypes.memmove(into, b"\x7fELF", 4)
        return 0

    def nvrtcGetPTXSize(self, program: Any, size: Any) -> int:
        size._obj.value = len(PTX)
        return 0

    def nvrtcGetPTX(self, program: Any, into: Any) -> int:
        ctypes.memmove(into, PTX, len(PTX))
        return 0

    def nvrtcDestroyProgram(self, program: Any) -> int:
        self.destroyed += 1
        return 0


PTX = b"// Compiler Build ID: CL-36424714\n// Cuda compilation tools, release 13.2, V13.2.51\n.version 9.2\n"
SOURCE = Source("add.cu", "int x;", (("first.cuh", "int y;"),))


def test_nvrtc_is_given_the_headers_and_gives_code_with_its_zeros() -> None:
    library = Library()
    nvrtc = compiler.Nvrtc(library)
    assert (nvrtc.version, nvrtc.compile(SOURCE, ("-DA=1",))) == ("13.2", b"\x7fELF")
    assert library.given == {"name": b"add.cu", "headers": {b"first.cuh": b"int y;"}}
    assert library.destroyed == 1


def test_its_build_is_that_of_what_it_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiler.Nvrtc(Library()).build == "13.2.51"
    monkeypatch.setattr(Library, "nvrtcGetPTX", lambda *_: 0)
    assert compiler.Nvrtc(Library()).build == "13.2"


def test_what_the_compiler_says_is_passed_on() -> None:
    library = Library("nvrtcCompileProgram")
    with pytest.raises(CalibrationError, match=r"(?s)add\.cu.*NVRTC 13\.2.*-DA=1.*add\.cu\(1\): error: x$"):
        compiler.Nvrtc(library).compile(SOURCE, ("-DA=1",))
    assert library.destroyed == 1


def test_a_missing_library_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libnvrtc.so.13").write_text("no library")
    monkeypatch.setattr(compiler, "candidates", lambda: iter([str(tmp_path / "libnvrtc.so.13"), "libnvrtc.so.none"]))
    compiler.nvrtc.cache_clear()
    with pytest.raises(CalibrationError, match=r"libnvrtc\.so\.13, libnvrtc\.so\.none can be loaded; .*pip install"):
        compiler.nvrtc()


@pytest.mark.parametrize(("of_torch", "first"), [("13.0", "13"), ("12.8", "12"), (None, "13")])
def test_the_version_of_torch_is_tried_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, of_torch: str | None, first: str
) -> None:
    for wheel, name in (("cu13", "libnvrtc.so.13"), ("cu13", "libnvrtc.alt.so.13"), ("cuda_nvrtc", "libnvrtc.so.12")):
        (tmp_path / wheel / "lib").mkdir(parents=True, exist_ok=True)
        (tmp_path / wheel / "lib" / name).touch()
    monkeypatch.setattr(compiler, "_folders_of", lambda package: [str(tmp_path)] if package == "nvidia" else [])
    monkeypatch.setattr(compiler.torch.version, "cuda", of_torch)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    ours = [Path(name).name for name in compiler.candidates() if name.startswith(str(tmp_path))]
    assert ours == [f"libnvrtc.so.{major}" for major in ((first, "12") if first == "13" else ("12", "13"))]
    assert {f"libnvrtc.so.{major}" for major in (12, 13)} <= set(compiler.candidates())


def test_a_file_is_readable_by_its_owner_alone_and_no_rest_is_left(folder: Path) -> None:
    machine_code(folder / "add.cu", {}, Counting())
    (only,) = kept(folder)
    assert only.suffix == ".cubin" and only.stat().st_mode & 0o077 == 0
