"""The attention core: a block of queries at a time equals all scores at once equals a query at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend

from hwprofiles.calibration.counting.kept import saved_by
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import attention_core, blockwise, naive
from hwprofiles.calibration.model.attention_core import attend, attend_reference
from tests.hwprofiles.model.close import assert_same, normal

Patch = pytest.MonkeyPatch
SCALE = 0.3
KINDS = [(None, False, 4, 4), (None, True, 4, 2), (3, False, 4, 2), (7, True, 6, 2), (100, True, 4, 1)]
"""(window, sinks, heads, key and value heads)."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: Patch) -> None:
    """Several blocks, the last one not full."""
    monkeypatch.setattr(blockwise, "BLOCK", 5)


def _inputs(heads: int, kv_heads: int, has_sinks: bool, length: int = 13) -> list[Tensor]:
    sizes = [(2, length, heads, 6), (2, length, kv_heads, 6), (2, length, kv_heads, 4)]
    inputs = [normal(*size, seed=seed) for seed, size in enumerate(sizes)]
    return [*inputs, normal(heads, seed=9)] if has_sinks else inputs


@pytest.mark.parametrize(("window", "has_sinks", "heads", "kv_heads"), KINDS)
def test_every_form_gives_the_same(window: int | None, has_sinks: bool, heads: int, kv_heads: int) -> None:
    inputs = _inputs(heads, kv_heads, has_sinks)

    def fast(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None = None) -> Tensor:
        return attend(q, k, v, scale=SCALE, window=window, sinks=sinks)

    def plain(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None = None) -> Tensor:
        return attend_reference(q, k, v, scale=SCALE, window=window, sinks=sinks)

    assert_same(fast, plain, inputs)
    q, k, v, *sinks = (tensor.detach() for tensor in inputs)
    slow = naive.attention(q, k, v, SCALE, window, *sinks)
    torch.testing.assert_close(fast(q, k, v, *sinks), slow, rtol=1e-10, atol=1e-12)


def test_own_gradients_are_those_of_small_steps() -> None:
    q, k, v, sinks = normal(1, 7, 2, 3), normal(1, 7, 1, 3, seed=1), normal(1, 7, 1, 2, seed=2), normal(2, seed=3)
    assert torch.autograd.gradcheck(
        lambda q, k, v, s: attend(q, k, v, scale=SCALE, window=3, sinks=s), [q, k, v, sinks]
    )


def test_tokens_behind_a_query_do_not_matter_and_a_window_hides_old_ones() -> None:
    q, k, v = (tensor.detach() for tensor in _inputs(2, 2, False))
    out = attend(q, k, v, scale=SCALE, window=4)
    k[:, 8:], v[:, 8:] = 9.0, 9.0
    assert torch.equal(attend(q, k, v, scale=SCALE, window=4)[:, :8], out[:, :8])
    k[:, :3], v[:, :3] = -9.0, -9.0
    changed = attend(q, k, v, scale=SCALE, window=4)
    assert torch.equal(changed[:, 6:8], out[:, 6:8]) and not torch.equal(changed[:, 5], out[:, 5])


def test_bf16_scores_are_summed_in_fp32() -> None:
    q, k, v = (tensor.detach().bfloat16() for tensor in _inputs(4, 2, False, length=64))
    exact = attend_reference(q.double(), k.double(), v.double(), scale=SCALE)
    out = attend(q, k, v, scale=SCALE)
    assert out.dtype is torch.bfloat16
    assert ((out.double() - exact).abs() <= 2**-8 * exact.abs() + 1e-5).all()


