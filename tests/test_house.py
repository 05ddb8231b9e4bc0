"""Rules of the house that no type can keep: imports, style, names in conditions, published totals, units, determinism."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwprofiles.catalog import list_names
from hwprofiles.stack_choice import stack_names
from simulator.scenario.layers import preset_names
from simulator.scenario.model_catalog import model_names

ROOT = Path(__file__).parents[1]
SOURCES = [
    name for name in ("hwprofiles", "simulator", "validation", "dashboards", "tests", "docs") if (ROOT / name).is_dir()
]
TEXT = {".py", ".yaml", ".yml", ".toml", ".md", ".csv", ".json", ".lock", ".cfg", ""}


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """Standard output of a command that has to succeed."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done.stdout


def tracked() -> list[Path]:
    """Text files of the repository, as git lists them; of an unpacked archive, those of its folders."""
    if (ROOT / ".git").exists():
        names = run("git", "ls-files", "-z").split("\0")
        files = [ROOT / name for name in names if name]
    else:
        files = [path for name in SOURCES for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts]
    return [path for path in files if path.is_file() and path.suffix in TEXT]


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Tools


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "command",
    [
        ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
        ("-m", "ruff", "check", *SOURCES),
        ("-m", "ruff", "format", "--check", *SOURCES),
        pytest.param(("-m", "mypy"), marks=pytest.mark.slow),  # most of a minute in a fresh clone
    ],
    ids=["import-linter", "ruff check", "ruff format", "mypy"],
)
def test_tools_find_nothing(command: tuple[str, ...]) -> None:
    run(sys.executable, *command)


# Names in conditions


def catalogue_names() -> frozenset[str]:
    """Presets, models, GPUs, nodes, fabrics, stacks and validation cases."""
    cases = [path.stem for path in (ROOT / "validation" / "cases").glob("*.yaml")]
    kinds = [name for kind in ("gpus", "nodes", "fabrics") for name in list_names(kind)]  # type: ignore[arg-type]
    kinds += stack_names()
    return frozenset([*preset_names(), *model_names(), *kinds, *cases])


QUESTIONS = ("startswith", "endswith", "get", "match", "search", "fullmatch")
"""Methods whose result depends on a text."""


def conditions(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything on which a branch may depend: tests, comparisons, patterns, and questions put to a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            yield node.test
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.Compare | ast.MatchValue | ast.BoolOp) or (
            isinstance(node, ast.Call) and getattr(node.func, "attr", "") in QUESTIONS
        ):
            yield node


def names_in_conditions(source: str, names: frozenset[str]) -> list[str]:
    """Texts in conditions that are a name of the catalogue, or the beginning of one."""
    texts = {
        leaf.value
        for condition in conditions(ast.parse(source))
        for leaf in ast.walk(condition)
        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
    }
    return sorted(
        text for text in texts if text in names or (len(text) >= 3 and any(name.startswith(text) for name in names))
    )


def test_no_name_of_the_catalogue_stands_in_a_condition() -> None:
    names = catalogue_names()
    assert {"deepseek-v3", "h800", "h800-x8", "h800-notrace", "mixtral-8x22b"} <= names
    found = {shown(path): names_in_conditions(path.read_text(), names) for path in python_files("simulator")}
    assert {path: texts for path, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    "source",
    [
        'x = 1 if name == "h800" else 2',
        'assert model.startswith("deepseek")',
        'match gpu:\n    case "h100":\n        pass',
        'y = [a for a in b if a in ("h800-x8", "other")]',
        'factor = {}.get("deepseek-v3", 1.0)',
    ],
)
def test_the_scan_sees_names(source: str) -> None:
    assert names_in_conditions(source, catalogue_names())


# Published totals

TOTALS = re.compile(
    r"(?<![\d.,])(19\.926|1[_,]?541\.7|272\.8|2[._,]?664|2[._,]?788|5[._,]?576|5[._,]?328)(?!\.?\d)"
    r"|(?<![\d.,])(13\.95|2\.06)(?![\d.e])"
)
"""Step, pairs and bubble in seconds, tokens a second and GPU, and the run's GPU-hours and USD as DeepSeek published them."""

MAY_HOLD_TOTALS = ("validation/", "tests/", "docs/", "README.md", "CHANGELOG.md", "simulator/report/data/accuracy.csv")


