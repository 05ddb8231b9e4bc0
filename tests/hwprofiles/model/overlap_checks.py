"""A whole model on an expert group, a step plain and a step overlapped, beside one process with all experts and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import Ffn, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.experts import Experts
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.parallel import flight, overlap
from hwprofiles.calibration.parallel.expert_dispatch import ExpertDispatch
from hwprofiles.calibration.parallel.groups import ExpertGroup, sum_over
from hwprofiles.calibration.parallel.step_end import sum_dense_gradients, update_biases

ATTENTION = Mla(num_heads=2, q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=8)
EXPERTS = Moe(8, 3, Ffn(8), num_shared=1, num_groups=4, max_groups=2, score="sigmoid", has_bias=True, weight_scale=2.5)
CONFIG = ModelConfig(
    "small", 16, 24, (Layer(ATTENTION, Ffn(24)), Layer(ATTENTION, EXPERTS), Layer(ATTENTION, EXPERTS)), num_mtp=1, init_std=0.3
)  # fmt: skip
MICRO_BATCHES, SEQUENCES, LENGTH = 2, 2, 5
"""Of a rank."""


EVERY_EXPERT = replace(
    CONFIG, layers=tuple(replace(layer, ffn=replace(EXPERTS, top_k=8, max_groups=4)) for layer in CONFIG.layers[1:])
)
"""Where every token goes to every expert, so that rounding changes no choice."""
WAYS = {
    "_Dispatch.forward": "dispatch(F)", "_Dispatch.backward": "dispatch(B)",
    "_Combine.forward": "combine(F)", "_Combine.backward": "combine(B)",
}  # fmt: skip


def config_of(recipe: str) -> ModelConfig:
    """The model's, or its relative's where results are rounded."""
    return EVERY_EXPERT if recipe == "bf16" else CONFIG


def model(group: ExpertGroup | None, recipe: str, **options: Any) -> Model:
    """One process's model, or a rank's, whose losses count for its part."""
    dispatcher = None if group is None else ExpertDispatch(group, "bf16" if recipe == "bf16" else "as_is")
    result = Model(config_of(recipe), numerics(recipe), dispatcher=dispatcher, seed=3, **options)
    for layer in moe_layers(result):
        layer.loss_scale = 1.0 if group is None else 1.0 / group.size
    return result


def moe_layers(whole: Model) -> list[MoeLayer]:
    """In order, the MTP module's too."""
    return [module for module in whole.modules() if isinstance(module, MoeLayer)]


def compared(group: ExpertGroup, recipe: str) -> dict[str, float | bool]:
    """Largest relative differences of gradients and losses, and whether loads agree."""
    generator = torch.Generator().manual_seed(11)
    shape = (MICRO_BATCHES, group.size, SEQUENCES, LENGTH + 1 + CONFIG.num_mtp)
    tokens = torch.randint(CONFIG.vocab_size, shape, generator=generator)
    again = ("moe",) if group.size == 2 else ()  # sends its rows a second time in the backward
    one, plain = model(None, recipe), model(group, recipe, recompute=again)
    paired = model(group, recipe, recompute=("rmsnorm", "swiglu"))
    losses = []
    for batch in tokens:
        total = one(batch.flatten(0, 1)).total()
        total.backward()
        (plain(batch[group.rank]).total() / group.size).backward()
        losses.append(total.detach())
    mine = [batch[group.rank] for batch in tokens]
    found = torch.stack([each.total().detach() for each in overlap.train(paired, mine, 1.0 / group.size)])
    infer = torch.stack([each.total().detach() for each in overlap.infer(paired, mine[0], mine[1])])
    result: dict[str, float | bool] = {"paired beside plain": apart(gradients(paired), gradients(plain))}
    result["infer beside train"] = float((infer - found[:2]).abs().max())
    sum_over([found], group.whole)
    result["losses"] = float((found / group.size - torch.stack(losses)).abs().max())
    for name, each in (("plain", plain), ("paired", paired)):
        sum_dense_gradients(each, group)
        result[name] = worst(apart(gradients(each), held(gradients(one), group)), group)
    if recipe == "bf16":
        result["rounding"] = rounding(one, recipe, tokens)
    result["loads"] = same_loads(one, plain, group)
    return result


