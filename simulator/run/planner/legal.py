"""Which layouts the simulator's own rules allow, without asking each of them alone.

Every rule is about one of three groups of keys: the mesh inside a stage with the micro-batch; the pipeline with the batch;
schedule, ZeRO stage and recompute. Each group is put into a scenario whose other keys offend nobody, and the loader's rules
(`simulator.check.unfit`) are asked once a group. A layout that is offered is asked whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from simulator.check import unfit
from simulator.run.planner.space import LONE_SCHEDULE, Candidate, Mesh, Space
from simulator.scenario.derived import with_light_end
from simulator.scenario.phase import Phase
from simulator.scenario.scenario import Scenario
from simulator.schedule import SCHEDULES

STEP = (Phase(name="step", steps=1),)


def whole_scenario(space: Space, layout: Candidate) -> Scenario:
    """The scenario in a layout, its layers cut as the loader would."""
    found = space.scenario_of(layout)
    return with_light_end(found) if SCHEDULES[layout.schedule].placement == "folded" else found


def problem_of_layout(space: Space, layout: Candidate) -> str | None:
    """The first key that a rule has something against, of a whole layout."""
    return next((key for key, _ in unfit(whole_scenario(space, layout))), None)


@dataclass
class Rules:
    """Of a space. Each answer is the key of the first broken rule, None where there is none."""

    space: Space
    _inside: dict[tuple[int, ...], str | None] = field(default_factory=dict)
    _pipeline: dict[tuple[str, int, int, int, bool], str | None] = field(default_factory=dict)
    _switches: dict[tuple[str, int, int], str | None] = field(default_factory=dict)

    @cached_property
    def _base(self) -> Scenario:
        return self.space.scenario.model_copy(update={"phases": STEP})

    def small(self, mesh: Mesh, micro_batch_size: int, recompute: int = 0, zero_stage: int = 1) -> Scenario:
        """A mesh's expert and tensor groups on as few GPUs as they lie on in every way, one pipeline rank, one micro-batch."""
        unit = math.lcm(mesh.tp * mesh.cp, mesh.ep * mesh.etp)
        gpus = math.lcm(unit, self.space.domain)
        gpus = gpus if gpus <= self.space.num_gpus else unit
        layout = Candidate(
            mesh.tp, mesh.cp, 1, mesh.ep, mesh.etp, micro_batch_size, LONE_SCHEDULE, 1, zero_stage, recompute
        )
        sections = self.space.sections_of(layout)
        batch = gpus // (mesh.tp * mesh.cp) * micro_batch_size
        sections["training"] = sections["training"].model_copy(update={"global_batch_size": batch})
        cluster = self._base.cluster.model_copy(update={"num_gpus": gpus})
        return self._base.model_copy(update={**sections, "cluster": cluster})

    def inside(self, mesh: Mesh, micro_batch_size: int) -> str | None:
        """Of what is cut inside a stage."""
        key = (mesh.tp, mesh.cp, mesh.ep, mesh.etp, micro_batch_size)
        if key not in self._inside:
            self._inside[key] = next((name for name, _ in unfit(self.small(mesh, micro_batch_size))), None)
        return self._inside[key]

    def pipeline(self, mesh: Mesh, micro_batch_size: int, schedule: str, vpp: int) -> str | None:
        """Of the pipeline and the batch, with the ramps of the phases."""
        unit = self.space.num_gpus // (mesh.tp * mesh.cp * mesh.pp) * micro_batch_size
        key = (schedule, vpp, mesh.pp, unit, self._sends(schedule, mesh.ep))
        if key not in self._pipeline:
            layout = Candidate(*mesh, micro_batch_size, schedule, vpp, 1, 0)
            self._pipeline[key] = self._outside(layout)
        return self._pipeline[key]

    def switches(self, layout: Candidate) -> str | None:
        """Of the schedule's executor beside ZeRO and recompute, of a layout that breaks no other rule."""
        key = (layout.schedule, layout.zero_stage, layout.recompute)
        if key not in self._switches:
            self._switches[key] = self._outside(layout)
        return self._switches[key]

    def _sends(self, schedule: str, ep: int) -> bool:
        """Whether experts are elsewhere, where the schedule asks."""
        return SCHEDULES[schedule].pairs_by_layer and ep > 1

    def _outside(self, layout: Candidate) -> str | None:
        """Of a layout but for how its expert groups lie, which `inside` asks: these stay on a rank where nobody sends."""
        sends = self._sends(layout.schedule, layout.ep)
        found = whole_scenario(self.space, layout if sends else layout._replace(ep=1, etp=1))
        moe = found.moe.model_copy(update={"max_nodes_per_token": None})
        return next((key for key, _ in unfit(found.model_copy(update={"moe": moe}))), None)