def test_published_totals_stand_only_where_they_are_compared() -> None:
    """A table of measurements may hold the same digits by chance: of the stacks only what is code or prose is read."""
    files = [path for path in tracked() if not shown(path).startswith(MAY_HOLD_TOTALS)]
    rows = [path for path in files if path.suffix == ".csv"]
    assert len(files) > 150
    found = [
        f"{shown(path)}: {match[0]}"
        for path in files
        if path not in rows
        for match in TOTALS.finditer(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["19.926 s", "2_664_000", "2664K", "5.576", "(13.95,", "2.06]", "1,541.7", "x=2.788e6"]
)
def test_the_scan_sees_totals(text: str) -> None:
    assert TOTALS.search(text)


# Machines

PLACES = re.compile(
    "|".join(
        (
            r"(?<![\w.])/(?:work|tmp|home|root|Users|mnt|opt)/", r"[A-Z]:\\\\", r"pypi\.", r"pythonhosted", r"index[-_]url",
            r"artifactory", r"nexus", r"localhost", r"\b127\.0\.0\.1", r"\b(?:10|192\.168)(?:\.\d{1,3}){2,3}\b(?!\.)",
        )
    )
)  # fmt: skip
"""Paths of one machine and hosts of packages."""

MAY_SAY = {("dashboards/settings.py", "localhost")}
"""The name by which a browser asks the machine that it runs on."""


def test_no_machine_is_named() -> None:
    found = [
        f"{shown(path)}: {match[0]}"
        for path in tracked()
        if path != Path(__file__) and path.suffix != ".csv"
        for match in PLACES.finditer(path.read_text())
        if (shown(path), match[0]) not in MAY_SAY
    ]
    assert found == []


# Units

PREFIXES = {10.0**power for power in range(3, 25, 3)} | {10.0**-power for power in range(3, 13, 3)}
BINARY = {2.0**power for power in range(10, 60, 10)}
ONLY_A_PREFIX = {1e9, 1e12, 1e15, 1e18} | BINARY - {1024.0}
"""Numbers that stand for nothing else where they are written as floats or powers."""


def _number(node: ast.AST) -> float | None:
    """The value of a number, of `2**30`, `10**9` or of `1 << 30`; None of anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
        left, right = _number(node.left), _number(node.right)
        if left is not None and right is not None and abs(right) < 100 and 0 < left <= 1024:
            return left**right if isinstance(node.op, ast.Pow) else left * 2**right
    return None


def prefixes(source: str) -> list[str]:
    """Multiplications by powers of ten or 1024, and such powers alone."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div | ast.FloorDiv):
            if {_number(node.left), _number(node.right)} & (PREFIXES | BINARY):
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.AugAssign) and _number(node.value) in PREFIXES | BINARY:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
            if _number(node) in PREFIXES | BINARY:
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value in ONLY_A_PREFIX:
            found.append(f"{node.lineno}: {node.value!r}")
    return found


def test_powers_of_ten_stand_in_units_only() -> None:
    folders = [name for name in ("hwprofiles", "simulator", "validation", "dashboards") if (ROOT / name).is_dir()]
    units = ROOT / "hwprofiles" / "units.py"
    assert prefixes(units.read_text())
    found = {shown(path): prefixes(path.read_text()) for path in python_files(*folders) if path != units}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "x = y / 1e9",
        "x = 1024**3 * y",
        "gib = 2**30",
        "gib = 1 << 30",
        "x = 1e12",
        "x *= 1000",
        "y = 1e-6 * x",
        "x //= 1024",
    ],
)
def test_the_scan_sees_powers(source: str) -> None:
    assert prefixes(source)


@pytest.mark.parametrize("source", ["MAX_ROWS = 1_000_000", "seed < 2**63 - 1", "tolerance = 1e-9", "x = y**2 * 8"])
def test_the_scan_leaves_counts_alone(source: str) -> None:
    assert not prefixes(source)


# Determinism

SMALL = """
schema_version: 1
name: small
extends: deepseek-v3
cluster: {num_gpus: 64}
parallel: {pp: 4, ep: 16}
training: {global_batch_size: 128}
draws: 2
phases: [{name: short, steps: 2}]
"""


@pytest.mark.slow
def test_hash_seed_locale_clock_and_folder_do_not_matter(tmp_path: Path) -> None:
    """The same scenario gives the same bytes in any process."""
    scenario = tmp_path / "small.yaml"
    scenario.write_text(SMALL)
    (tmp_path / "elsewhere").mkdir()
    code = "import sys; from simulator.cli.app import main; sys.exit(main(sys.argv[1:]))"
    command = (sys.executable, "-c", code, "run", str(scenario), "--json")
    one, other = (
        run(*command, cwd=cwd, PYTHONPATH=str(ROOT), PYTHONHASHSEED=seed, LC_ALL=locale, TZ=zone)
        for cwd, seed, locale, zone in (
            (ROOT, "0", "C.UTF-8", "UTC"),
            (tmp_path / "elsewhere", "1", "C", "Asia/Kathmandu"),
        )
    )
    assert len(one) > 1000
    assert one == other


# Types for those who import us


def test_every_package_of_the_wheel_says_that_it_is_typed() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    there = [name for name in packages["packages"] if (ROOT / name).is_dir()]
    assert {"hwprofiles", "simulator", "validation"} <= set(there)
    assert [name for name in there if not (ROOT / name / "py.typed").is_file()] == []
