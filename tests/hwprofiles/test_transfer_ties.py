"""Which family a GPU without measurements borrows from: the nearest, and of two equally near ones the older."""

from __future__ import annotations

import pytest

from hwprofiles.catalog import list_names, load_gpu
from hwprofiles.efficiencies import Efficiencies, load_efficiencies
from hwprofiles.transfer import build_transfer_stack


def test_the_older_of_two_equally_near_families_is_nearer() -> None:
    table = Efficiencies.model_construct(families=("old", "middle", "new", "newest"))
    near = [table.distance("middle", other) for other in ("middle", "old", "new", "newest")]
    assert near == sorted(near) and near[0] == 0.0 and len(set(near)) == 4
    assert table.distance("old", "a stranger") > table.distance("old", "newest")
    assert table.distance("a stranger", "newest") < table.distance("a stranger", "new")


@pytest.mark.parametrize("gpu", list_names("gpus"))
def test_no_parameter_comes_from_farther_than_it_must(gpu: str) -> None:
    """A parameter comes from all GPUs of the nearest family that has it; constants of one fit from the first of them alone."""
    known, family = load_efficiencies(), load_gpu(gpu).family
    having: dict[str, list[str]] = {}
    for group in known.groups:
        for name in group.values:
            if group.gpu not in (None, gpu) and (not group.only_families or family in group.only_families):
                having.setdefault(f"{group.prefix}.{name}".lstrip("."), []).append(str(group.gpu))
    checked = 0
    for key, parameter in build_transfer_stack(load_gpu(gpu)).parameters.items():
        if key in having and parameter.source.where.startswith("reached on "):
            told = parameter.source.where.removeprefix("reached on ").partition(":")[0].replace(",", " ").split()
            steps = {name: known.distance(family, load_gpu(name).family) for name in having[key]}
            near = [name for name in having[key] if steps[name] == min(steps.values())]
            is_fit = key.startswith(("gemm.", "attention."))
            assert {name for name in list_names("gpus") if name in told} == set(near[:1] if is_fit else near), key
            checked += 1
    assert checked > 20
