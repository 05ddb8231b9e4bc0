"""The layouts that are looked at: every degree that the cluster and the model divide by, with every schedule and batch.

A mesh is (tp, cp, pp, ep, etp); on each stand all micro-batches, schedules with their virtual stages, ZeRO stages and
recomputes. The bounds, all said in the plan's `rejected` where they cut something off:

    tp                powers of two inside a scale-up domain, at most MAX_TP
    cp                powers of two that leave a GPU MIN_CP_TOKENS tokens of a sequence
    pp                divisors of the GPUs, at most a stage a layer
    ep                divisors of the experts; etp 1 or tp
    micro_batch_size  powers of two up to MAX_MICRO_BATCH that leave a GPU at most MAX_TOKENS tokens (one sequence always)
    vpp               2 to MAX_VPP where chunks are of equal length, or powers of two
    meshes            MAX_MESHES, those with the fewest GPUs a replica first
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from simulator.network.domains import domain_use_of
from simulator.run.layout_text import DEGREES, layout_words
from simulator.run.planner.context_way import context_way
from simulator.scenario.parallel import DataParallel, Parallel
from simulator.scenario.plan import Recompute
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import divisors
from simulator.schedule import SCHEDULES

MAX_TP: Final = 16
MIN_CP_TOKENS: Final = 4_096
MAX_MICRO_BATCH: Final = 8
MAX_TOKENS: Final = 16_384
MAX_VPP: Final = 8
MAX_MESHES: Final = 4_000
ZERO_STAGES: Final = (0, 1, 2, 3)
LEFT_OUT: Final = frozenset({"gpipe"})
"""Schedules with another's bubble and more memory: no layout of theirs is ever the best."""
LONE_SCHEDULE: Final = "1f1b"
"""Of a pipeline of one rank, whose schedules but for pairs by layer are all the same."""


class Mesh(NamedTuple):
    """Degrees of a mesh."""

    tp: int
    cp: int
    pp: int
    ep: int
    etp: int


