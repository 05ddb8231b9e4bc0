"""Dimension columns and the model's name → the model section of a scenario."""

from __future__ import annotations

import re
from typing import Any, Final

from hwprofiles.names import nearest
from validation.published.draft import Draft
from validation.published.family import FamilyRecord, families, family_of
from validation.published.row import Row

NEEDED = ("layers", "hidden", "heads", "kv_heads", "head_dim")
NEEDED_OF_EXPERTS = ("topk", "moe_ffn")
KNOWN_ATTENTION: Final = re.compile(r"$|(MHA|MQA|GQA|MLA)\b")
"""Beginning of the attention's column; empty: as the heads say."""


def model(row: Row, draft: Draft) -> None:
    """The model, or why it cannot be stated."""
    family = family_of(row.text("model"))
    needed = NEEDED + (NEEDED_OF_EXPERTS if row.is_moe else ("ffn",))
    missing = [column for column in needed if row.count(column) is None]
    if row.text("dense_or_moe").lower() == "moe" and row.count("experts") is None:
        missing.append("experts")
    if family is not None and family.none:
        draft.lack(family.none)
    elif "mamba" in row.text("attention_kind").lower():
        draft.lack("Mamba layers")
    elif family is None or missing:
        unknown = f"model not known ({row.text('model')!r}){nearest(row.text('model'), families())}; see models.yaml"
        draft.lack("no model dimensions given", ", ".join(missing) or unknown)
    elif row.count("vocab") is None:
        draft.lack("no vocabulary size given")
    elif not _is_known(row.text("attention_kind"), family):
        text = "allowed MHA, MQA, GQA, MLA; windows where models.yaml has the model's"
        draft.lack("kind of attention not known", f"{row.text('attention_kind')!r}; {text}")
    else:
        draft.give("model", _section(row, family))


def _is_known(kind: str, family: FamilyRecord) -> bool:
    """Whether the attention's column says what the model's section will have."""
    return bool(KNOWN_ATTENTION.match(kind)) and ("window" not in kind.lower() or "window" in family.attention)


def _section(row: Row, family: FamilyRecord) -> dict[str, Any]:
    layers, moe = row.count("layers"), row.is_moe
    assert layers is not None
    section: dict[str, Any] = {
        "name": row.text("model"), "hidden_size": row.count("hidden"), "num_layers": layers,
        "vocab_size": row.count("vocab"), "attention": _attention(row, family), "source": family.source, **family.model,
    }  # fmt: skip
    if row.says("parallel block"):
        section["parallel_block"] = True
    if family.positions and row.count("seq") is not None:
        section["learned_positions"] = row.count("seq")
    activation: dict[str, Any] = {} if family.ffn == "swiglu" else {"activation": family.ffn}
    activation |= {"bias": True} if family.ffn_bias else {}
    dense = _dense_layers(row) if moe else layers
    if moe:
        section["moe"] = _experts(row, family) | activation
        if family.every > 1:
            section["layer_pattern"] = " ".join("d" * (family.every - 1) + "m")
            dense = 0
    if dense or family.every > 1:
        section["dense_ffn"] = {"intermediate_size": row.count("ffn")} | activation
    section["num_dense_layers"] = dense
    if moe and "mtp" in row.text("notes").lower():
        section["mtp"] = {"num_modules": 0 if row.says("w/o mtp", "no mtp", "without mtp") else 1}
    return section


def _attention(row: Row, family: FamilyRecord) -> dict[str, Any]:
    kind, heads, head_dim = row.text("attention_kind"), row.count("heads"), row.count("head_dim")
    if not kind.startswith("MLA"):
        own: dict[str, Any] = {"num_heads": heads, "num_kv_heads": row.count("kv_heads"), "head_dim": head_dim}
        return {"kind": "gqa", **own, "qk_norm": "QK norm" in kind} | family.attention
    ranks = {
        "q_lora_rank": _number(kind, r"q_lora (\d+)") or 0, "kv_lora_rank": _number(kind, r"kv_lora (\d+)"),
        "qk_rope_head_dim": _number(kind, r"rope (\d+)"),
    }  # fmt: skip
    return {
        "kind": "mla",
        "num_heads": heads,
        "qk_nope_head_dim": head_dim,
        "v_head_dim": head_dim,
        **ranks,
    } | family.attention


def _dense_layers(row: Row) -> int:
    """Leading dense layers: "first 3 layers dense" of the attention's column; of a model cut in depth at most one.

    The tables of cut models (SimuMax's) keep one, as docs/b200/b200_release_v1.2_summary.md says of theirs.
    """
    match = re.search(r"first (\d+ )?layers? dense", row.text("attention_kind"))
    count = int(match[1] or 1) if match else 0
    return min(count, 1) if row.says("layers cut") else count


def _experts(row: Row, family: FamilyRecord) -> dict[str, Any]:
    return {
        "num_routed_experts": row.count("experts"), "top_k": row.count("topk"),
        "num_shared_experts": row.count("shared_experts") or 0, "expert_intermediate_size": row.count("moe_ffn"),
    } | family.moe  # fmt: skip


def _number(text: str, pattern: str) -> int | None:
    match = re.search(pattern, text)
    return int(match[1]) if match else None
