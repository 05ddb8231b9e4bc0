"""Law: no figure of a result depends on the interpreter's own `sum` (which rounds otherwise since Python 3.12) or on numpy's
choice of instructions."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import load_scenario, portable, simulate_run

ROOT = Path(__file__).parents[1]
OURS = tuple(str(ROOT / name) for name in ("simulator", "hwprofiles", "validation"))


def without_floats(original: Callable[..., Any]) -> Callable[..., Any]:
    """`sum` that refuses floats where one of our modules calls it."""

    def checked(values: Iterable[Any], /, start: Any = 0) -> Any:
        items = list(values)
        where = sys._getframe(1).f_code.co_filename
        if where.startswith(OURS) and any(isinstance(item, float | np.floating) for item in items):
            raise AssertionError(f"{where} sums floats with the built-in sum; use math.fsum")
        return original(items, start)

    return checked


@pytest.mark.parametrize("preset", ["deepseek-v3", "mixtral-8x22b", "llama-3.1-70b"])
def test_no_built_in_sum_of_floats(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "sum", without_floats(builtins.sum))
    simulate_run(load_scenario(preset, ["draws=1"]))


def test_the_check_sees_a_sum_of_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = without_floats(builtins.sum)
    code = compile("checked([0.1, 0.2])", str(ROOT / "simulator" / "made_up.py"), "eval")
    with pytest.raises(AssertionError, match="fsum"):
        eval(code, {"checked": checked})
    assert checked([1, 2]) == 3


def test_portable_functions_are_those_of_numpy_but_for_the_last_digit() -> None:
    values = np.linspace(-20.0, 20.0, 999)
    np.testing.assert_allclose(portable.exp(values), np.exp(values), rtol=1e-14)
    positive = np.exp(values)
    np.testing.assert_allclose(portable.log(positive), values, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(portable.power(positive, 7), positive**7, rtol=1e-12)
    assert portable.dot(values, positive) == pytest.approx(float(values @ positive), rel=1e-12)
    assert portable.exp(values.reshape(3, 333)).shape == (3, 333)


@pytest.mark.slow
def test_instructions_of_the_processor_do_not_matter() -> None:
    """numpy with no instruction set beyond its baseline, and kernels compiled for a generic processor: the same bytes."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # type: ignore[import-not-found]

    disabled = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    code = (
        "from simulator import load_scenario, simulate_run\n"
        "from simulator.results.document import to_json\n"
        "print(to_json(simulate_run(load_scenario('mixtral-8x22b', ['draws=2', 'moe.balance=natural']))))"
    )
    generic = {"NPY_DISABLE_CPU_FEATURES": disabled, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    one, other = (printed(code, environment) for environment in ({}, generic))
    assert json.loads(one) == json.loads(other)
    assert one == other


def printed(code: str, environment: dict[str, str]) -> str:
    """What a program prints in a process of its own with these variables on top."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout
