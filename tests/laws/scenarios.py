"""Small valid scenarios as mappings for `load_scenario`: every choice that a step's time or memory can depend on is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hwprofiles.catalog import list_names, load_node, measured_stacks, read_provenance
from simulator.scenario.recipes import RECIPES
from simulator.schedule import SCHEDULES, micro_batch_problem, next_valid_micro_batches, rank_problem
from tests.laws.hosts import dispatches, hosts

Document = dict[str, Any]

LAW = settings(
    derandomize=True, database=None, deadline=None, print_blob=False,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)  # fmt: skip
"""The same scenarios in every run."""

NODE = 8
"""GPUs of a node of the catalogue."""

MAX_MICRO_BATCHES = 24

MACHINES = [
    (node, stack)
    for stack in measured_stacks()
    for node in list_names("nodes")
    if load_node(node).gpu == read_provenance(stack).gpu and load_node(node).scale_up_domain_gpus == NODE
]
"""(node, stack) of every measured stack; the other nodes run in test_catalogue.py."""


HELD = ("bf16", "fp8-block")
"""Operands whose GEMMs the measured stacks hold."""


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    max_ep: int = 16,
    is_moe: bool | None = None,
    pp: int | None = None,
    max_tp: int = 4,
    max_cp: int = 1,
) -> Document:
    """A scenario on nodes of a measured GPU. max_ep, is_moe, pp, max_tp, max_cp: limits of the draw; None leaves it open."""
    pp = draw(st.integers(1, 4)) if pp is None else pp
    moe = draw(st.booleans() | st.just(True)) if is_moe is None else is_moe
    ep = draw(st.sampled_from([n for n in (1, 2, 4, 8, 16) if n <= max_ep])) if moe else 1
    etp = draw(st.sampled_from([1, 1, 2])) if moe and max_tp > 1 else 1
    nodes = max(1, ep * etp // NODE)
    schedule = draw(st.sampled_from(_schedules(pp, has_messages=moe and ep > 1)))
    by_layer = SCHEDULES[schedule].pairs_by_layer
    vpp = SCHEDULES[schedule].own_chunks or draw(st.integers(2, 3))
    model = draw(models(moe, ep, nodes, min_layers=max(2, pp * vpp)))
    recipe = draw(st.sampled_from([name for name in RECIPES if RECIPES[name].gemm_dtype in HELD]))
    is_fp8 = RECIPES[recipe].is_quantised
    tp = draw(st.sampled_from([n for n in (1, 1, 2, 4) if n <= max_tp and is_cut(model, n, RECIPES[recipe].block)]))
    stage_ranks = _stage_ranks(draw, pp, tp, ep * etp)
    most_cp = max_cp if _is_whole(model) else 1
    cp = draw(st.sampled_from([n for n in (1, 1, 2, 4) if n <= most_cp and stage_ranks // tp % n == 0]))
    dp = stage_ranks // tp // cp
    shards = tp > 1 and (moe or draw(st.booleans()))
    lengths = [n for n in (64, 100, 512, 1024, 4096) if cp == 1 or n % (cp * max(2, tp)) == 0]
    shards_in_passes = SCHEDULES[schedule].placement != "mirrored"
    zero = draw(st.sampled_from(_zero_stages(is_fp8, shards_in_passes)))
    micro_batch_size = draw(st.sampled_from([1, 1, 2]))
    kinds = [None, "pair", "none"] if SCHEDULES[schedule].overlaps_pairs else [None, "none"]
    overlap_ep = draw(st.sampled_from([*kinds, *(["shared_expert"] if moe and ep > 1 else [])]))
    max_layers, shared = 1 if zero == 3 else 4, overlap_ep != "shared_expert"
    node, stack = draw(st.sampled_from(MACHINES))
    recompute = draw(recomputes(is_fp8, max_layers, whole=not by_layer, shared=shared))
    routed = draw(dispatches(draw(capacities()) if moe else None))
    return {
        "schema_version": 1,
        "name": "drawn",
        "model": model,
        "cluster": {
            "node": node,
            "num_gpus": pp * stage_ranks,
            "fabric": draw(st.sampled_from(list_names("fabrics"))),
        },
        "stack": stack,
        "parallel": {
            "tp": tp,
            "cp": cp,
            "cp_comm": draw(st.sampled_from(["ring", "all_gather"])) if cp > 1 else "ring",
            "sequence_parallel": shards,
            "pp": pp,
            "vpp": vpp,
            "ep": ep,
            "etp": etp,
            "zero_stage": zero,
            "schedule": schedule,
            "layers_per_stage": draw(st.none() | layer_counts(model["num_layers"], pp * vpp)),
            "overlap": {
                "ep": overlap_ep,
                "delay_wgrad": draw(st.booleans()),
                "dp": draw(st.booleans()),
                "pp": SCHEDULES[schedule].overlaps_pairs or draw(st.booleans()),
                "tp": draw(st.sampled_from(["none", "chunked"])) if shards else "none",
            },
            "comm_sms": draw(st.sampled_from([20, 20, 8, 32])),
            "pipeline_buffers": draw(st.sampled_from(["in_flight", "in_flight", "per_micro_batch"])),
        },
        "kernels": {"autograd": draw(st.sampled_from(["fused", "fused", "transformer_engine", "eager"]))},
        "head": {
            "cross_entropy": draw(st.sampled_from(["fused", "compiled", "unfused"])),
            "logits": draw(st.sampled_from(["sharded", "sharded", "gathered"])),
        },
        "data_parallel": draw(sharings(in_passes=shards_in_passes)),
        "training": {
            "seq_len": draw(st.sampled_from(lengths)),
            "global_batch_size": dp * micro_batch_size * draw(micro_batches(schedule, pp)),
            "micro_batch_size": micro_batch_size,
            "optimizer": draw(st.sampled_from(["adamw-bf16", "adamw-bf16-moments", "adamw-fp32-moments"])),
        },
        "precision": {"recipe": recipe},
        "moe": {
            "permute_fusion": draw(st.booleans()),
            "dispatch_dtype": draw(st.sampled_from(["fp8", "bf16"])) if is_fp8 else "bf16",
            "max_nodes_per_token": draw(node_limits(model, nodes if ep * etp >= NODE else 0)),
            "balance": draw(st.sampled_from(["learned", "learned", "forced", "natural", {"load_imbalance": 1.2}])),
            **routed,
        },
        "host": draw(hosts(model, recompute, routed)),
        "recompute": recompute,
        "phases": [{"name": "pretrain", "tokens": 1e12}],
        "device": {
            "clock": draw(st.sampled_from(["sustained", "burst"])),
            "speed_cv": draw(st.sampled_from([None, 0.0, 0.05])),
        },
        "prices": {"usd_per_gpu_hour": 2.0},
        "assumptions": {
            "lone_chunk_full_sms": draw(st.sampled_from([1.0, 0.0, 0.5])),
            "pp_boundary_wait": draw(st.sampled_from([1, 0])),
        },
        "draws": draw(st.integers(1, 2)),
        "seed": draw(st.integers(0, 3)),
    }  # fmt: skip


def _schedules(pp: int, *, has_messages: bool) -> list[str]:
    """Schedules of so many ranks, those that run compute beside dispatch and combine where there are any."""
    fitting = [name for name in SCHEDULES if rank_problem(name, pp) is None]
    return [name for name in fitting if has_messages or not SCHEDULES[name].pairs_by_layer]


def _is_whole(model: Document) -> bool:
    """Whether attention sees everything before a token, and nothing else: what all ways of context parallelism can do."""
    return not model["attention"].get("window") and not model["attention"].get("sinks")


def _zero_stages(is_fp8: bool, in_passes: bool) -> list[int]:
    """ZeRO stages that are modelled."""
    return [1, 0] if not in_passes else [1, 0, 2] if is_fp8 else [1, 0, 2, 3, 3]


@st.composite
def sharings(draw: st.DrawFn, *, in_passes: bool) -> Document:
    """What data-parallel ranks gather and reduce."""
    return {
        "param_gather": {
            "overlap": draw(st.sampled_from([None, True, False])), "dtype": draw(st.sampled_from(["bf16", "fp32"])),
        },
        "grad_reduce": {
            "overlap": draw(st.booleans() | st.just(True)),
            "dtype": draw(st.sampled_from(["fp32", "bf16"])),
            "every": draw(st.sampled_from([None, "step", "micro_batch"] if in_passes else [None, "step"])),
        },
        "bucket_bytes": draw(st.sampled_from([None, None, 1, 10_000_000])),
        "reshard_after_forward": draw(st.booleans()),
        "sharded_copies": draw(st.sampled_from(("none", "flat", "by_parameter"))),
    }  # fmt: skip


def _stage_ranks(draw: st.DrawFn, pp: int, tp: int, group: int) -> int:
    """Ranks of a stage: whole tensor-parallel and expert groups, and whole nodes where more than one is needed."""
    unit = lcm(tp, group)
    ranks = unit * draw(st.sampled_from([1, 1, 2, 3]))
    while pp * ranks > NODE and (pp * ranks) % NODE:
        ranks += unit
    return ranks


def is_cut(model: Document, tp: int, block: int) -> bool:
    """Whether tp ranks can share heads and widths, these in whole blocks of the recipe."""
    attention, moe = model["attention"], model.get("moe", {})
    heads, kv = attention["num_heads"], attention.get("num_kv_heads", attention["num_heads"])
    widths = [
        model["dense_ffn"]["intermediate_size"],
        heads * attention.get("head_dim", attention.get("v_head_dim", 0)),
    ]
    if moe:
        widths.append(moe["num_shared_experts"] * moe["expert_intermediate_size"])
    whole = all(width % (tp * (block if tp > 1 else 1)) == 0 for width in widths)
    return tp == 1 or (whole and heads % tp == 0 and (kv % tp == 0 or tp % kv == 0))


@st.composite
def models(draw: st.DrawFn, is_moe: bool, ep: int, nodes: int, min_layers: int) -> Document:
    """An inline model with routed experts that `ep` ranks on `nodes` nodes can hold, or a dense one."""
    num_layers = draw(st.integers(min_layers, 12))
    model: Document = {
        "name": "drawn",
        "hidden_size": draw(st.sampled_from([512, 1024, 2048, 4096])),
        "num_layers": num_layers,
        "vocab_size": draw(st.sampled_from([1000, 32_000, 129_280])),
        "tied_embeddings": draw(st.booleans()),
        "attention": draw(mla() | gqa()),
        "dense_ffn": {"intermediate_size": draw(st.sampled_from([1024, 2816, 8192])), **draw(ffn_kinds())},
        "num_dense_layers": draw(st.integers(0, min(3, num_layers - 1))) if is_moe else num_layers,
        "norm": draw(st.sampled_from(["rmsnorm", "rmsnorm", "layernorm"])),
        "learned_positions": draw(st.sampled_from([0, 0, 65_536])),
        "parallel_block": not is_moe and draw(st.booleans()),
        "mtp": {"num_modules": draw(st.sampled_from([0, 0, 1, 2]))},
    }
    if is_moe:
        groups = nodes * draw(st.sampled_from([1, 1, 2, 4]))
        experts = max(ep, groups) * draw(st.sampled_from([1, 2, 4]))
        taken = draw(st.integers(1, groups))
        model["moe"] = {
            "num_routed_experts": experts,
            "num_shared_experts": draw(st.integers(0, 2)),
            "top_k": draw(st.integers(1, min(8, experts // groups * taken))),
            "expert_intermediate_size": draw(st.sampled_from([256, 512, 2048])),
            "num_expert_groups": groups,
            "max_groups_per_token": taken,
            "score": draw(st.sampled_from(["sigmoid", "softmax"])),
            "router_bias": draw(st.booleans()),
            **draw(ffn_kinds()),
        }
        if num_layers - model["num_dense_layers"] >= 2:
            model["layer_pattern"] = draw(st.sampled_from([None, None, "d m", "m d"]))
    return model


def dense_model(
    num_layers: int, hidden_size: int, ffn: int, *, heads: int, kv_heads: int, vocab: int, head_dim: int = 128
) -> Document:
    """An inline dense model whose layers are all alike; ffn: its intermediate size."""
    return {
        "hidden_size": hidden_size, "num_layers": num_layers, "vocab_size": vocab, "num_dense_layers": num_layers,
        "attention": {"kind": "gqa", "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim},
        "dense_ffn": {"intermediate_size": ffn},
    }  # fmt: skip


@st.composite
def ffn_kinds(draw: st.DrawFn) -> Document:
    """Activations with and without a gate, biases."""
    activations = ["swiglu", "swiglu", "geglu", "gelu", "relu2"]
    return {"activation": draw(st.sampled_from(activations)), "bias": draw(st.sampled_from([False, False, True]))}


@st.composite
def capacities(draw: st.DrawFn) -> Document:
    """No capacity, or one beyond which rows are dropped, padded or not."""
    factor = draw(st.sampled_from([None, None, None, 1.0, 1.25, 4.0]))
    if factor is None:
        return {}
    policy = draw(st.sampled_from(["probs", "position"]))
    return {"capacity_factor": factor, "drop": policy, "pad_to_capacity": draw(st.booleans())}


@st.composite
def mla(draw: st.DrawFn) -> Document:
    """Latent attention, with and without a query rank."""
    return {
        "kind": "mla",
        "num_heads": draw(st.sampled_from([4, 16, 32])),
        "q_lora_rank": draw(st.sampled_from([0, 512, 1536])),
        "kv_lora_rank": draw(st.sampled_from([128, 512])),
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
    }


@st.composite
def gqa(draw: st.DrawFn) -> Document:
    """Attention with shared keys and values."""
    kv_heads = draw(st.sampled_from([1, 2, 4]))
    return {
        "kind": "gqa",
        "num_heads": kv_heads * draw(st.sampled_from([1, 4, 8])),
        "num_kv_heads": kv_heads,
        "head_dim": draw(st.sampled_from([64, 128])),
        "qk_norm": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "sinks": draw(st.booleans()),
        "rope": draw(st.sampled_from([True, True, False])),
        **draw(st.sampled_from([{}, {}, {"window": 48}, {"window": 64, "window_pattern": "w f"}])),
    }


def micro_batches(schedule: str, pp: int) -> st.SearchStrategy[int]:
    """Counts that the schedule runs: few, or its smallest."""
    smallest = next_valid_micro_batches(schedule, pp, 1)[-1]
    few = range(smallest, max(smallest, MAX_MICRO_BATCHES) + 1)
    return st.sampled_from([count for count in few if micro_batch_problem(schedule, pp, count) is None])


@st.composite
def layer_counts(draw: st.DrawFn, num_layers: int, stages: int) -> list[int]:
    """Layers over the stages, at least one each."""
    cuts = sorted(draw(st.sets(st.integers(1, num_layers - 1), min_size=stages - 1, max_size=stages - 1)))
    return [after - before for before, after in zip([0, *cuts], [*cuts, num_layers], strict=True)]


def node_limits(model: Mapping[str, Any], nodes: int) -> st.SearchStrategy[int | None]:
    """Nodes of a token: no limit, or one that its experts fit in."""
    moe = model.get("moe")
    if moe is None or nodes < 1:
        return st.none()
    fewest = -(-moe["top_k"] // (moe["num_routed_experts"] // nodes))
    return st.none() | st.integers(fewest, max(fewest, nodes))


@st.composite
def recomputes(
    draw: st.DrawFn, is_fp8: bool, max_layers: int = 4, *, whole: bool = True, shared: bool = True
) -> Document:
    """Any set of modules, or whole layers (up to max_layers together), and formats of what is saved. whole: also what holds
    a dispatch and a combine; shared: shared experts.
    """
    names = ["rmsnorm", "mla_up_proj", "swiglu", "attention", "mlp"]
    names += [*(["moe"] if whole else []), *(["shared_expert"] if shared else []), "experts"]
    modules = draw(st.lists(st.sampled_from(names), unique=True))
    method, count = draw(st.sampled_from(["uniform", "block"])), draw(st.integers(1, max_layers))
    full: Document = {"granularity": "full", "method": method, "num_layers": count}
    some: Document = {"granularity": "selective" if modules else "none", "modules": modules}
    return {
        **draw(st.sampled_from([some, some, full] if whole else [some])),
        "saved": {
            "attn_out": draw(st.sampled_from(["bf16", "e5m6"])),
            "swiglu_in": draw(st.sampled_from(["bf16", "fp8"])) if is_fp8 else "bf16",
        },
    }
