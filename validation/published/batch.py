"""Precision, sequence length and batch of a row."""

from __future__ import annotations

import re

from validation.published.draft import Draft
from validation.published.row import Row

REFUSED = (
    ("nvfp4: not resolved", "precision not resolved"), ("fine-grained", ""), ("nvfp4", "NVFP4"), ("mxfp8", "MXFP8"),
    ("fp8-mx", "MXFP8"), ("fp8", "per-tensor FP8"), ("fp16", "FP16"), ("int8", "INT8"), ("bf16", ""),
)  # fmt: skip
"""(what the precision says, why it cannot be stated); the first that fits; "" where it can."""


def precision(row: Row, draft: Draft) -> None:
    """Recipe. "Fine-grained" FP8 of NeMo 25.09 is the block-wise recipe (1x128 and 128x128 scales)."""
    text = row.text("precision").lower()
    if not text:
        draft.lack("no precision given")
        return
    reason = next((reason for word, reason in REFUSED if word in text), "precision not resolved")
    if reason:
        draft.lack(reason, row.text("precision"))
    else:
        draft.give("precision.recipe", "fp8-blockwise" if "fine-grained" in text else "bf16")


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
    accumulation, dp = re.search(r"\bGA (\d+)", row.text("notes")), row.count("dp")
    if accumulation and size and micro and dp and int(accumulation[1]) * micro * dp != size:
        draft.lack("columns contradict each other", f"GA {accumulation[1]} x mbs {micro} x dp {dp} is not gbs {size}")
    draft.assume("training.optimizer", "adamw-fp32-moments", "not stated; the default of the frameworks")