def rounding(one: Model, recipe: str, tokens: Tensor) -> float:
    """How far one process's gradients are from those in float64."""
    exact = Model(config_of(recipe), numerics("float64"))
    exact.load_state_dict(one.state_dict())
    for batch in tokens:
        exact(batch.flatten(0, 1)).total().backward()
    return apart(gradients(one), gradients(exact))


def gradients(whole: Model) -> dict[str, Tensor]:
    """By parameter, zeros where nothing reached it."""
    return {name: torch.zeros_like(each) if each.grad is None else each.grad for name, each in whole.named_parameters()}


def held(whole: dict[str, Tensor], group: ExpertGroup) -> dict[str, Tensor]:
    """A rank's part of one process's gradients."""
    mine = slice(group.first_expert, group.first_expert + group.experts_per_rank)
    return {name: grad[mine] if ".experts." in name else grad for name, grad in whole.items()}


def apart(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Largest difference of a parameter's gradient over its norm (an expert that nobody chose has zeros in both)."""
    assert got.keys() == wanted.keys()
    return max(float((got[n] - wanted[n]).norm() / wanted[n].norm().clamp_min(1e-9)) for n in wanted)


def worst(value: float, group: ExpertGroup) -> float:
    """Of all ranks."""
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=group.whole)
    return float(tensor)


def same_loads(one: Model, mine: Model, group: ExpertGroup) -> bool:
    """Whether the biases, moved by the loads of all ranks, are one process's; some have to move."""
    update_biases(mine, group)
    for whole in moe_layers(one):
        whole.update_bias(whole.take_loads())
    biases = [(a.router.bias, b.router.bias) for a, b in zip(moe_layers(one), moe_layers(mine), strict=True)]
    return all(torch.equal(a, b) and bool(a.any()) for a, b in biases)


@contextmanager
def written_down(events: list[str]) -> Iterator[None]:
    """Writes down in what order transfers begin and end, and experts compute, forward and backward."""
    running: dict[flight.Running, str] = {}
    begin, end, compute = flight.Running.__init__, flight.Running.end, Experts.forward

    def started(self: flight.Running, steps: Any, inputs: Any) -> None:
        running[self] = WAYS.get(steps.__qualname__, "layout")
        events.append(f"start {running[self]}")
        begin(self, steps, inputs)

    def ended(self: flight.Running) -> Any:
        events.append(f"end {running.pop(self)}")
        return end(self)

    def computed(self: Experts, *args: Any) -> Tensor:
        events.append("experts F")
        result: Tensor = compute(self, *args)
        result.register_hook(lambda grad: events.append("experts B"))
        return result

    with (
        patch.object(flight.Running, "__init__", started), patch.object(flight.Running, "end", ended),
        patch.object(Experts, "forward", computed),
    ):  # fmt: skip
        yield


def order(group: ExpertGroup) -> list[str]:
    """Of two micro-batches on a model of the float64 recipe."""
    mine = torch.zeros(2, SEQUENCES, LENGTH + 1 + CONFIG.num_mtp, dtype=torch.int64)
    events: list[str] = []
    with written_down(events):
        overlap.train(model(group, "float64"), list(mine))
    return [event for event in events if "layout" not in event]


def refused(group: ExpertGroup) -> str:
    """What is said of a layer that would be recomputed across its transfers."""
    try:
        overlap.train(model(group, "float64", recompute=("moe",)), [torch.zeros(1, 4, dtype=torch.int64)])
    except CalibrationError as error:
        return str(error)
    return ""


def check(group: ExpertGroup) -> dict[str, Any]:
    """Everything of this file; on more than two ranks only what depends on their number."""
    exact = {"float64": compared(group, "float64")}
    if group.size > 2:
        return exact
    return {**exact, "bf16": compared(group, "bf16"), "order": order(group), "refused": refused(group)}
