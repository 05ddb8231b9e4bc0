"""What a step computes for a token and how fast, as the field counts it: model FLOP, TFLOPS and MFU by convention."""

from __future__ import annotations

from pydantic import Field

from simulator.results.document import ResultModel


class FlopPerToken(ResultModel):
    """The model's own FLOP for one trained token, forward and backward, without MTP, by convention of the attention
    mask: half of a whole sequence's square, or all of it. attended: the pairs inside the documents that sequences are packed
    from, where they are.
    """

    causal: float = Field(gt=0)
    noncausal: float = Field(gt=0)
    attended: float | None = Field(default=None, gt=0)


class Tflops(ResultModel):
    """Model FLOP per second and GPU, in units of 1e12 (the key's meaning in the field), by convention."""

    causal: float = Field(gt=0)
    noncausal: float = Field(gt=0)
    attended: float | None = Field(default=None, gt=0)


class Mfu(ResultModel):
    """Model FLOP/s over the GPU's dense BF16 peak (0 to 1), by convention."""

    bf16_dense_causal: float = Field(gt=0)
    bf16_dense_noncausal: float = Field(gt=0)
    bf16_dense_attended: float | None = Field(default=None, gt=0)
