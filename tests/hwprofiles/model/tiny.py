"""Models of a few thousand parameters with the architecture of large ones."""

from __future__ import annotations

import torch

from hwprofiles.calibration.model import config
from hwprofiles.calibration.model.config import Layer, ModelConfig

MLA = config.Mla(2, 12, 8, 6, 4, 6)
EXPERTS = config.Moe(8, 2, config.Ffn(8), num_shared=1, num_groups=4, max_groups=2, score="sigmoid", has_bias=True)


def deepseek(num_mtp: int = 1, **changes: object) -> ModelConfig:
    """A dense layer and two with experts, latent attention, MTP modules."""
    layers = Layer(MLA, config.Ffn(24)), *(2 * [Layer(MLA, EXPERTS)])
    sizes = {"num_mtp": num_mtp, "init_std": 0.1, **changes}
    return ModelConfig("tiny", 16, 32, **{"layers": tuple(layers), **sizes})  # type: ignore[arg-type]


def tokens(*shape: int, vocab: int = 32, seed: int = 5) -> torch.Tensor:
    """Token numbers drawn evenly."""
    return torch.randint(0, vocab, shape, generator=torch.Generator().manual_seed(seed))
