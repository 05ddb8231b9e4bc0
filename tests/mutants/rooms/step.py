"""Faults of pricing, messages, the tail, the router's question, draws, effects and memory."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

STEP = Room(
    "step",
    (
        "tests/expected",
        "tests/step",
        "tests/laws/test_replicas.py",
        "tests/laws/test_clock.py",
        "tests/laws/test_assumptions.py",
        "tests/laws/test_closed_forms.py",
    ),
    (
        Fault(
            "simulator/step/pricing.py",
            "full * getattr(alone, key) + (1 - full) * getattr(shared, key)",
            "(1 - full) * getattr(alone, key) + full * getattr(shared, key)",
            "shares of full and small grids swapped",
        ),
        Fault(
            "simulator/step/pricing.py",
            "scenario.parallel.comm_sms if on.sm_partition and is_dispatching else None",
            "scenario.parallel.comm_sms if on.sm_partition else None",
            "a dense model loses SMs to communication that it has not",
        ),
        Fault(
            "simulator/step/pricing.py",
            'stack.provenance.clock != "sustained" and scenario.device.clock != "burst"',
            'stack.provenance.clock != "sustained"',
            "the burst clock is ignored",
        ),
        Fault(
            "simulator/step/pricing.py",
            'gap_s=need(stack, "kernel_gap_s").value if on.kernel_gaps else 0.0',
            'gap_s=need(stack, "kernel_gap_s").value',
            "kernel gaps cannot be switched off",
        ),
        Fault(
            "simulator/step/messages.py",
            "low=cost.low + floor.low, high=cost.high + floor.high",
            "low=cost.low + floor.high, high=cost.high + floor.high",
            "the low end of a dispatch has the high end of its notification",
        ),
        Fault(
            "simulator/step/messages.py",
            "stride = max(1, self.placement.pp_node_stride)",
            "stride = 1",
            "pipeline neighbours are always under one leaf",
        ),
        Fault(
            "simulator/step/tail.py",
            "return _Holders(placement.dense_dp_mirror, placement.expert_dp_mirror)",
            "return _Holders(placement.dense_dp, placement.expert_dp)",
            "DualPipe reduces over one holder of a stage",
        ),
        Fault(
            "simulator/step/tail.py",
            "state = 4 + 2 * MOMENT_BYTES[scenario.training.optimizer]",
            "state = 4 + MOMENT_BYTES[scenario.training.optimizer]",
            "AdamW has one moment",
        ),
        Fault(
            "simulator/step/tail.py",
            'reduce=collectives("reduce_scatter", gradient)',
            'reduce=collectives("reduce_scatter", PARAMETER_BYTES)',
            "gradients are reduced in the format of parameters",
        ),
        Fault(
            "simulator/step/tail.py",
            "-(-stage.expert_params // holders.expert.ranks)",
            "-(-stage.expert_params // holders.dense.ranks)",
            "experts are sharded as if every rank held them",
        ),
        Fault(
            "simulator/step/routing.py",
            "sequences=ep * training.micro_batch_size",
            "sequences=ep",
            "larger micro-batches are as uneven as single sequences",
        ),
        Fault(
            "simulator/step/routing.py",
            "routing.noise_cv, routing.persistent_cv, ranks, nodes",
            "routing.persistent_cv, routing.noise_cv, ranks, nodes",
            "fresh and persistent load swapped",
        ),
        Fault(
            "simulator/step/routing.py",
            "group_top=2 if moe.router_bias else 1",
            "group_top=1",
            "groups are ranked by their best expert alone",
        ),
        Fault(
            "simulator/step/draws.py", "MAX_REPLICAS = 64", "MAX_REPLICAS = 32", "fewer replicas wait for each other"
        ),
        Fault(
            "simulator/step/draws.py",
            "loads[:, :, 0] *= slowness[graph.unit_ranks]",
            "loads[:, :, 0] *= slowness[0]",
            "experts run at the speed of the first rank's GPU",
        ),
        Fault(
            "simulator/step/draws.py",
            "float(np.mean(equal_loads)) - even_s\n",
            "float(np.mean(equal_loads))\n",
            "what unequal GPUs add is the whole step",
        ),
        Fault(
            "simulator/step/effects.py",
            "low=min(0.0, *changes), high=max(0.0, *changes)",
            "low=min(0.0, changes[0]), high=max(0.0, changes[1])",
            "an assumption that acts the other way has no effect",
        ),
        Fault(
            "simulator/step/effects.py",
            "noise_cv(*size, changed) / noise_cv(*size, stated)",
            "noise_cv(*size, stated) / noise_cv(*size, changed)",
            "more alike tokens are more even",
        ),
        Fault("simulator/step/effects.py", "seq_len * moe.top_k)", "seq_len)", "a token makes one choice"),
        Fault(
            "simulator/step/memory.py",
            "load.persistent_cv / sqrt(layers), load.ranks",
            "load.persistent_cv, load.ranks",
            "a rank is hot in all its layers",
        ),
        Fault(
            "simulator/step/memory.py",
            "device = gpu.device_bytes or gpu.hbm_bytes",
            "device = gpu.hbm_bytes",
            "what the driver keeps can be used",
        ),
        Fault(
            "simulator/step/result.py",
            "interval=Interval(low=step_s - down, high=step_s + up)",
            "interval=Interval(low=step_s - up, high=step_s + down)",
            "ends of the interval swapped",
        ),
        Fault(
            "simulator/step/result.py",
            'float(kind["B"][rank] + kind["I"][rank])',
            'float(kind["B"][rank])',
            "input-only backwards are in no part",
        ),
        Fault(
            "simulator/step/messages.py",
            "has_notify_floor=on.notify_floor",
            "has_notify_floor=True",
            "the notification cannot be switched off",
        ),
        Fault(
            "simulator/step/messages.py",
            "has_transfers=on.pp_transfer and",
            "has_transfers=",
            "transfers cannot be switched off",
        ),
        Fault(
            "simulator/step/tail.py",
            "shard * (4 + state), shard",
            "shard * state, shard",
            "the optimizer reads no gradient",
        ),
        Fault(
            "simulator/step/tail.py",
            "optimizer=[add_segments(optimizer[stage] for stage in held) for held in schedule.placement]",
            "optimizer=[add_segments([optimizer[held[0]]]) for held in schedule.placement]",
            "a rank of DualPipe updates one of its stages",
        ),
        Fault(
            "simulator/step/routing.py",
            "LoadModel(cv, 0.0, ranks, nodes)",
            "LoadModel(0.0, cv, ranks, nodes)",
            "a given imbalance is the same in all micro-batches",
        ),
        Fault(
            "simulator/step/routing.py",
            "return routing_statistics(rule, scenario.seed)",
            "return routing_statistics(rule, 0)",
            "the router is drawn from one seed",
        ),
        Fault(
            "simulator/step/routing.py",
            "    if scenario.mechanisms.node_limited_dispatch:",
            "    if True:",
            "the node limit cannot be switched off",
        ),
        Fault(
            "simulator/step/draws.py",
            "scenario.draws, scenario.seed)",
            "scenario.draws, 0)",
            "draws come from one seed",
        ),
        Fault(
            "simulator/step/draws.py",
            "range(random.draws if random.is_random else 1)",
            "range(min(random.draws, 8) if random.is_random else 1)",
            "at most eight draws are run",
        ),
        Fault(
            "simulator/step/draws.py",
            "spread = (speed_cv if given is None else given) if scenario.mechanisms.speed_spread else 0.0",
            "spread = speed_cv if given is None else given",
            "the spread of speed cannot be switched off",
        ),
        Fault(
            "simulator/step/draws.py",
            "factor = float(loads[:, :, 0].max(axis=-1).mean())",
            "factor = float(loads[:, :, 0].max())",
            "the fullest rank of all layers is told as the mean",
        ),
        Fault(
            "simulator/step/draws.py",
            "constant[: num_load_rows : loads.shape[2]] = factor",
            "constant[:num_load_rows] = factor",
            "a constant factor slows messages too",
        ),
        Fault(
            "simulator/step/result.py",
            "tokens = batch * scenario.training.seq_len",
            "tokens = scenario.training.global_batch_size * scenario.training.seq_len",
            "a step of a small batch has the tokens of the full one",
        ),
        Fault(
            "simulator/step/batches.py",
            "if self._step is None or self._step.scenario is not scenario:",
            "if self._step is None:",
            "a simulator answers for the first scenario that it saw",
        ),
        Fault(
            "simulator/step/memory.py",
            "usable_bytes=usable_bytes(device, question.assumed.fragmentation_frac)",
            "usable_bytes=usable_bytes(device, 0.0)",
            "nothing is reserved for fragmentation",
        ),
        Fault(
            "simulator/step/result.py",
            'hardware.gpu.peak_flop_per_s["bf16"]',
            "max(hardware.gpu.peak_flop_per_s.values())",
            "MFU is of the fastest format",
        ),
    ),
)
