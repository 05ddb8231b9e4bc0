"""Degrees, schedule, routing and recompute of a row; what the framework's release file reads in its notes."""

from __future__ import annotations

import re
from typing import Final

from hwprofiles.names import nearest
from simulator.schedule.family import SCHEDULES
from validation.published.draft import Draft
from validation.published.labels import labels
from validation.published.row import Row
from validation.published.software import readings, says

RECOMPUTE = {
    "selective (per op)": ("rmsnorm", "swiglu", "gemms"),
    "norm, act": ("rmsnorm", "swiglu"), "selective (layernorm, moe)": ("rmsnorm", "moe"), "selective (moe_act)": ("swiglu",),
}  # fmt: skip
"""Text → modules; Megatron-LM's layernorm and moe_act are rmsnorm and swiglu here; "per op" is torchtitan's word."""
KNOWN_SCHEDULE: Final = re.compile(r"|none|(interleaved|1f1b|zbv|v-half|v-min|zero[ -]bubble).*")
"""Words of the schedule column in lower case, beside moesim's own names of schedules."""

ZERO_BUBBLE: Final = ((r"zbv", "zb_v"), (r"zb1p|zero[ -]bubble pp", "zb_h1"), (r"v-half|v-min|zero", ""))
"""(words of the schedule column, moesim's schedule, "" where it has none). ZB1P is Primus's name of ZB-H1.
"""
EP_OVERLAP: Final = "_ep_overlap"
"""Ends the names of schedules that run dispatch and combine beside compute of another micro-batch."""


def layout(row: Row, draft: Draft) -> None:
    """Degrees and what follows from them; a row without tp and pp has no layout."""
    tp, pp = row.count("tp"), row.count("pp")
    if tp is None or pp is None:
        draft.lack("no layout given")
        return
    num_gpus, dp = row.count("n_gpus"), row.count("dp")
    if num_gpus and dp and num_gpus != dp * tp * pp * (row.count("cp") or 1):
        draft.lack("columns contradict each other", f"dp {dp} is not n_gpus / (tp pp cp)")
    draft.give("parallel.tp", tp)
    draft.give("parallel.pp", pp)
    if row.count("cp") is not None:
        draft.give("parallel.cp", row.count("cp"))
    if draft.release is None and tp > 1:
        draft.assume(
            "parallel.sequence_parallel", True, "software unknown; all releases that are known have it with tp"
        )
    _experts(row, draft, tp)
    _schedule(row, draft, pp)
    for key, value, _ in readings(row, draft.release):
        if key != "parallel.etp" or row.count("etp") is None:
            draft.give(key, value)
    _graphs(row, draft)
    recompute(row, draft)


def _experts(row: Row, draft: Draft, tp: int) -> None:
    """ep and etp; a MoE row without ep keeps its experts on every rank."""
    if not row.is_moe:
        if (row.count("ep") or 1) > 1 and row.text("dense_or_moe") != "moe":
            draft.lack("columns contradict each other", "ep of a dense model")
        return
    ep, etp = row.count("ep"), row.count("etp")
    replicas = row.replicas()
    ranks = (replicas or 1) * tp * (row.count("cp") or 1)
    if ep is not None and replicas is not None and ranks % (ep * (etp or 1)):
        draft.lack(
            "columns contradict each other", f"ep {ep} x etp {etp or 1} does not divide {ranks} ranks of a stage"
        )
    if ep is None:
        draft.assume("parallel.ep", 1, "not stated")
    else:
        draft.give("parallel.ep", ep)
    if etp is not None:
        draft.give("parallel.etp", etp)
    elif tp > 1 and ranks % ((ep or 1) * tp):
        draft.assume("parallel.etp", 1, f"not stated; ep {ep or 1} x tp {tp} does not divide {ranks} ranks of a stage")
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
    if dispatcher := labels(row).get("dispatcher"):
        draft.give("moe.dispatcher", dispatcher)


