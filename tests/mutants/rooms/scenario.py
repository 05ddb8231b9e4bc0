"""Faults of merging, rules, layouts, defaults and the positions of errors."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

SCENARIO = Room(
    "scenario",
    ("tests/scenario", "tests/laws/test_clock.py", "tests/cli"),
    (
        Fault(
            "simulator/scenario/planned.py",
            "if not any(_is_same(value, known) for known in entry.now):",
            "if not any(value == known for known in entry.now):",
            "tp: true is taken for tp: 1",
        ),
        Fault(
            "simulator/scenario/draft.py",
            "if inherited is not None and not _has(data, path):",
            "if inherited is not None:",
            "a node limit given together with the model falls too",
        ),
        Fault(
            "simulator/scenario/draft.py",
            'or (key == ("model",) and _is_partial_model(new))',
            "",
            "one changed dimension counts as another model",
        ),
        Fault(
            "simulator/scenario/draft.py",
            "self.num_layers + layer.order(path)",
            "self.num_layers",
            "of two options the first is blamed",
        ),
        Fault(
            "simulator/scenario/load.py",
            "number - before,",
            "number,",
            "a shipped model's file is blamed for what does not fit it",
        ),
        Fault(
            "simulator/scenario/load.py",
            "    if found:\n        raise InputError(draft.in_order(",
            "    if found:\n        raise InputError(list(",
            "problems of rules come in the order of the rules",
        ),
        Fault(
            "simulator/scenario/rules.py",
            "if width % block:",
            "if width % block == 1 - block:",
            "widths need not divide into the recipe's blocks",
        ),
        Fault(
            "simulator/check.py",
            "if isinstance(balance, LoadImbalance) and ep > 1:",
            "if isinstance(balance, LoadImbalance) and ep > 10_000:",
            "an imbalance that no group can have is refused without a field",
        ),
        Fault(
            "simulator/scenario/derived.py",
            "return scenario.cluster.num_gpus // scenario.parallel.pp",
            "return scenario.cluster.num_gpus",
            "replicas are counted as if there were no pipeline",
        ),
        Fault(
            "simulator/scenario/derived.py",
            "-(-model.vocab_size // pad) * pad",
            "model.vocab_size // pad * pad",
            "the vocabulary is padded downwards",
        ),
        Fault(
            "simulator/scenario/derived.py",
            "return batch // (dp(scenario) * scenario.training.micro_batch_size)",
            "return batch // dp(scenario)",
            "a micro-batch is one sequence",
        ),
        Fault(
            "simulator/scenario/derived.py",
            "return scenario.parallel.overlap.dp and scenario.data_parallel.grad_reduce.overlap",
            "return scenario.parallel.overlap.dp",
            "the reduction overlaps although its own switch is off",
        ),
        Fault(
            "simulator/scenario/layout.py",
            'dense: list[UnitCode] = ["d"] * model.num_dense_layers',
            'dense: list[UnitCode] = ["m"] * model.num_dense_layers',
            "the first layers have experts too",
        ),
        Fault(
            "simulator/scenario/layout.py",
            'stages[-1] += [*modules, "L"]',
            'stages[-1] += ["L"]',
            "MTP modules stand nowhere",
        ),
        Fault(
            "simulator/scenario/hardware.py",
            "elif num_gpus > size and num_gpus % size:",
            "elif num_gpus > size and num_gpus % size > size:",
            "nodes filled in part pass",
        ),
        Fault(
            "simulator/scenario/hardware.py",
            "groups = pp * ep if moe",
            "groups = pp if moe",
            "counts of GPUs are offered that the expert group does not divide",
        ),
        Fault(
            "simulator/scenario/hardware.py",
            "if limit * experts_per_node < moe.top_k:",
            "if limit * experts_per_node <= moe.top_k:",
            "a limit that just suffices is refused",
        ),
        Fault(
            "simulator/scenario/hardware.py",
            "if scenario.parallel.comm_sms >= gpu.num_sms:",
            "if scenario.parallel.comm_sms > gpu.num_sms:",
            "communication may hold all SMs",
        ),
        Fault(
            "simulator/scenario/draft.py",
            "if given in new and replaced not in new and replaced in old:",
            "if given in new and replaced in old and False:",
            "a phase keeps its tokens beside its new steps",
        ),
        Fault(
            "simulator/scenario/draft.py",
            "if new is None or new == old or (key",
            "if new is None or new != old or (key",
            "a changed node keeps the stack of the old one",
        ),
        Fault(
            "simulator/scenario/rules.py",
            '"training.global_batch_size": (*_BATCH, "parallel.schedule",',
            '"training.global_batch_size": ("parallel.schedule",',
            "a batch blames itself for a changed mesh",
        ),
        Fault(
            "simulator/scenario/rules.py",
            '"precision.recipe": ("cluster.node",),',
            '"precision.recipe": (),',
            "a recipe blames itself for a changed node",
        ),
        Fault(
            "simulator/scenario/rules.py",
            "if moe.top_k > moe.num_routed_experts:",
            "if moe.top_k > moe.num_routed_experts + 1:",
            "a token may choose one expert more than there are",
        ),
        Fault(
            "simulator/scenario/rules.py",
            "if moe.num_routed_experts % ep and",
            "if ep > moe.num_routed_experts and",
            "ranks may hold a fraction of an expert",
        ),
        Fault(
            "simulator/scenario/rules.py",
            "below = value // unit * unit",
            "below = value // unit * unit - unit",
            "the next valid batch below is one too low",
        ),
        Fault(
            "simulator/scenario/assumptions.py",
            '"low": override.low,',
            '"low": assumption.low,',
            "an exact override keeps the old low end",
        ),
    ),
)
