"""Which family a GPU without measurements borrows from: the nearest, and of two equally near ones the older."""

from __future__ import annotations

import pytest

from hwprofiles.catalog import list_names, load_gpu
from hwprofiles.efficiencies import Efficiencies, load_efficiencies
from hwprofiles.same_chip import datasheet_distance, is_same_chip
from hwprofiles.transfer import build_stack


def test_the_older_of_two_equally_near_families_is_nearer() -> None:
    table = Efficiencies.model_construct(families=("old", "middle", "new", "newest"))
    near = [table.distance("middle", other) for other in ("middle", "old", "new", "newest")]
    assert near == sorted(near) and near[0] == 0.0 and len(set(near)) == 4
    assert table.distance("old", "a stranger") > table.distance("old", "newest")
    assert table.distance("a stranger", "newest") < table.distance("a stranger", "new")


@pytest.mark.parametrize("gpu", list_names("gpus"))
def test_no_parameter_comes_from_farther_than_it_must(gpu: str) -> None:
    """A parameter comes from all GPUs of the nearest family that has it; a fit from the nearest datasheet alone."""
    known, family = load_efficiencies(), load_gpu(gpu).family
    having: dict[str, list[str]] = {}
    for group in known.groups:
        for name in group.values:
            if group.gpu is not None and (not group.only_families or family in group.only_families):
                having.setdefault(f"{group.prefix}.{name}".lstrip("."), []).append(str(group.gpu))
    checked = 0
    for key, parameter in build_stack("transfer", gpu).parameters.items():
        if key in having and parameter.source.where.startswith("reached on "):
            told = parameter.source.where.removeprefix("reached on ").partition(":")[0].replace(",", " ").split()
            vendor = load_gpu(gpu).vendor
            steps = {
                name: (load_gpu(name).vendor != vendor, known.distance(family, load_gpu(name).family))
                for name in having[key]
            }
            near = [name for name in having[key] if steps[name] == min(steps.values())]
            is_fit = key.startswith(("gemm.", "attention."))
            sheet = load_gpu(gpu)
            near.sort(
                key=lambda name: (not is_same_chip(load_gpu(name), sheet), datasheet_distance(load_gpu(name), sheet))
            )
            assert {name for name in list_names("gpus") if name in told} == set(near[:1] if is_fit else near), key
            checked += 1
    assert checked > 20
