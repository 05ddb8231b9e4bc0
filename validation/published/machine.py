"""GPU columns → cluster: node type, number of GPUs, fabric."""

from __future__ import annotations

from typing import Final

from hwprofiles.names import nearest
from validation.published.draft import Draft
from validation.published.row import Row

NODES: Final = {
    "A100-40GB": ("a100-40gb-x8", "ib-200g-rail"),
    "A100-80GB": ("a100-x8", "ib-200g-rail"),
    "A100-80GB (Ampere)": ("a100-x8", "ib-200g-rail"),
    "H100": ("h100-x8", "ib-400g-rail"),
    "H100-96GB-HBM2e (500 W)": ("h100-96gb-x8", "ib-400g-rail"),
    "H200": ("h200-x8", "ib-400g-rail"),
    "H800": ("h800-x8", "ib-400g-rail"),
    "B200": ("b200-x8", "ib-400g-rail"),
    "B300": ("b300-x8", "ib-800g-rail"),
    "GB200": ("gb200-nvl72", "ib-400g-rail"),
    "GB300": ("gb300-nvl72", "ib-800g-rail"),
    "MI300X": ("mi300x-x8", "roce-400g-rail"),
    "MI325X": ("mi325x-x8", "roce-400g-rail"),
    "MI350X": ("mi350x-x8", "roce-400g-rail"),
    "MI355X": ("mi355x-x8", "roce-400g-rail"),
}
"""Name of the GPU → (node of the catalogue, the fabric at the speed of its NICs)."""


def cluster(row: Row, draft: Draft) -> None:
    """Node, GPUs and fabric; a kind of network that the row names is given, else the fabric is assumed."""
    name, num_gpus = row.text("gpu"), row.count("n_gpus")
    if name not in NODES:
        draft.lack("unknown GPU", f"{name!r}{nearest(name, NODES)}" if name else "none named")
    if num_gpus is None:
        draft.lack("no GPU count given")
    if name not in NODES or num_gpus is None:
        return
    node, fabric = NODES[name]
    draft.give("cluster.node", node)
    draft.give("cluster.num_gpus", num_gpus)
    if row.says("(roce)", "roce 400g"):
        draft.give("cluster.fabric", "roce-400g-rail")
    else:
        draft.assume("cluster.fabric", fabric, "rail-optimised InfiniBand at the speed of the node's NICs")
