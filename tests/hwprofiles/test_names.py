"""One wording for an unknown name: what is allowed, and the nearest one."""

from __future__ import annotations

import pytest

from hwprofiles.catalog import CatalogError, load_gpu
from hwprofiles.names import MAX_LISTED, nearest
from simulator.registry import Family


def test_allowed_names_are_sorted_and_the_nearest_is_named() -> None:
    assert nearest("beta", ["gamma", "betta", "alpha"]) == "; allowed alpha, betta, gamma; did you mean betta?"
    assert nearest("zzz", ["gamma", "alpha"]) == "; allowed alpha, gamma"
    assert nearest("beta", ["betta"], listed=False) == "; did you mean betta?"
    assert nearest("beta", []) == ""


def test_a_long_list_and_a_long_name_stay_short() -> None:
    assert len(nearest("n" * 10**6, [f"name-{idx}" for idx in range(10**4)])) <= MAX_LISTED + len("; allowed ")


def test_catalogue_and_registry_say_it_alike() -> None:
    family: Family[int] = Family("fruit")
    family.add("h100", 1)
    with pytest.raises(CatalogError, match=r"; allowed a100, .*; did you mean h100\?$"):
        load_gpu("h10")
    assert str(family.problem("h10")).endswith("; allowed h100; did you mean h100?")
