"""How long training steps of Hugging Face transformers take on this GPU, what memory they allocate, which kernels they launch.

    python -m hwprofiles.calibration.library_steps -o DIR

A step: forward with labels, backward, torch's fused AdamW, gradients freed; weights, gradients and moments in BF16, nothing
compiled, experts by `grouped_mm`. One JSON file a model of library_models.py, written as soon as it is measured; a model whose
file is there is left out, so that a run that was killed goes on. Steps are timed without the profiler; one more is profiled:
kernels and operators by name, summed.
"""

# ruff: noqa: E402
from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch(__name__)

import gc
import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from hwprofiles.calibration.command import Parser, check_output, guarded, write_json
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.measuring import Clock, device_facts
from hwprofiles.library_models import MODELS, LibraryModel, rehearsal

WARM_UP: Final = 3
STEPS: Final = 8
EXPERTS: Final = "grouped_mm"
SEED: Final = 11


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes a JSON file a model. Exit code: 0, 2 for input, a device or a library that cannot be."""
    return guarded("library_steps", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.library_steps",
        description="Times training steps of Hugging Face transformers from configurations, with their memory and kernels.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="MODEL", choices=[model.name for model in MODELS])
    parser.add_argument("--small", action="store_true", help="small models: a rehearsal without a GPU")
    given = parser.parse_args(arguments)
    if not (given.small or torch.cuda.is_available()):
        parser.error("needs a CUDA GPU; --small rehearses without one")
    library = _library()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given.out.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        out = given.out / f"{model.name}.json"
        if out.exists() or (given.only and model.name not in given.only):
            continue
        check_output(out)
        write_json(out, _measured(rehearsal(model) if given.small else model, library, device))
        print(f"{model.name}: {out}")
    return 0


def _library() -> Any:
    """The module transformers. Raises CalibrationError where it is not installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise CalibrationError(
            "needs Hugging Face transformers, which is not installed; pip install transformers"
        ) from None


def _measured(model: LibraryModel, library: Any, device: torch.device) -> dict[str, Any]:
    """One model's row; where a step is refused or does not fit, `error` says why."""
    facts = device_facts(0) if device.type == "cuda" else {"gpu": "", "torch": torch.__version__}
    row: dict[str, Any] = {
        "device": facts, "library": f"transformers {library.__version__}", "model": model.name, "judged": model.judged,
        "batch": model.batch, "seq": model.seq, "attention": model.attention, "experts": EXPERTS,
        "checkpointing": model.checkpointing, "config": dict(model.config),
    }  # fmt: skip
    try:
        row |= measure(model, library, device)
    except (RuntimeError, ValueError, TypeError) as error:
        row["error"] = f"{type(error).__name__}: {error}"[:1000]
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return row


def build(model: LibraryModel, library: Any, device: torch.device) -> nn.Module:
    """The library's model with random BF16 weights."""
    config = library.AutoConfig.for_model(**{key: value for key, value in model.config.items() if key != "model_type"},
                                          model_type=model.config["model_type"])  # fmt: skip
    config.use_cache = False
    torch.manual_seed(SEED)
    with torch.device(device):
        built: nn.Module = library.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation=model.attention
        )
    setter = getattr(built, "set_experts_implementation", None)
    if setter is not None and any(
        key.startswith(("num_experts", "num_local_experts", "n_routed")) for key in model.config
    ):
        setter(EXPERTS)
    if model.checkpointing:
        built.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return built.train()


def measure(model: LibraryModel, library: Any, device: torch.device) -> dict[str, Any]:
    """Seconds of steps, bytes allocated at most, and a profiled step."""
    built = build(model, library, device)
    optimizer = torch.optim.AdamW(built.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(SEED)
    vocab = int(model.config["vocab_size"])
    tokens = torch.randint(vocab, (model.batch, model.seq), generator=generator).to(device)
    step = partial(_step, built, optimizer, tokens)
    for _ in range(WARM_UP):
        step()
    _wait(device)
    result: dict[str, Any] = {
        "num_parameters": sum(each.numel() for each in built.parameters()),
        "parameters": {name: list(each.shape) for name, each in built.named_parameters()},
    }
    if device.type == "cuda":
        result["held_bytes"] = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    result |= _timed(step, device)
    if device.type == "cuda":
        result["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
        result["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
    return result | _profiled(step, device)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor) -> Tensor:
    loss: Tensor = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _timed(step: Callable[[], Tensor], device: torch.device) -> dict[str, Any]:
    """Steps one behind the other, as training runs them: between moments of the device; then those whose issue alone is timed,
    each from an idle device on.
    """
    clock = Clock(device)
    marks = [clock.mark()]
    for _ in range(STEPS):
        step()
        marks.append(clock.mark())
    _wait(device)
    seconds = [clock.between(first, second) for first, second in pairwise(marks)]
    issued = []
    for _ in range(3):
        _wait(device)
        begin = time.perf_counter()
        step()
        issued.append(time.perf_counter() - begin)
    _wait(device)
    return {
        "step_s": statistics.median(seconds), "step_low_s": min(seconds), "step_high_s": max(seconds),
        "steps_s": seconds, "issue_s": statistics.median(issued),
    }  # fmt: skip


def _profiled(step: Callable[[], Tensor], device: torch.device) -> dict[str, Any]:
    """Kernels by name; operators by name and input shapes; both with how often and microseconds."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities, record_shapes=True) as profiled:
        step()
        _wait(device)
    kernels: dict[str, list[float]] = {}
    for event in profiled.events() or ():
        if str(event.device_type).endswith("CUDA"):
            found = kernels.setdefault(event.name, [0, 0.0])
            found[0] += 1
            found[1] += event.device_time_total
    operators = [
        {
            "operator": each.key, "shapes": str(each.input_shapes), "count": each.count,
            "device_us": each.self_device_time_total, "host_us": each.self_cpu_time_total,
        }
        for each in profiled.key_averages(group_by_input_shape=True)
        if not each.key.startswith("cuda")
    ]  # fmt: skip
    return {
        "kernels": [
            {"kernel": name, "count": count, "device_us": us}
            for name, (count, us) in sorted(kernels.items(), key=lambda item: -item[1][1])
        ],
        "operators": sorted(operators, key=lambda row: (-float(str(row["device_us"])), str(row["operator"]))),
    }


if __name__ == "__main__":
    raise SystemExit(main())
