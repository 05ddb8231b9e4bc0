"""kernels.modules: moesim-torch with kernels.gemm: moesim counts what the torch model launches with this project's kernels.

Layers run on the device `meta`; in place of each kernel stands what notes its sizes and its bytes, and torch's own functions
are counted by hwprofiles' counting/traffic.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import fsum
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from hwprofiles.calibration.counting.kept import Allocated
from hwprofiles.calibration.counting.traffic import Traffic
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.layer import Layer
from hwprofiles.calibration.numerics import blockwise_library, blockwise_own, gated
from hwprofiles.calibration.numerics.blockwise_own import OwnBlockwise
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.numerics import Plain
from hwprofiles.calibration.numerics.quantise import FP8
from hwprofiles.calibration.proof.forced import forced, without_looks
from hwprofiles.calibration.proof.weights_alone import WeightsAlone
from hwprofiles.kernels.shape import OWN_GEMMS, OWN_STREAMS
from hwprofiles.proof_cases.layer_cases import LayerCase, dense_layer, gqa_layer, mla_layer, moe_layer
from simulator.step.prepared import prepare
from simulator.workload.modules.moesim_memory import with_torch_functions
from simulator.workload.op import Op
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory, total_bytes
from validation.proof.predict import in_pass, layer_operators
from validation.proof.scenarios import layer_scenario

TOKENS = 2048
META = torch.device("meta")
Called = tuple[str, str, tuple[int, ...]]
"""Kernel, variant, and of a product m, n, k and groups, of a kernel bound by memory rows and width."""


def empty(*shape: int, dtype: torch.dtype = FP8) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


def whole(size: int) -> int:
    return size + -size % 128


def in_rows(rows: int, width: int) -> tuple[Tensor, Tensor]:
    return empty(rows, whole(width)), empty((width + 127) // 128, rows, dtype=torch.float32).t()


def turned(rows: int, width: int) -> tuple[Tensor, Tensor]:
    return empty(width, rows), empty(rows // 128, width, dtype=torch.float32)


class Kernels:
    """In the place of this project's kernels."""

    def __init__(self) -> None:
        self.called: list[Called] = []
        self.bytes = 0

    def note(self, kernel: str, variant: str, sizes: Sequence[int], read: Sequence[Tensor], made: Any) -> Any:
        flat = [each for each in torch.utils._pytree.tree_leaves(made) if isinstance(each, Tensor)]
        self.bytes += sum(each.numel() * each.element_size() for each in (*read, *flat))
        self.called.append((kernel, variant, tuple(sizes)))
        return made

    # streams

    def quantise_rows(self, x: Tensor, **_: Any) -> Any:
        return self.note("quantise", "", x.shape, [x], in_rows(*x.shape))

    def quantise_columns(
        self, x: Tensor, scales: Tensor | None, width: int, sources: Tensor, *_: Any, **__: Any
    ) -> Any:
        read = [x if scales is None and len(x) == len(sources) else empty(len(sources), width, dtype=x.dtype)]
        of_fp8 = [] if scales is None else [scales]
        made = turned(len(sources), width)
        return self.note(
            "quantise_transpose", "of-fp8" if of_fp8 else "", (len(sources), width), [*read, *of_fp8], made
        )

    def quantise_both(self, x: Tensor, sources: Tensor, *_: Any, **__: Any) -> Any:
        return self.note("quantise_joint", "", x.shape, [x], (in_rows(*x.shape), turned(len(sources), x.shape[1])))

    def quantise_blocks(self, weight: Tensor, **_: Any) -> Any:
        e, n, k = weight.shape
        big_n, big_k = whole(n), whole(k)
        made = empty(e, big_n, big_k), empty(e, big_k, big_n), empty(e, big_n // 128, big_k // 128, dtype=torch.float32)
        return self.note("quantise", "weight", (e * n * k, 1), [weight], made)

    # swiglu

    def swiglu_quantise(self, x: Tensor, *_: Any, **__: Any) -> Any:
        rows, width = x.shape
        return self.note("swiglu", "", (rows, width // 2), [x], in_rows(rows, width // 2))

    def swiglu_backward_quantise(self, x: Tensor, grad: Tensor, sources: Tensor, weights: Any = None, **_: Any) -> Any:
        made = in_rows(*x.shape), turned(len(sources), x.shape[1])
        self.note("swiglu_bwd", "both", grad.shape, [x, grad], made)
        of_weights = empty(grad.shape[1] // 128, len(grad), dtype=torch.float32).sum(0) if weights is not None else None
        return *made, of_weights

    # permuting

    def permute_quantise(self, x: Tensor, places: Tensor, rows: int, **_: Any) -> Any:
        return self.note("permute", "cast", x.shape, [x], in_rows(rows, x.shape[1]))

    def unpermute(self, rows: Tensor, places: Tensor) -> Any:
        return self.note("unpermute", "", rows.shape, [rows], torch.empty_like(rows[: len(places)]))

    # products

    def fprop(self, left: Any, right: Any, groups: Groups) -> Tensor:
        (m, k), (e, n, _) = left.values.shape, right.values.shape
        self.called.append(("product", "", (m, n, k, e)))
        return empty(m, n, dtype=torch.bfloat16)

    dgrad = fprop

    def wgrad(self, left: Any, right: Any, groups: Groups, **_: Any) -> Tensor:
        (n, tokens), (k, _), e = left.values.shape, right.values.shape, len(groups.counts)
        self.called.append(("product", "wgrad", (n, k, tokens, e)))
        return empty(e, n, k, dtype=torch.float32)

    def require(self, device: torch.device) -> None:
        pass


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    noted = Kernels()
    monkeypatch.setattr(blockwise_own, "products", noted)
    monkeypatch.setattr(gated, "import_module", lambda name: noted)
    for module in (blockwise_library, blockwise_own, gated):
        monkeypatch.setattr(module, "fused_kernels", lambda device: noted)
    return noted


def own(kind: Any, values: Mapping[str, Any]) -> LayerCase:
    return LayerCase(kind, "fp8-blockwise", values, TOKENS, products="own")


CASES = {
    "experts": own("moe", moe_layer(512, experts=8, top_k=2, width=256, shared=1)),
    "sigmoid": own("moe", moe_layer(512, sigmoid=True, experts=4, top_k=2, width=128, shared=0)),
    "dense": own("dense", dense_layer(512, 1024)),
    "latent": own("mla", mla_layer(512, 4, 256)),
    "grouped": own("gqa", gqa_layer(512, 4, 2, 128)),
}
SLOW = ("sigmoid", "grouped")


OF_ROUTER = {"F": 2, "I": 2, "B": 4, "W": 2}
"""Conversions of a router's operands, which its product on a GPU takes as they are (model/router.py), by pass."""
OF_SCORES = {"softmax": {"F": 0, "I": 1, "B": 1, "W": 0}, "sigmoid": {"F": 1, "I": 0, "B": 0, "W": 0}}
"""A function that softmax's gradient calls more than is counted of any scores, and sigmoid's balance loss."""


@contextmanager
def counted(kernels: Kernels) -> Iterator[dict[str, Any]]:
    """What runs within: calls and bytes of kernels, and launches and bytes of torch's functions."""
    kernels.called, kernels.bytes, found = [], 0, {}
    with Traffic() as traffic:
        yield found
    found |= {
        "called": list(kernels.called),
        "bytes": kernels.bytes,
        "torch": traffic.launches,
        "torch_bytes": traffic.bytes,
    }


def made(case: LayerCase) -> tuple[nn.Module, Tensor]:
    """The case's half of a layer without norm and residual, used once, so that weights are quantised and places found."""
    config = ModelConfig.of(case.values)
    formats = Fp8(case.recipe, OwnBlockwise(META), Plain("bf16", torch.bfloat16))
    dispatcher = forced(case.rows, TOKENS, formats, torch.device("cpu")) if case.rows else None
    if dispatcher:
        dispatcher.experts = dispatcher.experts.to(META)
    with META:
        layer = Layer(config.layers[0], config, formats, dispatcher=dispatcher)
    module: nn.Module = layer.attention if case.kind in ("mla", "gqa") else layer.ffn
    without_looks(module)
    x = empty(1, TOKENS, config.hidden_size, dtype=torch.bfloat16).requires_grad_()
    module(x).sum().backward()
    return module, x


def run(case: LayerCase, kernels: Kernels) -> Mapping[str, Mapping[str, Any]]:
    """Pass → what was counted. Norm and residual are left out."""
    module, x = made(case)
    forward: Callable[[], Tensor] = lambda: module(x)  # noqa: E731
    found: dict[str, Mapping[str, Any]] = {}
    for phase, frozen in (("B", False), ("I", True)):
        module.requires_grad_(not frozen)
        with counted(kernels) as passed:
            out = forward()
        found["F"] = passed
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        grad = torch.empty_like(out)
        with counted(kernels) as passed:
            torch.autograd.grad(out, (x, *weights), grad, allow_unused=True)
        found[phase] = passed
    alone = WeightsAlone(module, forward)
    grads = alone.forward()
    with counted(kernels) as passed:
        alone.backward(grads)
    found["W"] = passed
    return found


def called(op: Op) -> Called:
    shape = op.shape
    if shape.bound == "gemm":
        if shape.variant == "wgrad":
            return "product", "wgrad", (shape.m, shape.n, shape.k, shape.groups)
        return "product", "", (shape.m, whole(shape.n), whole(shape.k), shape.groups)  # zeros are multiplied, too
    return shape.op, shape.variant, (shape.m, shape.n)


def is_own(op: Op) -> bool:
    return op.shape.library in (OWN_GEMMS, OWN_STREAMS) and op.shape.dtype == "fp8-block"


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, case in CASES.items()]
)
def test_every_pass_calls_the_kernels_that_are_counted(case: LayerCase, kernels: Kernels) -> None:
    ops = layer_operators(prepare(layer_scenario(case, "h100-measured", "h100-x8")), case)
    for phase, passed in run(case, kernels).items():
        kernels_of = [op for op in in_pass(ops, phase) if is_own(op)]
        assert Counter(passed["called"]) == Counter(map(called, kernels_of)), phase
        assert all(op.shape.num_kernels == 1 for op in kernels_of)
        moved = fsum(op.shape.bytes for op in kernels_of if op.shape.bound == "memory")
        assert moved == pytest.approx(passed["bytes"], rel=0.02), phase
        if case.kind in ("moe", "dense"):
            rest = [
                op
                for op in in_pass(ops, phase)
                if not is_own(op) and not {"norm", "residual"} & set(op.name.split("_"))
            ]
            more = OF_ROUTER[phase] + OF_SCORES[case.values["moe"]["score"]][phase] if case.kind == "moe" else 0
            assert sum(op.shape.num_kernels for op in rest) + more == passed["torch"], phase


def test_weights_are_quantised_in_both_forms_when_a_step_first_reads_them(kernels: Kernels) -> None:
    case = CASES["experts"]
    config = ModelConfig.of(case.values)
    weight = OwnBlockwise(META).quantised_weight(empty(8, 512, 512, dtype=torch.float32))
    with Traffic() as traffic:
        assert weight.turned.values.shape == (8, 512, 512)
    scenario = layer_scenario(case, "h100-measured", "h100-x8")
    ops = {op.name: op for unit in prepare(scenario).workload.stages[0].units for op in unit.ops()}
    assert config.layers[0].ffn and called(ops["expert_up_weight_cast"]) in kernels.called
    assert ops["expert_up_weight_cast"].shape.bytes == pytest.approx(kernels.bytes, rel=1e-3)
    turn = ops["expert_up_weight_turn"].shape
    assert (turn.bytes, turn.num_kernels) == (traffic.bytes, traffic.launches)


def test_later_micro_batches_add_their_gradients_by_the_product_itself() -> None:
    case = CASES["dense"]
    scenario = layer_scenario(case, "h100-measured", "h100-x8")
    more = scenario.training.model_copy(update={"global_batch_size": 2})
    two = prepare(scenario.model_copy(update={"training": more}))
    for step, result in ((prepare(scenario), "fp32"), (two, "")):
        ops = {op.name: op for unit in step.workload.stages[0].units for op in unit.ops()}
        assert ops["ffn_up_wgrad"].shape.result == result and "ffn_up_grad_sum" not in ops


class Fullest(Allocated):
    """Keeps the most that ever lived."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        self.most = max(self.most, self.living_bytes())
        return out


@pytest.mark.parametrize("name", ["experts", "dense"])
def test_a_network_that_is_one_function_works_on_what_is_counted(name: str, kernels: Kernels) -> None:
    """Gradients of weights are the model's; a router is small beside the rest."""
    values = moe_layer(512, experts=8, top_k=2, width=256, shared=0) if name == "experts" else CASES[name].values
    case = replace(CASES[name], values=values)
    module, x = made(case)
    out, weights = module(x), list(module.parameters())
    with Fullest() as fullest:
        torch.autograd.grad(out, (x, *weights), torch.empty_like(out), allow_unused=True)
    recipe = ActivationRecipe(TOKENS, act_dtype="fp8-block", own_modules=True, own_gemms=True)
    kind = "moe_ffn" if name == "experts" else "dense_ffn"
    spec = layer_scenario(case, "h100-measured", "h100-x8").model
    (block,) = with_torch_functions([BlockMemory(kind, ())], spec, recipe)
    working = total_bytes(block.working_backward) + sum(4 * weight.numel() for weight in weights)
    assert working == pytest.approx(fullest.most - out.numel() * out.element_size(), rel=0.02)
