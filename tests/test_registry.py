"""Law: a family knows its members by name and says what to write instead of an unknown one."""

import pytest

from simulator.registry import Family, UnknownName


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
