"""Attention over a cut sequence against attention on one device, on CPUs."""

import json

import pytest

torch = pytest.importorskip("torch")

from hwprofiles.calibration.context_parallel import core, measure  # noqa: E402
from hwprofiles.calibration.context_parallel.ways import part  # noqa: E402


def by_hand(q, k, v):
    """(output, log of sums) with the last query at the last key."""
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1) @ values, scores.logsumexp(-1)


def test_a_piece_sees_the_keys_up_to_its_own_end():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, 8, requires_grad=True) for heads, n in ((4, 6), (2, 10), (2, 10)))
    found = core.forward(q, k, v, is_causal=True)
    out, lse = by_hand(q, k, v)
    assert torch.allclose(found.out, out, atol=1e-5)
    assert torch.allclose(found.lse, lse, atol=1e-5)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, (q, k, v), grad)
    with torch.no_grad():
        grads = core.backward(grad, q, k, v, found.out, found.lse, found.rest, is_causal=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(grads, expected, strict=True))


def test_zig_zag_parts_hold_every_token_once_and_see_as_many_pairs():
    whole = torch.arange(24).reshape(1, 1, 24, 1)
    parts = [part(whole, rank, 3, is_zigzag=True) for rank in range(3)]
    assert sorted(torch.cat(parts, dim=2).flatten().tolist()) == list(range(24))
    assert len({int(p.sum()) for p in parts}) == 1


def test_the_calls_of_a_rank_compute_its_share_of_the_pairs():
    size, ranks = measure.Size(8, 8, 16, 1024), 4
    shapes = {
        name: (heads, queries, keys, causal)
        for name, heads, _, queries, keys, causal in measure.core_shapes(size, ranks)
    }
    pairs = {n: h * (q * k - (q * (q - 1) / 2 if c else 0)) for n, (h, q, k, c) in shapes.items()}
    share = 8 * 1024 * 1025 / 2 / ranks
    ring = pairs["ring_first"] + (ranks - 1) * pairs["ring_half_keys"]
    assert pairs["a2a"] == share
    assert ring == pytest.approx(share, rel=2e-3)
    assert pairs["ring_half_keys"] == pairs["ring_half_queries"]
    assert pairs["all_gather_front"] + pairs["all_gather_back"] == pytest.approx(share, rel=2e-3)


@pytest.mark.slow
def test_every_way_is_attention(tmp_path):
    out = tmp_path / "cp.json"
    assert measure.main(["-o", str(out), "--device", "cpu", "--quick"]) == 0
    rows = [row for row in json.loads(out.read_text())["rows"] if row["part"] == "whole"]
    assert [row["name"] for row in rows] == ["a2a", "all_gather", "ring"]
    assert all(row["error"] < 1e-5 for row in rows)