def _graphs(row: Row, draft: Draft) -> None:
    """What the notes say of captured graphs; dropless experts in a full graph mean ranks with a budget of rows."""
    scope = labels(row).get("graph_scope")
    if scope == "transformer_engine":
        names = ["attn", "moe_router", "moe_preprocess"] if row.is_moe else ["attn", "mlp"]
        draft.assume(
            "host.cuda_graph", names, "which scopes of a layer is not stated; those that dropless experts allow"
        )
    elif scope is not None:
        draft.give("host.cuda_graph", scope)
    if scope == "full_iteration" and row.is_moe and not draft.gives("moe.capacity_factor"):
        draft.assume("moe.host_sync", "none", "a full graph of dropless experts: the host need not know their rows")


def _schedule(row: Row, draft: Draft, pp: int) -> None:
    text, vpp = row.text("schedule"), row.count("vpp")
    lower = text.lower()
    if lower in SCHEDULES and not lower.endswith("1f1b"):
        draft.give("parallel.schedule", lower)
        if vpp is not None:
            draft.give("parallel.vpp", vpp)
        return
    if pp > 1 and not KNOWN_SCHEDULE.fullmatch(lower):
        draft.lack("schedule not known", f"{text!r}{nearest(lower, SCHEDULES)}")
        return
    zero_bubble = next((name for words, name in ZERO_BUBBLE if re.search(words, lower)), None)
    if zero_bubble is not None:
        if zero_bubble and "zero" in lower and "zb1p" not in lower:
            draft.assume(
                "parallel.schedule", zero_bubble, "which zero-bubble schedule is not stated; the one in 1F1B's memory"
            )
        elif zero_bubble:
            draft.give("parallel.schedule", zero_bubble)
        else:
            draft.lack("zero-bubble schedules", text)
        return
    if pp == 1 and (vpp or 1) > 1:
        draft.lack("columns contradict each other", f"vpp {vpp} with pp 1")
        return
    pairs = EP_OVERLAP if "overlap" in lower else ""
    if "interleaved" in lower and not lower.startswith("1f1b/") and vpp is None:
        _virtual_stages(row, draft, pp, pairs)
        return
    if pp > 1 and not lower and vpp is None and says(draft.release, "parallel.vpp"):
        return  # the release knows
    is_stated = bool(pairs) or ("interleaved" in lower and vpp is not None) or lower in ("1f1b", "none")
    name = ("interleaved_1f1b" if (vpp or 1) > 1 else "1f1b") + pairs
    if is_stated or vpp is not None:
        draft.give("parallel.schedule", name)
    else:
        draft.assume("parallel.schedule", name, "schedule not stated" if pp > 1 else "one stage: no schedule to state")
    if vpp is None:
        if pp > 1 and not is_stated:
            draft.assume("parallel.vpp", 1, "virtual stages not stated")
    else:
        draft.give("parallel.vpp", vpp)


def _virtual_stages(row: Row, draft: Draft, pp: int, pairs: str) -> None:
    """Of an interleaved schedule whose number of virtual stages the row leaves out: the release's, else two layers each."""
    draft.give("parallel.schedule", f"interleaved_1f1b{pairs}")
    if not says(draft.release, "parallel.vpp"):
        most = max(2, ((row.count("layers") or 0) + 2) // pp)  # embedding and head take a layer's place
        draft.assume(
            "parallel.vpp", max(2, most // 2), f"not stated; two layers a virtual stage, of 2 to {most} stages a rank"
        )


def recompute(row: Row, draft: Draft) -> None:
    """none, full, modules; Nothing where the row says nothing."""
    text = re.sub(r" at \d+k$", "", row.text("recompute").lower())
    if text == "none":
        draft.give("recompute.granularity", "none")
    elif text.startswith("full"):
        draft.give("recompute.granularity", "full")
    elif text in RECOMPUTE:
        draft.give("recompute.granularity", "selective")
        draft.give("recompute.modules", list(RECOMPUTE[text]))
    elif text == "selective":
        draft.give("recompute.granularity", "selective")
    elif text:
        allowed = ", ".join(map(repr, ("none", "full", "selective", *RECOMPUTE)))
        draft.lack("recompute modules not named", f"recompute: {text!r}; allowed {allowed}")
