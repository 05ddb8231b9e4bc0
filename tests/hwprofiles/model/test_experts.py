"""Routed experts and the way to them: every row is worked on, none is padded, dropped or kept twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import moe_reference
from hwprofiles.calibration.model.activation import activate
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.config import Activation, Ffn, Moe
from hwprofiles.calibration.model.dispatch import LocalDispatch, expert_order, permute, unpermute
from hwprofiles.calibration.model.experts import Experts, experts_per_rank
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.router import Routing
from hwprofiles.calibration.numerics.numerics import Plain
from hwprofiles.calibration.numerics.recipes import numerics

ACTIVATIONS: tuple[Activation, ...] = ("swiglu", "geglu", "gelu", "relu2")
CONFIG = Moe(4, 2, Ffn(3))
HIDDEN = 5


def _seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def _drawn(*size: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=_seed(seed), dtype=torch.float64).to(dtype)


def _experts(config: Moe = CONFIG, recompute: frozenset[str] = frozenset()) -> Experts:
    experts = Experts(config, HIDDEN, numerics("float64"), config.num_experts, recompute=recompute)
    initialise(experts, 0.5, 1)
    for bias in (experts.up_bias, experts.down_bias):
        if bias is not None:
            bias.data.copy_(_drawn(*bias.shape, seed=2))
    return experts


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("is_weighted", [True, False])
def test_an_activation_and_its_gradients_are_those_of_the_plain_formula(kind: Activation, is_weighted: bool) -> None:
    x, weights, grad = _drawn(9, 6).requires_grad_(), _drawn(9, seed=2).requires_grad_(), _drawn(9, 6, seed=3)
    inputs = (x, weights) if is_weighted else (x,)
    ours = activate(x, kind, weights if is_weighted else None)
    plain = torch.stack([moe_reference.activated(row, kind) for row in x])
    if is_weighted:
        plain = plain * weights.unsqueeze(1)
    torch.testing.assert_close(ours, plain)
    grad = grad[:, : ours.shape[1]]
    for got, expected in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(plain, inputs, grad), strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("counts", [(3, 0, 4, 1), (0, 8, 0, 0), (0, 0, 0, 8), (2, 2, 2, 2), (0, 0, 0, 0)], ids=str)
@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_rows_go_through_their_expert_alone(counts: tuple[int, ...], kind: Activation, bias: bool) -> None:
    """With a limit in front of the activation where it has a gate and the experts biases."""
    config = replace(CONFIG, expert=Ffn(3, kind, bias), clamp=0.4 if bias and kind in ("swiglu", "geglu") else None)
    experts = _experts(config)
    rows, weights = _drawn(sum(counts), HIDDEN).requires_grad_(), _drawn(sum(counts), seed=4).requires_grad_()
    owners = [expert for expert, count in enumerate(counts) for _ in range(count)]
    named = {f"experts.{name}": parameter for name, parameter in experts.named_parameters()}
    plain = torch.stack([
        weight * moe_reference.expert_output(row, owner, named, config)
        for row, weight, owner in zip(rows, weights, owners, strict=True)
    ] or [rows.sum(0) * 0.0])[: len(owners)]  # fmt: skip
    ours = experts(rows, torch.tensor(counts), weights)
    torch.testing.assert_close(ours, plain)
    inputs = (rows, weights, *experts.parameters())
    grad = _drawn(len(owners), HIDDEN, seed=5)
    expected = torch.autograd.grad(plain, inputs, grad, materialize_grads=True)
    for got, wanted in zip(torch.autograd.grad(ours, inputs, grad), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("bias", [False, True])
def test_kept_are_rows_weights_and_both_sides_of_the_activation(bias: bool) -> None:
    formats = Plain("bf16", torch.bfloat16)
    experts = Experts(Moe(4, 2, Ffn(16, bias=bias)), 8, formats, 4)
    initialise(experts, 0.5, 1)
    rows, counts = _drawn(24, 8, dtype=torch.bfloat16).requires_grad_(), torch.tensor([10, 0, 2, 12])
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        experts(rows, counts, torch.ones(24).requires_grad_())
    for held in (*experts.parameters(), counts):
        kept.pop(held.untyped_storage().data_ptr(), None)
    assert sum(kept.values()) == 24 * (2 * 8 + 4 + 2 * 32 + 2 * 16)


def test_a_recomputed_product_gives_the_same_gradients_and_is_not_kept() -> None:
    rows, counts, weights = (
        _drawn(8, HIDDEN).requires_grad_(),
        torch.tensor([3, 0, 4, 1]),
        _drawn(8, seed=4).requires_grad_(),
    )
    grads, sizes = [], []
    for recompute in (frozenset[str](), frozenset(["swiglu"])):
        experts, shapes = _experts(recompute=recompute), list[tuple[int, ...]]()

        def pack(tensor: Tensor, shapes: list[tuple[int, ...]] = shapes) -> Tensor:
            shapes.append(tuple(tensor.shape))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = experts(rows, counts, weights)
        grads.append(torch.autograd.grad(result.square().sum(), (rows, weights, *experts.parameters())))
        sizes.append(sum(size[-1] == 3 for size in shapes if len(size) == 2))
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))
    assert sizes[0] > sizes[1] == 0


def test_permuting_there_and_back_is_the_sum_of_equal_rows() -> None:
    x, experts = _drawn(6, 4).requires_grad_(), torch.tensor([[3, 0], [0, 1], [1, 3], [0, 3], [3, 1], [0, 3]])
    order = expert_order(experts)
    rows = permute(x, order, 2)
    tokens = [token for expert in range(4) for token, chosen in enumerate(experts.tolist()) if expert in chosen]
    assert torch.equal(rows, x[tokens])
    factors = _drawn(12, 4, seed=2)
    back = unpermute(rows * factors, order, 2)
    plain = torch.zeros(6, 4, dtype=torch.float64).index_add(0, torch.tensor(tokens), x[tokens] * factors)
    torch.testing.assert_close(back, plain)
    grad = _drawn(6, 4, seed=3)
    torch.testing.assert_close(*(torch.autograd.grad(result, x, grad)[0] for result in (back, plain)))


def test_a_tokens_rows_are_summed_in_fp32() -> None:
    rows = torch.tensor([256.0, 1.0, 1.0, -256.0]).bfloat16().unsqueeze(1)
    order = expert_order(torch.tensor([[0, 1, 2, 3]]))
    assert unpermute(rows, order, 4).item() == 2.0  # one BF16 sum after another would give 0
    x = torch.ones(1, 1, dtype=torch.bfloat16, requires_grad=True)
    permute(x, order, 4).backward(rows)
    assert x.grad is not None and x.grad.item() == 2.0


def test_a_dispatched_row_bears_its_weight() -> None:
    experts, scores = torch.tensor([[2, 0], [0, 1]]), torch.rand(2, 4, generator=_seed(1))
    weights = torch.tensor([[0.1, 0.2], [0.3, 0.4]], requires_grad=True)
    received = LocalDispatch().dispatch(_drawn(2, 3), Routing(experts, weights, scores))
    assert received.counts.tolist() == [2, 1, 1, 0]
    assert received.row_weights.tolist() == pytest.approx([0.2, 0.3, 0.4, 0.1])
    received.row_weights.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert weights.grad is not None and weights.grad.tolist() == [[4.0, 1.0], [2.0, 3.0]]


def test_experts_that_ranks_cannot_share_are_refused() -> None:
    assert experts_per_rank(12, 4) == 3
    for ranks in (5, 0, 24):
        with pytest.raises(
            CalibrationError, match=rf"ranks: {ranks} ranks cannot share 12 experts evenly; allowed 1, 2, 3"
        ):
            experts_per_rank(12, ranks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("width", "bias"), [(128, False), (128, True), (30, False)])
def test_a_gpus_grouped_products_give_the_plain_layer_and_the_same_bits_twice(width: int, bias: bool) -> None:
    config = Moe(8, 2, Ffn(width, bias=bias), num_shared=1, num_groups=4, max_groups=2, score="sigmoid", has_bias=True)
    exact = MoeLayer(config, 64, numerics("float64"), Balancing("none"))
    initialise(exact, 0.1, 1)
    exact.router.bias[3] = -9.0  # an expert without a row
    exact.load_state_dict({name: value.bfloat16().to(value.dtype) for name, value in exact.state_dict().items()})
    with torch.device("cuda"):
        layer = MoeLayer(config, 64, numerics("bf16", "cuda"), Balancing("none"))
    layer.load_state_dict(exact.state_dict())
    x, grad = _drawn(2, 50, 64).bfloat16(), _drawn(2, 50, 64, seed=2).bfloat16()
    inputs = x.double().requires_grad_(), x.cuda().requires_grad_()
    wanted = exact(inputs[0])
    runs = [
        (out := layer(inputs[1]), *torch.autograd.grad(out, (inputs[1], *layer.parameters()), grad.cuda()))
        for _ in range(2)
    ]
    plain = (wanted, *torch.autograd.grad(wanted, (inputs[0], *exact.parameters()), grad.double()))
    for got, again, expected in zip(*runs, plain, strict=True):
        assert torch.equal(got, again)
        assert (got.cpu().double() - expected).norm() < 0.01 * expected.norm()
