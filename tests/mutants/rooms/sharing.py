"""Faults of data parallelism: what is gathered and reduced, when, by whom, what it takes from compute, and its memory."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

COLLECTIVES = "simulator/assembly/collectives.py"
PLAN = "simulator/step/data_parallel.py"
STATE = "simulator/workload/model_state.py"

SHARING = Room(
    "sharing",
    (
        "tests/assembly/test_action_collectives.py",
        "tests/laws/test_data_parallel.py",
        "tests/laws/test_shard_groups.py",
        "tests/published/test_release_faults.py",
        "tests/scenario/test_sharing_rules.py",
        "tests/workload/test_memory.py",
    ),
    (
        Fault(
            COLLECTIVES,
            "upto = self.issued if at is None else at + 1 + ahead",
            "upto = self.issued if at is None else at + 2 + ahead",
            "a gather runs one unit too far ahead",
        ),
        Fault(
            COLLECTIVES,
            "*(bucket for bucket in gathers if bucket.unit != gathers[0].unit),",
            "*gathers,",
            "the first gather slows kernels down, which wait for it",
        ),
        Fault(
            COLLECTIVES,
            "*(bucket for bucket in reduces if bucket.unit != reduces[-1].unit),",
            "*reduces[:-1],",
            "of several reductions behind the last unit the first ones slow kernels down",
        ),
        Fault(
            COLLECTIVES,
            "share = min(grown.beside_s, room) / held",
            "share = 1.0",
            "all kernels of a pass are slowed down, however short its collectives",
        ),
        Fault(
            COLLECTIVES,
            "share = min(grown.beside_s, room) / held",
            "share = min(grown.beside_s, held) / held",
            "a long reduction slows the kernels before it too",
        ),
        Fault(
            "simulator/assembly/pair.py",
            "preds = [*self.ready, *self.params(idx), *self.copied[-2:-1]]",
            "preds = [*self.ready, *self.copied[-2:-1]]",
            "a unit does not wait for its parameters",
        ),
        Fault(
            "simulator/assembly/pair.py",
            "if plan.reduces_beside:",
            "if plan.reduces:",
            "reductions run beside the backward though they may not",
        ),
        Fault(
            "simulator/scenario/derived.py",
            "return dense_holders(scenario) > 1 or (scenario.model.moe is not None and edp(scenario) > 1)",
            "return dense_holders(scenario) > 1",
            "experts with several holders share nothing where dense parameters have one",
        ),
        Fault(
            "simulator/assembly/expand.py",
            "for target, source in ((early, before_last), (following, last), (start, closing)):",
            "for target, source in ((following, last), (start, closing)):",
            "the first gather of an action waits for nothing",
        ),
        Fault(
            "simulator/assembly/expand.py",
            "for target, source in ((early, before_last), (following, last), (start, closing)):",
            "for target, source in ((early, before_last), (following, last)):",
            "the next micro-batch runs beside the last reduction of one though it may not",
        ),
        Fault(
            "simulator/assembly/shapes.py",
            "is_last = group.last == stage and own.last_backward is not own.backward",
            "is_last = own.last_backward is not own.backward",
            "gradients are reduced in each micro-batch",
        ),
        Fault(
            "simulator/workload/sharded_copies.py",
            'if rule.layout == "by_parameter" or own != wire:',
            "if own != wire:",
            "gradients that keep their format are not copied into the reduction's buffer",
        ),
        Fault(
            "simulator/workload/sharded_copies.py",
            "    if not rule.is_reduced:\n        return\n",
            "",
            "gradients are cast in micro-batches that reduce nothing",
        ),
        Fault(
            "simulator/workload/sharded_copies.py",
            "            if rule.gathers_again:",
            "            if True:",
            "parameters that stay are copied again in the backward",
        ),
        Fault(
            "simulator/workload/counted.py",
            "if scenario.parallel.zero_stage < 3 or not derived.has_several_holders(scenario):",
            "if scenario.parallel.zero_stage < 3:",
            "one holder of its parameters copies what it never gathers",
        ),
        Fault(
            PLAN,
            "again = gathers if zero == 3 and scenario.data_parallel.reshard_after_forward else ()",
            "again = gathers if zero == 3 else ()",
            "parameters are gathered again though they stay",
        ),
        Fault(
            PLAN,
            'op: RingOp = "all_reduce" if is_whole else "reduce_scatter"',
            'op: RingOp = "reduce_scatter"',
            "without ZeRO gradients are summed to shards",
        ),
        Fault(
            PLAN,
            "shard = -(-count // ranks.shard.ranks)",
            "shard = count",
            "the groups of HSDP sum whole gradients",
        ),
        Fault(
            PLAN,
            "if ranks.replicas.ranks > 1 and over_groups:",
            "if ranks.replicas.ranks > 1:",
            "shards are summed over the groups in each micro-batch whatever the scenario says",
        ),
        Fault(
            "simulator/network/placement.py",
            "split = holders.reshape(*holders.shape[:2], num_groups, -1)",
            "split = holders.reshape(*holders.shape[:2], -1, num_groups).swapaxes(2, 3)",
            "shard groups are strided over the nodes, not neighbours",
        ),
        Fault(
            "simulator/workload/buckets.py",
            "if is_open and size_of(is_open) >= limit:",
            "if is_open:",
            "every unit is a bucket",
        ),
        Fault(
            STATE,
            "return self.zero_stage >= 2 and self.reduces_each",
            "return self.zero_stage >= 2",
            "with no_sync a rank keeps a shard of its gradients",
        ),
        Fault(
            STATE,
            "gathered = min(r.halves * two, sum(units)) if r.reshards else sum(units)",
            "gathered = min(r.halves * two, sum(units))",
            "parameters that stay gathered take no memory",
        ),
        Fault(
            "simulator/step/tail.py",
            "cost = messages.between_stages(copy.ranks, schedule.num_ranks, num_bytes)",
            "cost = messages.between_stages(copy.ranks, schedule.num_ranks, 0)",
            "gradients of tied embeddings are summed for free",
        ),
        Fault(
            "simulator/scenario/sharing_rules.py",
            "(is_moe and edp % (dp // group))",
            "(is_moe and dp % (dp // group))",
            "shard groups may cut an expert group",
        ),
    ),
)
