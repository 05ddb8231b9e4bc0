"""Precision, sequence length, batch and optimizer of a row."""

from __future__ import annotations

import re
from typing import Final

from simulator.scenario.recipes import RECIPES
from validation.published.draft import Draft
from validation.published.row import Row

RECIPE_WORDS: Final = (
    (r"not resolved", "", "precision not resolved"),
    (r"fine-grained|blockwise", "fp8-blockwise", ""),
    (r"nvfp4", "nvfp4", "NVFP4"),
    (r"mxfp8|fp8-mx", "mxfp8", "MXFP8"),
    (r"rowwise", "", "row-wise FP8"),
    (r"fp8", "fp8-tensor", "per-tensor FP8"),
    (r"fp16", "fp16", "FP16"),
    (r"int8", "", "INT8"),
    (r"bf16", "bf16", ""),
)
"""(what the precision says, recipe, reason where the recipe does not exist); the first that fits.

"Fine-grained" FP8 of NeMo 25.09 is the block-wise recipe (1x128 and 128x128 scales). FP8 without more is per tensor: the
delayed scaling of Transformer Engine (llm-foundry's "amp_fp8", NeMo and MLPerf before current scaling), the current scaling of
Megatron-Bridge ("CS", the container's default) and torchtitan's "tensorwise".
"""


SCALING: Final = {"delayed": r"delayed", "current": r"current|-cs\b|tensorwise"}
"""Scaling → what the precision says of it."""


def precision(row: Row, draft: Draft) -> None:
    """Recipe, or why it cannot be stated."""
    text = row.text("precision").lower()
    if not text:
        draft.lack("no precision given")
        return
    found = next(((recipe, why) for word, recipe, why in RECIPE_WORDS if re.search(word, text)), ("", ""))
    recipe, reason = found
    if recipe in RECIPES:
        draft.give("precision.recipe", recipe)
        scaling = next((name for name, words in SCALING.items() if re.search(words, text)), None)
        if scaling is not None and RECIPES[recipe].scalings:
            draft.give("precision.scaling", scaling)
    else:
        draft.lack(reason or "precision not resolved", row.text("precision"))


def batch(row: Row, draft: Draft) -> None:
    """Sequence length, global and micro-batch; the micro-batch is assumed to be one sequence where the row has none."""
    seq, size, micro = row.count("seq"), row.count("gbs"), row.count("mbs")
    if seq is None:
        draft.lack("no sequence length given")
    else:
        draft.give("training.seq_len", seq)
    if size is None:
        draft.lack("no global batch size given")
    else:
        draft.give("training.global_batch_size", size)
    if micro is None:
        draft.assume("training.micro_batch_size", 1, "not stated; the smallest")
    else:
        draft.give("training.micro_batch_size", micro)
    if row.says("muon optimizer"):
        draft.give("training.optimizer", "muon")
    accumulation, dp = re.search(r"\bGA (\d+)", row.text("notes")), row.replicas()
    if accumulation and size and micro and dp and int(accumulation[1]) * micro * dp != size:
        draft.lack("columns contradict each other", f"GA {accumulation[1]} x mbs {micro} x dp {dp} is not gbs {size}")
