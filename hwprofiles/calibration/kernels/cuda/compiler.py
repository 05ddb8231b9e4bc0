"""CUDA C++ made into machine code by NVRTC, the compiler as a library, and kept on disk. Needs no GPU.

A kernel's file may include headers of its own folder (`#include "hopper.cuh"`), nothing else: CUDA's headers come with a
toolkit that not everybody has. Machine code is kept under MOESIM_CACHE, XDG_CACHE_HOME/moesim or ~/.cache/moesim; its file's
name is a hash of everything that it depends on, so nothing has ever to be deleted.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.problem import Problem

ARCHITECTURE: Final = "sm_90a"
"""Compute capability 9.0 with the instructions that no later chip keeps (wgmma, setmaxnreg)."""
_OPTIONS: Final = (f"--gpu-architecture={ARCHITECTURE}", "--std=c++17", "--generate-line-info")
_INCLUDE: Final = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.MULTILINE)
_BUILD: Final = re.compile(r"release [\d.]+, V([\d.]+)")
_MAJORS: Final = (13, 12)
"""Versions of NVRTC that know sm_90a and are called alike."""
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
REMEDY: Final = (
    "torch's wheels for CUDA 12 and 13 bring it (pip install 'moesim[calibrate]'); alone: pip install nvidia-cuda-nvrtc"
)


@dataclass(frozen=True)
class Source:
    """A kernel's file and the headers that it includes, itself or through another: names and texts."""

    name: str
    text: str
    headers: tuple[tuple[str, str], ...]


class Compiler(Protocol):
    """What makes machine code: NVRTC, or what a test puts in its place."""

    @property
    def build(self) -> str:
        """Its version to the last number: those that a release's number has in common make other code."""

    def compile(self, source: Source, options: tuple[str, ...]) -> bytes:
        """Raises CalibrationError, with the compiler's words, where the source is wrong."""


def machine_code(path: Path, constants: Mapping[str, int], compiler: Compiler | None = None) -> bytes:
    """Of the kernel's file with these constants, from disk where it has been made before. A folder that cannot be written
    costs the time of compiling (seconds), nothing else.
    """
    compiler = compiler or nvrtc()
    source, options = read_source(path), options_of(constants)
    kept = cache_folder() / f"{path.stem}-{key_of(source, options, compiler.build)}.cubin"
    if (code := _read_kept(kept)) is not None:
        return code
    code = compiler.compile(source, options)
    with suppress(OSError):
        _keep(kept, code)
    return code


def read_source(path: Path) -> Source:
    """Raises CalibrationError where a header is not in the kernel's folder."""
    headers: dict[str, str] = {}
    text = path.read_text(encoding="utf-8")
    waiting = [(path.name, name) for name in _INCLUDE.findall(text)]
    while waiting:
        including, name = waiting.pop()
        if name in headers:
            continue
        header = path.parent / name
        if not header.is_file():
            raise CalibrationError(
                f"{including} includes {name!r}, which is not in {path.parent}; install the package anew"
            )
        headers[name] = header.read_text(encoding="utf-8")
        waiting += [(name, other) for other in _INCLUDE.findall(headers[name])]
    return Source(path.name, text, tuple(sorted(headers.items())))


def options_of(constants: Mapping[str, int]) -> tuple[str, ...]:
    """The compiler's options; constants become macros, in the order of their names. True and False become 1 and 0."""
    return *_OPTIONS, *(f"-D{name}={int(value)}" for name, value in sorted(constants.items()))


def key_of(source: Source, options: tuple[str, ...], build: str) -> str:
    """A hash of everything that machine code depends on."""
    parts = [source.name, source.text, source.headers, options, build]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def cache_folder() -> Path:
    """Where machine code is kept; it need not exist."""
    if chosen := os.environ.get("MOESIM_CACHE"):
        return Path(chosen).expanduser() / "cuda"
    of_user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(of_user)) / "moesim" / "cuda"  # noqa: PTH111  (Path's raises where there is no home)


def _read_kept(path: Path) -> bytes | None:
    """None where there is nothing, or what lies there is not what was kept."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(path: Path, code: bytes) -> None:
    """Whole or not at all, whoever else writes the same file. Its digest stands in front of the code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".moesim-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(hashlib.sha256(code).digest() + code)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Nvrtc:
    """NVRTC through ctypes (https://docs.nvidia.com/cuda/nvrtc)."""

    def __init__(self, library: Any) -> None:
        self._library = library
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    @cached_property
    def build(self) -> str:
        """As the header of what it makes tells (`release 13.0, V13.0.88`); else its version."""
        made = self._made(Source("nothing.cu", "", ()), (_OPTIONS[0].replace("sm", "compute"),), "nvrtcGetPTX")
        found = _BUILD.search(made.decode(errors="replace"))
        return found[1] if found else self.version

    def compile(self, source: Source, options: tuple[str, ...]) -> bytes:
        """Machine code (a cubin) for Hopper."""
        return self._made(source, options, "nvrtcGetCUBIN")

    def _made(self, source: Source, options: tuple[str, ...], form: str) -> bytes:
        names = _texts(name for name, _ in source.headers)
        texts = _texts(text for _, text in source.headers)
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram", ctypes.byref(program), source.text.encode(), source.name.encode(), len(names), texts, names
        )  # fmt: skip
        try:
            if self._library.nvrtcCompileProgram(program, len(options), _texts(iter(options))):
                log = self._bytes("nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
                raise CalibrationError([Problem(
                    "", source.name, f"NVRTC {self.version} with {' '.join(options)} does not compile it:\n{log}"
                )])  # fmt: skip
            return self._bytes(form, program)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, name: str, program: ctypes.c_void_p) -> bytes:
        """What NVRTC hands out by first telling its size."""
        size = ctypes.c_size_t()
        self._call(f"{name}Size", program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(name, program, content)
        return content.raw

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise CalibrationError(f"NVRTC's {name} fails with code {code}")


def _texts(texts: Iterator[str]) -> Any:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


@cache
def nvrtc() -> Nvrtc:
    """The installed compiler. Raises CalibrationError where there is none."""
    tried = []
    for name in candidates():
        tried.append(name)
        with suppress(OSError):
            for beside in sorted(Path(name).parent.glob("libnvrtc-builtins.so.*") if "/" in name else ()):
                ctypes.CDLL(str(beside))  # NVRTC looks for it by name alone, where the system's loader does
            return Nvrtc(ctypes.CDLL(name))
    raise CalibrationError([Problem(
        "", "NVRTC", f"the library that compiles CUDA is not installed: none of {', '.join(tried)} can be loaded; {REMEDY}"
    )])  # fmt: skip


def candidates() -> Iterator[str]:
    """Files and names under which NVRTC may be: of NVIDIA's wheels, beside torch, of a toolkit, of the system's loader."""
    folders = [
        Path(folder) / of_wheel / "lib" for folder in _folders_of("nvidia") for of_wheel in ("cu13", "cuda_nvrtc")
    ]
    folders += [Path(folder) / "lib" for folder in _folders_of("torch")]
    folders += [Path(home) / "lib64" for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    of_torch = str(torch.version.cuda).partition(".")[0]  # the driver can load what that version makes
    for major in sorted(_MAJORS, key=lambda major: str(major) != of_torch):
        for folder in folders:
            found = sorted(folder.glob(f"libnvrtc*.so.{major}")) if folder.is_dir() else []
            yield from (str(path) for path in found if not re.search("builtins|alt", path.name))
        yield f"libnvrtc.so.{major}"


def _folders_of(package: str) -> list[str]:
    found = find_spec(package)
    return list(found.submodule_search_locations or []) if found else []
