"""The smallest cluster on which a layout fits, by the memory screen alone."""

from __future__ import annotations

from simulator.network.domains import domain_use_of
from simulator.run.planner.cluster_sizes import MAX_FOUND
from simulator.run.planner.space import LONE_SCHEDULE, Space
from simulator.scenario.scenario import Scenario


def largest_margin(scenario: Scenario) -> float | None:
    """Bytes that the fullest GPU of the roomiest layout has left, by the screen; None where no layout is legal.

    The smallest micro-batch under plain 1F1B holds the least of what a schedule of one chunk a rank can.
    """
    from simulator.run.planner.candidates import Candidates

    found = Candidates(scenario)
    best: float | None = None
    for mesh in found.space.meshes:
        sizes = found.space.micro_batch_sizes(mesh)
        if not sizes or found.rules.inside(mesh, sizes[0]) or found.rules.pipeline(mesh, sizes[0], LONE_SCHEDULE, 1):
            continue
        margin = float(found.screen.margins(mesh, sizes[0], LONE_SCHEDULE, 1).max())
        best = margin if best is None else max(best, margin)
        if best >= 0:
            break
    return best


def sizes_above(scenario: Scenario) -> list[int]:
    """Clusters worth asking about: whole domains (or powers of two below one), two and three times a power of two of them."""
    domain, gpus = domain_use_of(scenario).gpus_per_domain, scenario.cluster.num_gpus
    found = {domain << power for power in range(20)} | {3 * (domain << power) // 2 for power in range(20)}
    return sorted(size for size in found if gpus < size <= MAX_FOUND)


def smallest_that_fits(scenario: Scenario) -> int | None:
    """Of larger clusters the first on which a layout fits; None where none does."""
    for size in sizes_above(scenario):
        cluster = scenario.cluster.model_copy(update={"num_gpus": size})
        margin = largest_margin(scenario.model_copy(update={"cluster": cluster}))
        if margin is not None and margin >= 0:
            return size
    return None


def smallest_text(scenario: Scenario) -> str:
    """What an error says where no layout fits."""
    gpus, model = scenario.cluster.num_gpus, scenario.model.name
    if Space(scenario).num_candidates and largest_margin(scenario) is None:
        text = f"no layout of model {model} on {gpus} GPUs is legal"
        return f"{text}; change cluster.num_gpus or training.global_batch_size, whose divisors the degrees are"
    size = smallest_that_fits(scenario)
    if size is None:
        return (
            f"no layout of model {model} fits on {gpus} GPUs, nor on more, up to {MAX_FOUND:,}; use GPUs of more memory"
        )
    return f"no layout of model {model} fits on {gpus} GPUs; the smallest cluster on which one does has {size} GPUs"
