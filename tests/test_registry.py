"""Law: a family knows its members by name and says what to write instead of an unknown one."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from simulator.network import topologies
from simulator.network.wiring import TOPOLOGIES
from simulator.registry import Family, NameTaken, UnknownName
from simulator.schedule import SCHEDULES, schedules


def test_members():
    family: Family[int] = Family("fruit", planned=["plum"])
    assert family.add("pear", 2) == 2
    family.add("apple", 1)
    assert (list(family), len(family), family["pear"], "pear" in family, "plum" in family) == (
        ["apple", "pear"],
        2,
        2,
        True,
        False,
    )
    with pytest.raises(ValueError, match="fruit 'pear' is registered twice"):
        family.add("pear", 3)
    with pytest.raises(UnknownName, match=r"unknown fruit 'aple'; allowed apple, pear; did you mean apple\?"):
        family["aple"]
    with pytest.raises(UnknownName, match="fruit 'plum' is not modelled yet; use one of apple, pear"):
        family["plum"]
    assert family.problem("pear") is None


def test_a_new_file_of_a_folder_is_a_new_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else has to name it: the folder is the list."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from simulator.registry import Family, register_members\n"
        "SHAPES = Family('shape')\nregister_members(__name__, __path__)\n"
    )
    for name in ("square", "circle"):
        (folder / f"{name}.py").write_text(f"from shapes import SHAPES\nSHAPES.add({name!r}, 1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(importlib.import_module("shapes").SHAPES) == ["circle", "square"]
    (folder / "round.py").write_text("from shapes import SHAPES\nSHAPES.add('circle', 2)\n")
    for module in ("shapes", "shapes.square", "shapes.circle"):
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(NameTaken, match=r"^shapes\.round: shape 'circle' is registered twice: a file before it has"):
        importlib.import_module("shapes")


@pytest.mark.parametrize(
    ("family", "package"), [(SCHEDULES, schedules), (TOPOLOGIES, topologies)], ids=["schedules", "topologies"]
)
def test_every_file_of_a_family_registers(family: Family[object], package: ModuleType) -> None:
    files = [path for path in Path(str(package.__file__)).parent.glob("*.py") if ".add(" in path.read_text()]
    assert len(family) == len(files)
