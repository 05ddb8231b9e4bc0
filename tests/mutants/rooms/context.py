"""Faults of context parallelism: what is exchanged around attention, the kernels of its parts, who shares what."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

LAYER = "simulator/workload/layers/context_parallel.py"

CONTEXT = Room(
    "context",
    (
        "tests/workload/test_context_parallel.py",
        "tests/laws/test_context_parallel.py",
        "tests/scenario/test_context_rules.py",
        "tests/costs/test_exchange.py",
        "tests/validation/test_context_parallel.py",
    ),
    (
        Fault(
            LAYER,
            'for tensor, sends in (("kv", i < last), ("kv_grad", phase == "I" and i > 0))',
            'for tensor, sends in (("kv", i < last), ("kv_grad", False))',
            "a ring's backward sends no gradients",
        ),
        Fault(
            LAYER,
            "kv = run.kv_heads if run.kv_heads % r.cp == 0 else r.cp",
            "kv = run.kv_heads",
            "heads of keys are sent to one rank each, however few there are",
        ),
        Fault(
            LAYER,
            "(own, own / 2) if i <= cp // 2 else (own / 2, own)",
            "(own, own)",
            "later steps of a ring have whole blocks of queries and keys",
        ),
        Fault(
            "simulator/workload/layers/mla.py",
            "return r.tokens * r.cp, a.num_heads // r.cp if",
            "return r.tokens, a.num_heads // r.cp if",
            "latents of other ranks are never projected up",
        ),
        Fault(
            "simulator/costs/collectives/exchange.py",
            "if group.nodes == 1:",
            "if True:",
            "a ring over several nodes has no hop between them",
        ),
        Fault(
            "simulator/scenario/derived.py",
            "return dp(scenario) * scenario.parallel.cp",
            "return dp(scenario)",
            "ranks of a context-parallel group hold no replicas of one another's parameters",
        ),
        Fault(
            LAYER,
            'if phase == "I" and kv > run.kv_heads:',
            "if False:",
            "gradients of a head's copies are not added up",
        ),
        Fault(
            LAYER,
            "Part(b - a, b if window is None else min(b, b - a + window), own * scale",
            "Part(b - a, b, own * scale",
            "a chunk's kernel has all keys before it, whatever its window",
        ),
        Fault(
            "simulator/workload/layers/context_memory.py",
            'bf16("attn.kv_gathered", 2 * r.cp * kv)',
            'bf16("attn.kv_gathered", r.cp * kv)',
            "gradients of gathered keys and values take no room",
        ),
        Fault(
            "simulator/workload/layers/context_memory.py",
            "        if more:",
            "        if False:",
            "copies of heads of keys are not kept",
        ),
        Fault(
            LAYER,
            "inputs=2 if i else 1)",
            "inputs=2) if i else c.copy(name, 0, 0, phase)",
            "a ring's first output is not scaled",
        ),
        Fault(
            "simulator/costs/collectives/exchange.py",
            "is_pair=group.ranks == 2",
            "is_pair=group.ranks > 2",
            "two ranks that exchange are slower than four along a ring",
        ),
        Fault(
            "simulator/costs/collectives/p2p.py",
            "min(rate, rate_at(channels, corner)) if channels else rate",
            "rate",
            "a send has all of the links",
        ),
        Fault(
            "validation/context_parallel.py",
            'size.ranks // 2, "ring_half_queries": size.ranks // 2 - 1',
            'size.ranks // 2 - 1, "ring_half_queries": size.ranks // 2 - 1',
            "a middle rank's ring lacks a step",
        ),
    ),
)
