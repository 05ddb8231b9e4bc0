"""Stand-ins for the library's FP8 products where there is no GPU: they insist on the layouts that the GPU's insist on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration.numerics.quantise import FP8


def lies_aligned(matrix: Tensor) -> bool:
    """Rows (r, k) whose numbers lie side by side, and that begin at multiples of 16 bytes."""
    return (
        matrix.stride(1) == 1
        and matrix.stride(0) % 16 == 0
        and matrix.storage_offset() % 16 == 0
        and matrix.shape[1] % 16 == 0
    )


def scaled_mm(
    a: Tensor, b: Tensor, scale_a: Tensor, kind_a: Any, scale_b: Tensor, kind_b: Any, *, output_dtype: torch.dtype
) -> Tensor:
    """torch.nn.functional.scaled_mm on Hopper, as measured and as torch's checks are written."""
    (m, k), n, kinds = a.shape, b.shape[1], functional.ScalingType
    assert a.dtype is b.dtype is FP8 and lies_aligned(a) and lies_aligned(b.t()) and n % 16 == 0
    assert scale_a.dtype is scale_b.dtype is torch.float32 and m > 0 and k > 0
    left, right = a.float(), b.t().float()
    if kind_a is kinds.RowWise:
        assert kind_b is kind_a and output_dtype is torch.bfloat16
        assert scale_a.shape == (m, 1) and scale_b.shape == (1, n)
        return (left * scale_a @ (right * scale_b.t()).t()).to(output_dtype)
    assert kind_a is kinds.BlockWise1x128 and m % 4 == 0 and k % 128 == 0
    assert scale_a.shape == (m, k // 128) and scale_a.stride() == (1, m)
    left = left * scale_a.repeat_interleave(128, dim=1)
    if kind_b is kinds.BlockWise1x128:
        assert scale_b.shape == (n, k // 128) and scale_b.stride() == (1, n)
        right = right * scale_b.repeat_interleave(128, dim=1)
    else:
        padded = k // 128 + -(k // 128) % 4
        assert kind_b is kinds.BlockWise128x128 and n % 128 == 0 and output_dtype is torch.bfloat16
        assert scale_b.shape == (padded, n // 128) and (scale_b.stride() == (1, padded))
        scales = scale_b.t()[:, : k // 128]
        right = right * scales.repeat_interleave(128, dim=0).repeat_interleave(128, dim=1)
    return (left @ right.t()).to(output_dtype)


def scaled_grouped_mm(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, offs: Tensor, *, out_dtype: torch.dtype
) -> Tensor:
    """torch._scaled_grouped_mm: rows by group times weights by group, or the rows summed over."""
    ends = [0, *offs.tolist()]
    groups = [slice(start, stop) for start, stop in pairwise(ends)]
    assert offs.dtype is torch.int32 and out_dtype is torch.bfloat16 and a.dtype is b.dtype is FP8 and a.is_contiguous()
    assert b.transpose(-1, -2).is_contiguous() and scale_a.is_contiguous() and scale_b.is_contiguous()
    if b.dim() == 3:
        assert scale_a.shape == (len(a),) and scale_b.shape == (b.shape[0], b.shape[2]) and ends[-1] == len(a)
        numbers = b.float() * scale_b.unsqueeze(1)
        parts = [(a[part].float() * scale_a[part, None]) @ numbers[idx] for idx, part in enumerate(groups)]
        return torch.cat(parts).to(out_dtype)
    assert all(part.stop > part.start and part.start % 16 == part.stop % 16 == 0 for part in groups)
    assert scale_a.shape == (len(groups) * len(a),) and scale_b.shape == (len(groups) * b.shape[1],)
    scales_a, scales_b = scale_a.view(len(groups), -1, 1), scale_b.view(len(groups), 1, -1)
    parts = [
        (a[:, part].float() * scales_a[idx]) @ (b[part].float() * scales_b[idx]) for idx, part in enumerate(groups)
    ]
    return torch.stack(parts).to(out_dtype)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts both in the library's place."""
    monkeypatch.setattr(functional, "scaled_mm", scaled_mm)
    monkeypatch.setattr(torch, "_scaled_grouped_mm", scaled_grouped_mm)
