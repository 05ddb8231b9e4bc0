"""What layers of the torch model of hwprofiles/calibration take the host, a pass and recipe: parts, and keys of their seconds.

A part is a small model of so many alike layers (hwprofiles/calibration/host/models.py), each of whose functions calls what a
large one's calls: what Python, autograd, Triton's launches and saved tensors take is in it, and nothing of the kernels. Other
layers follow from differences of parts. Keys are `host.torch_model.<recipe>.<part>_<f or b>_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hwprofiles.names import nearest

WAY: Final = "torch_model"
RECIPES: Final = ("bf16", "fp8-blockwise", "fp8-row")
FEW_EXPERTS: Final = 16
MANY_EXPERTS: Final = 64
PARTS: Final[Mapping[str, str]] = {
    "dense": "grouped-query attention and a dense network",
    "qk_norm": "the same with norms of queries and keys",
    "latent": "latent attention without a latent of queries, and a dense network",
    "latent_q": "latent attention with one, and a dense network",
    "experts": f"grouped-query attention and {FEW_EXPERTS} experts, softmax scores",
    "more_experts": f"the same with {MANY_EXPERTS} experts",
    "biased": "experts chosen by sigmoid scores and a bias",
    "shared": "experts, and a shared one",
    "again": "experts, and a shared one, the whole layer computed again",
    "parts_again": "the same, norms and activations computed again alone",
    "head": "embedding, last norm, logits and loss of up to 1,024 tokens",
    "chunk": "1,024 tokens more of a loss",
    "weight": "a weight in FP8 when a step first reads it",
    "waited": "what the first calls take more when the host has waited long for the device",
}
"""Part → its seconds: of a layer, but for the last four."""
OF_LAYERS: Final = tuple(PARTS)[:-4]
OPTIONAL: Final = ("weight", "waited")
"""Without which layers are known as well: no weight is quantised in BF16."""
LAYERS: Final[Mapping[str, int]] = {
    "one": 1, "one_longer": 1, "waited": 1, "dense": 5, "weight": 5, "experts": 3, "more_experts": 2, "again": 3, "shared": 3,
    "latent_q": 5, "latent": 5, "qk_norm": 5, "biased": 3, "parts_again": 3,
}  # fmt: skip
"""Small model that is measured → its layers. one: with a dense network; one_longer: with CHUNKS times CHUNK tokens; waited: one
behind a wait."""
CHUNK: Final = 1024
"""Tokens whose logits the loss takes at once, and of a small model."""
CHUNKS: Final = 4
WEIGHTS: Final = 4
"""Of a layer with a dense network, those that a recipe quantises."""
PASSES: Final = ("f", "b")


def key(recipe: str, part: str, way: str) -> str:
    """Of a parameter; way: one of PASSES."""
    return f"host.{WAY}.{recipe}.{part}_{way}_s"


def key_problem(key: str) -> str | None:
    """Why no part is of that key, which begins with host.torch_model; None where one is."""
    recipe, _, rest = key.removeprefix(f"host.{WAY}.").partition(".")
    if recipe not in RECIPES:
        return f"unknown recipe{nearest(recipe, RECIPES)}"
    known = [f"{part}_{way}_s" for part in PARTS for way in PASSES]
    return None if rest in known else f"is no part of the torch model{nearest(rest, known)}"
