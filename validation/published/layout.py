"""Degrees, schedule, sharding and recompute of a row."""

from __future__ import annotations

import re

from validation.published.conventions import conventions, is_fsdp
from validation.published.draft import Draft
from validation.published.row import Row

RECOMPUTE = {
    "norm, act": ("rmsnorm", "swiglu"), "selective (layernorm, moe)": ("rmsnorm", "moe"), "selective (moe_act)": ("swiglu",),
}  # fmt: skip
"""Text → modules; Megatron-LM's layernorm and moe_act are rmsnorm and swiglu here."""


def layout(row: Row, draft: Draft) -> None:
    """Degrees and what follows from them; a row without tp and pp has no layout."""
    tp, pp = row.count("tp"), row.count("pp")
    if tp is None or pp is None:
        draft.lack("no layout given")
        return
    if (row.count("cp") or 1) > 1:
        draft.lack("context parallelism", f"cp {row.count('cp')}")
    num_gpus, dp = row.count("n_gpus"), row.count("dp")
    if num_gpus and dp and num_gpus != dp * tp * pp * (row.count("cp") or 1):
        draft.lack("columns contradict each other", f"dp {dp} is not n_gpus / (tp pp cp)")
    draft.give("parallel.tp", tp)
    draft.give("parallel.pp", pp)
    habits = conventions(row)
    if tp > 1:
        draft.assume("parallel.sequence_parallel", True, habits.why)
    compiled = habits.autograd == "eager" and row.says("compile")
    draft.assume("kernels.autograd", "fused" if compiled else habits.autograd, habits.why)
    _experts(row, draft, tp)
    _schedule(row, draft, pp)
    _sharding(row, draft)
    recompute(row, draft)


def _experts(row: Row, draft: Draft, tp: int) -> None:
    """ep and etp; a MoE row without ep keeps its experts on every rank."""
    if row.count("experts") is None:
        if (row.count("ep") or 1) > 1 and row.text("dense_or_moe") != "moe":
            draft.lack("columns contradict each other", "ep of a dense model")
        return
    ep, etp = row.count("ep"), row.count("etp")
    ranks = (row.count("dp") or 1) * tp * (row.count("cp") or 1)
    if ep is not None and ranks % (ep * (etp or 1)):
        draft.lack(
            "columns contradict each other", f"ep {ep} x etp {etp or 1} does not divide {ranks} ranks of a stage"
        )
    if ep is None:
        draft.assume("parallel.ep", 1, "not stated")
    else:
        draft.give("parallel.ep", ep)
    if etp is not None:
        draft.give("parallel.etp", etp)
    elif tp > 1:
        habits = conventions(row)
        keeps = (
            habits.experts_keep_tp
            and "folding" not in row.text("source_detail").lower()
            and ranks % ((ep or 1) * tp) == 0
        )
        draft.assume("parallel.etp", tp if keeps else 1, habits.why)
    _routing(row, draft)


def _routing(row: Row, draft: Draft) -> None:
    """Load of the experts: forced, capacity with drop, or as a trained router leaves it."""
    if row.says("capacity factor 1"):
        draft.give("moe.capacity_factor", 1.0)
        draft.assume("moe.drop", "probs", "Megatron-LM's default policy (moe_token_drop_policy)")
    elif row.says("tokendrop", "token drop"):
        draft.assume("moe.capacity_factor", 1.0, "the row says token drop and no factor")
        draft.assume("moe.drop", "probs", "Megatron-LM's default policy (moe_token_drop_policy)")
    if row.says("force-balanced", "forced balance"):
        draft.give("moe.balance", "forced")
    elif row.says("routing: dropless"):
        draft.give("moe.balance", "natural")
    else:
        draft.assume("moe.balance", "learned", "not stated; a trained router")
    if row.says("hybridep", "alltoall", "all-to-all"):
        draft.beside.append("dispatcher: priced as DeepEP's")


def _schedule(row: Row, draft: Draft, pp: int) -> None:
    text, vpp = row.text("schedule"), row.count("vpp")
    lower = text.lower()
    if "overlap" in lower:
        draft.lack("overlap of expert communication", text)
    if any(word in lower for word in ("zbv", "v-half", "v-min", "zero")):
        draft.lack("zero-bubble schedules", text)
        return
    if pp == 1 and (vpp or 1) > 1:
        draft.lack("columns contradict each other", f"vpp {vpp} with pp 1")
        return
    if "interleaved" in lower and not lower.startswith("1f1b/") and vpp is None:
        draft.lack("no number of virtual stages given", text)
        return
    is_stated = ("interleaved" in lower and vpp is not None) or lower in ("1f1b", "none")
    name = "interleaved_1f1b" if (vpp or 1) > 1 else "1f1b"
    if is_stated or vpp is not None:
        draft.give("parallel.schedule", name)
    else:
        draft.assume("parallel.schedule", name, "schedule not stated" if pp > 1 else "one stage: no schedule to state")
    if vpp is None:
        if pp > 1 and not is_stated:
            draft.assume("parallel.vpp", 1, "virtual stages not stated")
    else:
        draft.give("parallel.vpp", vpp)


def _sharding(row: Row, draft: Draft) -> None:
    habits = conventions(row)
    if is_fsdp(row):
        draft.give("parallel.zero_stage", 3)
        if row.says("shard_grad_op"):
            draft.give("data_parallel.reshard_after_forward", False)
    else:
        draft.assume("parallel.zero_stage", habits.zero_stage, habits.why)
    if row.says("mp mode pure"):
        # mosaicml/composer: PURE reduces in the compute format, DEFAULT in FP32.
        draft.give("data_parallel.grad_reduce.dtype", "bf16")
    elif row.says("mp mode default"):
        draft.give("data_parallel.grad_reduce.dtype", "fp32")
    else:
        draft.assume("data_parallel.grad_reduce.dtype", "fp32", "not stated; the default of the frameworks")
    if row.says("overlaps dp, tp and pp") or row.text("notes").lower().startswith("async tp"):
        draft.give("parallel.overlap.tp", "chunked")
    elif (row.count("tp") or 1) > 1:
        draft.assume("parallel.overlap.tp", habits.overlap_tp, habits.why)
    if row.says("cuda graph"):
        draft.beside.append("CUDA graph: launches of the host are not simulated")


def recompute(row: Row, draft: Draft) -> None:
    """none, full, modules; what is recomputed operator by operator, or not told, cannot be stated."""
    text = re.sub(r" at \d+K$", "", row.text("recompute"))
    if not text:
        draft.assume("recompute.granularity", "none", "not stated")
    elif text == "none":
        draft.give("recompute.granularity", "none")
    elif text.startswith("full"):
        draft.give("recompute.granularity", "full")
    elif text in RECOMPUTE:
        draft.give("recompute.granularity", "selective")
        draft.give("recompute.modules", list(RECOMPUTE[text]))
    elif "per op" in text:
        draft.lack("recompute by operator", text)
    else:
        draft.lack("recompute modules not named", text)
