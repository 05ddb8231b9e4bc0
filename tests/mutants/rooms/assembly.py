"""Faults of the graph: order and dependencies in a pair, streams, the tail, parts of a step, memory over time."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "simulator/assembly"

ASSEMBLY = Room(
    "assembly",
    ("tests/assembly",),
    (
        Fault(
            f"{ROOT}/pair.py",
            '    backward.run_weights(b, b_idx, "mlp_w", backward.mlp)\n    forward.run_mlp(f, f_idx)\n',
            '    forward.run_mlp(f, f_idx)\n    backward.run_weights(b, b_idx, "mlp_w", backward.mlp)\n',
            "weight gradients of the experts run behind the forward's experts",
        ),
        Fault(
            f"{ROOT}/pair.py",
            "    backward.run_combine(b, b_idx)\n    forward.run_attn(f, f_idx)\n    forward.run_dispatch(f, f_idx)\n",
            "    forward.run_attn(f, f_idx)\n    forward.run_dispatch(f, f_idx)\n    backward.run_combine(b, b_idx)\n",
            "the forward's dispatch comes before the backward's combine",
        ),
        Fault(
            f"{ROOT}/pair.py",
            '"mlp_f_local", [*self.attn, *self.dispatch], self.pending_input)',
            '"mlp_f_local", self.attn, self.pending_input)',
            "experts do not wait for their dispatch",
        ),
        Fault(
            f"{ROOT}/pair.py",
            '"attn_b", [*self.mlp, *self.dispatch])',
            '"attn_b", self.mlp)',
            "attention's backward does not wait for the gradients that come back",
        ),
        Fault(
            f"{ROOT}/pair.py",
            '"arriving" if name in ("dispatch_f", "dispatch_r", "combine_b") else "leaving"',
            '"leaving" if name in ("dispatch_f", "dispatch_r", "combine_b") else "arriving"',
            "loads of sending and receiving nodes swapped",
        ),
        Fault(
            f"{ROOT}/pair.py",
            "for i in range(idx + 1 - unit.replays, idx + 1):",
            "for i in range(idx, idx + 1):",
            "of a group of checkpointed layers only the last runs again before its backward",
        ),
        Fault(
            f"{ROOT}/pair.py",
            'self.units[i], i, "attn_r", [*done, *self.params(i)], self.pending_input)',
            'self.units[i], i, "attn_r", [*done, *self.params(i)])',
            "a layer runs again before its backward may start",
        ),
        Fault(
            f"{ROOT}/pair.py",
            'done = self.transfer(self.units[i], i, "combine_r", done)',
            "done = done or self.ready",
            "what comes back of the experts is not sent again",
        ),
        Fault(
            f"{ROOT}/pair.py",
            "if any(unit.all_to_all for unit in units)",
            "if all(unit.all_to_all for unit in units)",
            "a dense layer beside a MoE layer does not lose the SMs of its communication",
        ),
        Fault(
            f"{ROOT}/pair.py",
            'waits_for_both = kind == "FB" and wait_at_boundary',
            "waits_for_both = False",
            "a pair does not wait for the inputs of both halves",
        ),
        Fault(
            f"{ROOT}/pair.py",
            "    if with_weights:\n        backward.mlp = backward.run_weights",
            "    if not with_weights:\n        backward.mlp = backward.run_weights",
            "weight gradients of the experts run in the input-only backward",
        ),
        Fault(
            f"{ROOT}/tail.py",
            "            if not tail.overlap_reduce:\n",
            "            if tail.overlap_reduce:\n",
            "gradients are reduced behind the pipeline where they should be beside it",
        ),
        Fault(
            f"{ROOT}/tail.py",
            "[last_backward[holder, stage] for holder in schedule.holders(stage)]",
            "[last_backward[rank, stage]]",
            "a reduction does not wait for the stage's other holder",
        ),
        Fault(
            f"{ROOT}/tail.py",
            "tail.norm, reduced, join=True)",
            "tail.norm, [], join=True)",
            "the norm is summed before the gradients are",
        ),
        Fault(
            f"{ROOT}/expand.py",
            '"arriving": 1, "leaving": 2}',
            '"arriving": 2, "leaving": 1}',
            "load rows of a node and of the fullest node swapped",
        ),
        Fault(
            f"{ROOT}/expand.py",
            "(a.micro_batch, a.micro_batch if a.b_micro_batch is None else a.b_micro_batch)",
            "(a.micro_batch, a.micro_batch)",
            "a pair's backward has the expert load of its forward",
        ),
        Fault(
            f"{ROOT}/expand.py",
            "speed_row = np.where(shape.stream == COMPUTE, num_load_rows + ranks[members][:, None], -1)",
            "speed_row = np.where(shape.stream == COMPUTE, num_load_rows, -1)",
            "every rank has the speed of the first one's GPU",
        ),
        Fault(
            f"{ROOT}/expand.py",
            "local = np.where(stays, outs[",
            "local = np.where(~stays, outs[",
            "an output stays on its rank where it is sent, and is sent where it stays",
        ),
        Fault(
            f"{ROOT}/intervals.py",
            "(idle + backward_end - last)",
            "(idle)",
            "the wait for the last backward of all ranks is no bubble",
        ),
        Fault(
            f"{ROOT}/intervals.py",
            "inputs[pairs] = arrivals[pairs].min(axis=1)",
            "inputs[pairs] = arrivals[pairs].max(axis=1)",
            "a pair begins with the last of its inputs although it does not wait for it",
        ),
        Fault(
            f"{ROOT}/memory_peak.py",
            '[(-1, tuple(tensor for tensor in block.saved if tensor.until == "I")), (1, block.deferred)]',
            '[(-1, tuple(tensor for tensor in block.saved if tensor.until == "I"))]',
            "operands that wait for a weight part take no memory",
        ),
        Fault(
            f"{ROOT}/memory_peak.py",
            "yield [*done, (1, block.saved), (1, block.outputs), (1, block.working_forward)]",
            "yield [*done, (1, block.saved), (1, block.outputs)]",
            "a forward at work needs no more than what it saves",
        ),
        Fault(
            f"{ROOT}/memory_peak.py",
            "max(instants, key=lambda instant: instant[0])",
            "min(instants, key=lambda instant: instant[0])",
            "the emptiest instant of an action is its peak",
        ),
        Fault(
            f"{ROOT}/memory_peak.py",
            'for block in blocks if kind == "F" else reversed(blocks):',
            "for block in blocks:",
            "a backward frees the first layers first",
        ),
        Fault(
            f"{ROOT}/unit_costs.py",
            "each.shape.num_kernels * pricing.prices.gap_s",
            "pricing.prices.gap_s",
            "operators of several kernels have one gap",
        ),
        Fault(
            f"{ROOT}/unit_costs.py",
            "return add_segments((before, own))",
            "return own",
            "the cast before a combine takes no time",
        ),
        Fault(
            f"{ROOT}/unit_costs.py",
            'yield ".routed", "rank", _sum_work(routed, pricing)',
            'yield ".routed", "none", _sum_work(routed, pricing)',
            "expert GEMMs do not feel their load",
        ),
        Fault(
            f"{ROOT}/conservation.py",
            '("B or W", done["B"] + done["W"])',
            '("B or W", done["B"] + done["I"])',
            "lost weight parts are not noticed",
        ),
        Fault(
            "simulator/assembly/expand.py",
            'schedule, hops, stage, stage + 1 if kind == "F" else stage - 1, micro_batch',
            'schedule, hops, stage, stage - 1 if kind == "F" else stage + 1, micro_batch',
            "outputs leave the last stage and not the first",
        ),
        Fault(
            "simulator/assembly/expand.py",
            "hops[rank if (rank + 1) % schedule.num_ranks == partner else partner]",
            "hops[rank]",
            "what goes back takes the next rank's hop",
        ),
        Fault(
            "simulator/assembly/expand.py",
            "            sent = np.flatnonzero(sends[:-1] >= 0)\n",
            "            sent = np.flatnonzero(sends[:-1] >= 0)[:-1]\n",
            "the chunk behind a rank's last transfer does not wait for it",
        ),
        Fault(
            "simulator/assembly/joint.py",
            "for earlier in (met.sender, ordered.before[met.receiver]):",
            "for earlier in (met.sender,):",
            "a joint transfer does not wait for its receiver",
        ),
        Fault(
            "simulator/assembly/joint.py",
            "    goes_on = following >= 0\n",
            "    goes_on = following < -1\n",
            "a sender does not wait for its joint transfer",
        ),
        Fault(
            "simulator/step/graph.py",
            "        return not step.scenario.parallel.overlap.pp\n",
            "        return step.scenario.parallel.overlap.pp\n",
            "an interleaved rank waits for its transfers where they are overlapped",
        ),
        Fault(
            "simulator/assembly/tail.py",
            "waits = [norms[rank], compute_end[rank]]",
            "waits = [compute_end[rank]]",
            "the optimizer does not wait for the norm",
        ),
        Fault(
            "simulator/assembly/memory_peak.py",
            "        if fullest > peak_bytes:",
            "        if fullest >= peak_bytes:",
            "the last of the fullest instants is told",
        ),
        Fault(
            "simulator/assembly/pair.py",
            '        back.run_weights(unit, idx, "attn_w", waits)\n',
            "",
            "deferred weight parts leave attention out",
        ),
        Fault(
            "simulator/assembly/unit_costs.py",
            "key = (unit.kind, tuple(unit.blocks.items()), tuple(unit.all_to_all.items()))",
            "key = (unit.kind,)",
            "a layer costs what the first of its kind does",
        ),
        Fault(
            "simulator/assembly/memory_peak.py",
            "    if waiting or live != kept:",
            "    if waiting and live != kept:",
            "bytes that are left at the end are not noticed",
        ),
        Fault(
            "simulator/assembly/conservation.py",
            "TOLERANCE = 1e-9",
            "TOLERANCE = 1e-2",
            "a lost hundredth of the FLOP is not noticed",
        ),
        Fault(
            "simulator/assembly/step_graph.py",
            "found[rows >= 0] = multipliers[rows[rows >= 0]]",
            "found[rows > 0] = multipliers[rows[rows > 0]]",
            "the first draw row multiplies nothing",
        ),
        Fault(
            "simulator/assembly/tail.py",
            "key=lambda s: last_backward[rank, s])",
            "key=lambda s: -last_backward[rank, s])",
            "the gradients that are ready last are reduced first",
        ),
        Fault(
            "simulator/assembly/intervals.py",
            "backward_end = float(last.max())",
            "backward_end = float(last[0].max())",
            "the last backward is that of rank 0",
        ),
    ),
)
