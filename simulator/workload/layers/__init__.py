"""One file a kind of layer, each registers itself: parts in part.PARTS, attentions in attention.ATTENTIONS; a new file is
imported here.
"""

from simulator.workload.layers import dense, embedding, gqa, head, mla, moe, mtp

__all__ = ["dense", "embedding", "gqa", "head", "mla", "moe", "mtp"]