class Candidate(NamedTuple):
    """A layout. recompute: place in the space's recomputes."""

    tp: int
    cp: int
    pp: int
    ep: int
    etp: int
    micro_batch_size: int
    schedule: str
    vpp: int
    zero_stage: int
    recompute: int

    @property
    def mesh(self) -> Mesh:
        """Its degrees."""
        return Mesh(*self[:5])


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 … up to the most."""
    return [1 << power for power in range(max(1, most).bit_length())]


@dataclass(frozen=True)
class Space:
    """All layouts of a scenario: of its model, cluster, batch and sequence; everything else as it says."""

    scenario: Scenario

    @cached_property
    def num_gpus(self) -> int:
        """GPUs of the cluster."""
        return self.scenario.cluster.num_gpus

    @cached_property
    def domain(self) -> int:
        """GPUs used of a scale-up domain."""
        return domain_use_of(self.scenario).gpus_per_domain

    @cached_property
    def recomputes(self) -> tuple[Recompute, ...]:
        """What the backward may compute again, the least first: nothing; norms and what is wide and cheap; the feed-forward
        networks too; whole layers; and what the scenario says, in front of whole layers.
        """
        model, own = self.scenario.model, self.scenario.recompute
        cheap = ["rmsnorm", *sorted(model.attention.recompute_modules & {"mla_up_proj"})]
        ffn = [*(["mlp"] if model.has_dense_layers else []), *(["moe"] if model.moe is not None else [])]

        def made(granularity: str, modules: tuple[str, ...] = ()) -> Recompute:
            return Recompute.model_validate(
                {"granularity": granularity, "modules": modules, "saved": own.saved.model_dump()}
            )

        found = [
            made("none"),
            made("selective", (*cheap, "swiglu")),
            own,
            made("selective", (*cheap, *ffn)),
            made("full"),
        ]
        return tuple(dict.fromkeys(found))

    @cached_property
    def all_meshes(self) -> tuple[Mesh, ...]:
        """Every mesh within the bounds of the degrees, the fewest GPUs a replica first."""
        moe, seq_len, gpus = self.scenario.model.moe, self.scenario.training.seq_len, self.num_gpus
        experts = list(divisors(moe.num_routed_experts)) if moe is not None else [1]
        found = []
        for tp in powers_of_two(min(MAX_TP, self.domain)):
            for cp in powers_of_two(max(1, seq_len // MIN_CP_TOKENS)):
                if gpus % (tp * cp):
                    continue
                for pp in divisors(gpus // (tp * cp)):
                    if pp > self.scenario.model.num_layers:
                        break
                    ranks = gpus // pp
                    for etp in dict.fromkeys((1, tp if moe is not None else 1)):
                        found += [Mesh(tp, cp, pp, ep, etp) for ep in experts if ranks % (ep * etp) == 0]
        return tuple(sorted(found, key=lambda mesh: (mesh.tp * mesh.cp * mesh.pp, mesh)))

    @cached_property
    def meshes(self) -> tuple[Mesh, ...]:
        """Those that are looked at."""
        return self.all_meshes[:MAX_MESHES]

    def micro_batch_sizes(self, mesh: Mesh) -> tuple[int, ...]:
        """Sequences of a micro-batch that divide a pipeline's share of the batch."""
        training, dp = self.scenario.training, self.num_gpus // (mesh.tp * mesh.cp * mesh.pp)
        if training.global_batch_size % dp:
            return ()
        share, tokens = training.global_batch_size // dp, training.seq_len // mesh.cp
        sizes = powers_of_two(min(MAX_MICRO_BATCH, max(1, MAX_TOKENS // tokens)))
        return tuple(size for size in sizes if share % size == 0)

    def schedules(self, pp: int) -> tuple[tuple[str, int], ...]:
        """(schedule, vpp) of a pipeline of so many ranks, legal or not."""
        return tuple(self._schedules(pp))

    def _schedules(self, pp: int) -> Iterator[tuple[str, int]]:
        layers = self.scenario.model.num_layers
        for name in SCHEDULES:
            if name in LEFT_OUT:
                continue
            rule = SCHEDULES[name]
            if pp == 1:
                if name == LONE_SCHEDULE or (rule.pairs_by_layer and rule.own_chunks == 1):
                    yield name, 1
            elif rule.own_chunks is not None:
                yield name, rule.own_chunks
            else:
                chunks = range(2, min(MAX_VPP, layers // pp) + 1)
                yield from ((name, v) for v in chunks if layers % (pp * v) == 0 or v & (v - 1) == 0)

    @cached_property
    def num_candidates(self) -> int:
        """Of all meshes, looked at or not."""
        return self._number(self.all_meshes)

    @cached_property
    def num_looked_at(self) -> int:
        """Of the meshes that are looked at."""
        return self._number(self.meshes)

    def _number(self, meshes: Iterable[Mesh]) -> int:
        meshes = list(meshes)
        per_pp = {pp: len(self.schedules(pp)) for pp in {mesh.pp for mesh in meshes}}
        inner = len(ZERO_STAGES) * len(self.recomputes)
        return sum(per_pp[mesh.pp] * max(1, len(self.micro_batch_sizes(mesh))) for mesh in meshes) * inner

    def scenario_of(self, layout: Candidate) -> Scenario:
        """The scenario in a layout: a copy, whose rules are the caller's to ask."""
        return self.scenario.model_copy(update=self.sections_of(layout))

    @cached_property
    def _plan(self) -> Parallel:
        """The section, as one that is stated."""
        return Parallel.model_construct(
            **{name: getattr(self.scenario.parallel, name) for name in Parallel.model_fields}
        )

    def sections_of(self, layout: Candidate) -> dict[str, Any]:
        """The sections that a layout replaces. What was chosen for another layout falls: cuts of the layers, shard groups."""
        plan, training = self._plan, self.scenario.training
        overlap = plan.overlap.model_copy(update={"ep": None}) if plan.overlap.ep == "pair" else plan.overlap
        if layout.tp == 1 and overlap.tp != "none":
            overlap = overlap.model_copy(update={"tp": "none"})
        degrees = {key: getattr(layout, key) for key in (*DEGREES, "zero_stage", "schedule")}
        changes = {
            **degrees, "sequence_parallel": layout.tp > 1, "layers_per_stage": None, "split_backward": True,
            "overlap": overlap, "cp_comm": context_way(self.scenario, layout.tp, layout.cp),
        }  # fmt: skip
        data: DataParallel = self.scenario.data_parallel
        return {
            "parallel": plan.model_copy(update=changes),
            "training": training.model_copy(update={"micro_batch_size": layout.micro_batch_size}),
            "recompute": self.recomputes[layout.recompute],
            "data_parallel": data.model_copy(update={"hsdp_group": None}) if data.hsdp_group else data,
        }

    def keys_of(self, layout: Candidate) -> dict[str, Any]:
        """Dotted key → value, as `--set` takes them, of what a layout decides."""
        sections = self.sections_of(layout)
        plan, recompute = sections["parallel"], self.recomputes[layout.recompute]
        names = (
            "tp",
            "cp",
            "cp_comm",
            "pp",
            "vpp",
            "ep",
            "etp",
            "sequence_parallel",
            "zero_stage",
            "schedule",
            "layers_per_stage",
        )
        keys = {f"parallel.{name}": getattr(plan, name) for name in names}
        if plan.overlap != self.scenario.parallel.overlap:
            keys |= {f"parallel.overlap.{name}": getattr(plan.overlap, name) for name in ("ep", "tp")}
        if self.scenario.data_parallel.hsdp_group:
            keys["data_parallel.hsdp_group"] = None
        keys["training.micro_batch_size"] = layout.micro_batch_size
        keys |= {"recompute.granularity": recompute.granularity, "recompute.modules": list(recompute.modules)}
        return {**keys, "recompute.method": recompute.method, "recompute.num_layers": recompute.num_layers}

    def text_of(self, layout: Candidate) -> str:
        """A layout in words."""
        recompute = self.recomputes[layout.recompute]
        again: str = recompute.granularity
        if recompute.modules:
            again += f" ({', '.join(recompute.modules)})"
        return layout_words(layout, layout.micro_batch_size, again)
