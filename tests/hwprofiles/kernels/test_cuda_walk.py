"""gemm.cu's order of tiles, compiled for the host: there it can be tried without a GPU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hwprofiles.calibration.kernels.cuda import driver

COMPILER = shutil.which("g++") or shutil.which("clang++")
HERE = Path(__file__).parent


def trial(folder: Path, replaced: str = "", by: str = "") -> str:
    """What the trial says is wrong with the walk, with one of its lines replaced."""
    text = (driver.FOLDER / "gemm.cu").read_text()
    walk = text[text.index("struct Sizes {") : text.index("// One warp: tiles of both operands")]
    assert replaced in walk
    (folder / "walk.inc").write_text(walk.replace(replaced, by, 1) if replaced else walk)
    program = folder / "walk"
    assert COMPILER
    options = ["-O1", "-std=c++17", f"-I{folder}", "-o", str(program), str(HERE / "walk.cpp")]
    subprocess.run([COMPILER, *options], check=True)
    return subprocess.run([program], stdout=subprocess.PIPE, text=True, timeout=60).stdout


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for the host")
def test_each_tile_of_each_group_is_done_once(tmp_path: Path) -> None:
    assert trial(tmp_path) == ""


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for the host")
@pytest.mark.parametrize(
    ("line", "by"),
    [
        ("min(max(__ldg(ends + group), begin), num_rows)", "__ldg(ends + group)"),
        ("height = min(BAND, rows_of_tiles - band * BAND)", "height = BAND"),
        ("begin = end;", "begin = end + 1;"),
    ],
)
def test_a_wrong_walk_is_seen(line: str, by: str, tmp_path: Path) -> None:
    assert trial(tmp_path, line, by)