def test_queries_keys_values_output_and_log_sums_are_kept() -> None:
    q, k, v = (tensor.detach().bfloat16().requires_grad_() for tensor in _inputs(4, 2, False))
    with saved_by(torch.nn.Module()) as saved:
        held = attend(q, k, v, scale=SCALE)
    sizes = [2 * q.numel(), 2 * k.numel(), 2 * v.numel(), 2 * held.numel(), 4 * 2 * 13 * 4]
    assert sorted(each.num_bytes for each in saved.kept()) == sorted(sizes)


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        (((2, 5, 4, 6), (2, 5, 3, 6), (2, 5, 3, 6)), "4 query heads are not divided by 3 heads"),
        (((2, 5, 4, 6), (2, 5, 4, 5), (2, 5, 4, 6)), "do not fit"),
        (((2, 5, 4, 6), (2, 4, 4, 6), (2, 4, 4, 6)), "do not fit"),
        (((5, 4, 6), (5, 4, 6), (5, 4, 6)), r"each is \(sequences, tokens, heads, head size\)"),
    ],
)
def test_sizes_that_contradict_are_named(shapes: tuple[tuple[int, ...], ...], match: str) -> None:
    with pytest.raises(CalibrationError, match=match):
        attend(*(torch.zeros(shape) for shape in shapes), scale=1.0)


def test_formats_and_sinks_that_contradict_are_named() -> None:
    q = torch.zeros(1, 2, 4, 8)
    with pytest.raises(CalibrationError, match="one format"):
        attend(q, q, q.bfloat16(), scale=1.0)
    with pytest.raises(CalibrationError, match=r"sinks: has shape \(3,\); one for each of 4 heads"):
        attend(q, q, q, scale=1.0, sinks=torch.zeros(3))


def test_a_library_without_a_kernel_is_named() -> None:
    q = torch.zeros(1, 2, 4, 8, dtype=torch.bfloat16)
    with pytest.raises(CalibrationError, match=r"attention library: 'cudnn' has no kernel for torch.bfloat16 on cpu"):
        attend(q, q, q, scale=1.0, library="cudnn")


def test_a_kernel_is_right_where_its_numbers_are_and_values_are_padded_for_equal_heads(monkeypatch: Patch) -> None:
    """The choice on the CPU's own kernels: one that takes equal heads alone, one that gives wrong numbers."""
    choice = torch.device("cpu"), torch.float32, 2, 12, 8
    monkeypatch.setattr(attention_core, "_BACKENDS", {"cudnn": SDPBackend.MATH, "flash": SDPBackend.MATH})
    seen: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: seen.append(tensor), lambda kept: kept):
        assert attention_core._library.__wrapped__(*choice) == "cudnn"
    assert not seen, "a checkpoint around the first call would miss these in its second run"
    right = attention_core._fused

    def wrong(q: Tensor, k: Tensor, v: Tensor, scale: float, library: attention_core.Library) -> Tensor:
        return right(q, k, v, scale, library) * (1.0 if library == "flash" else 1.05)

    monkeypatch.setattr(attention_core, "_fused", wrong)
    assert attention_core._library.__wrapped__(*choice) == "flash"

    def refused(*unused: object) -> Tensor:
        raise RuntimeError("No available kernel")

    monkeypatch.setattr(attention_core, "_fused", refused)
    with pytest.raises(
        CalibrationError, match=r"no fused kernel of cudnn, flash takes torch.float32, heads of 12 and 8"
    ):
        attention_core._library.__wrapped__(*choice)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("library", [None, "cudnn", "flash"])
@pytest.mark.parametrize("dims", [(128, 128), (192, 128)])
def test_the_fused_kernel_gives_the_same(dims: tuple[int, int], library: attention_core.Library | None) -> None:
    q, k, v = (
        normal(2, 256, heads, dim, seed=seed).detach().to("cuda", torch.bfloat16).requires_grad_()
        for seed, (heads, dim) in enumerate([(8, dims[0]), (2, dims[0]), (2, dims[1])])
    )
    wide = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    out, exact = attend(q, k, v, scale=0.08, library=library), attend_reference(*wide, scale=0.08)
    grads = torch.autograd.grad(out.sum(), [q, k, v]), torch.autograd.grad(exact.sum(), wide)
    for mine, other in [(out, exact), *zip(*grads, strict=True)]:
        assert (mine.double() - other).norm() < 0.02 * other.norm()
