"""What is installed without extras runs without the calibration's tools; only they import torch and triton."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hwprofiles
from hwprofiles import calibration

ROOT = Path(hwprofiles.__file__).parent
HEAVY = ("torch", "triton")

WITHOUT = """
import importlib, pkgutil, sys
for name in {missing!r}:
    sys.modules[name] = None
import hwprofiles
for found in pkgutil.walk_packages(hwprofiles.__path__, "hwprofiles."):
    if not found.name.startswith("hwprofiles.calibration"):
        importlib.import_module(found.name)
import simulator.cli.app
from hwprofiles.stack_choice import load_stack
load_stack("h800-notrace"), load_stack("b200-transfer")
"""


def test_the_catalogue_loads_without_extras_and_without_the_tools() -> None:
    missing = [*HEAVY, "hwprofiles.calibration"]
    subprocess.run([sys.executable, "-c", WITHOUT.format(missing=missing)], check=True, cwd=ROOT.parent)


def test_only_the_tools_import_what_the_extra_installs() -> None:
    pattern = re.compile(rf"^\s*(?:import|from) (?:{'|'.join(HEAVY)})\b", re.MULTILINE)
    files = [
        *ROOT.rglob("*.py"),
        *(ROOT.parent / "simulator").rglob("*.py"),
        *(ROOT.parent / "validation").rglob("*.py"),
    ]
    importing = {path for path in files if pattern.search(path.read_text(encoding="utf-8"))}
    assert importing and all(path.is_relative_to(ROOT / "calibration") for path in importing)


def test_every_tool_is_named_where_one_looks_for_it() -> None:
    modules = {found.name for found in pkgutil.iter_modules(calibration.__path__)}
    assert {name for name in modules if re.search(rf"\b{name}\b", calibration.__doc__ or "")} == modules


COMMANDS = ("train", "step_times", "numerics.check", "parallel.check", "parallel.execute")
HALTED = "raise ImportError('no library of torch: a line,\\n and one more')\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_torch_names_the_extra_in_one_line(command: str, tmp_path: Path) -> None:
    """A torch that cannot be imported stands in front of an installed one."""
    (tmp_path / "torch.py").write_text(HALTED, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT.parent)])
    run = subprocess.run(
        [sys.executable, "-m", f"hwprofiles.calibration.{command}"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    assert run.stderr.count("\n") == 1 and "pip install 'moesim[calibrate]'" in run.stderr
    assert "cannot be imported (no library of torch: a line, and one more)" in run.stderr


@pytest.mark.parametrize(
    "module", ["model.transformer", "numerics.recipes", "counting.flop", "parallel.pipeline", "step_times"]
)
def test_a_module_without_torch_names_the_extra(module: str) -> None:
    code = (
        f"import sys; sys.modules['torch'] = None\ntry: import hwprofiles.calibration.{module}\n"
        "except ImportError as missing: print(type(missing).__name__, missing)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT.parent)
    assert run.stdout.startswith("MissingExtra torch is not installed; pip install 'moesim[calibrate]'"), run.stderr
