"""Kinds of phases: fine-tuning (sft), reinforcement learning (rl), evaluation. What of a phase only one kind has.

A key that is not given stands for a stated assumption with a range (phase_assumptions.yaml), or follows from the scenario.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from simulator.scenario.section import GpuCount, Section, Tokens
from simulator.scenario.wording import FieldProblem

Kind = Literal["pretrain", "sft", "rl", "evaluation"]

PackingRule = Literal["best_fit", "in_order", "stream", "none"]

Samples = Annotated[float, Field(ge=1, le=1_000_000_000_000)]
"""Instances of a data set; 1.5e6 is a float in YAML."""
SampleTokens = Annotated[float, Field(ge=1, le=10_000_000)]
"""Mean tokens of a prompt, a response, or both."""
Spread = Annotated[float, Field(ge=0, le=10)]
"""Standard deviation over mean of lengths."""
Few = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]


class Sft(Section):
    """Fine-tuning on instances (a prompt with its answer) that attend to themselves alone."""

    sample_tokens: SampleTokens | None = None
    """Mean tokens of an instance; null: the assumption sft_sample_tokens."""
    sample_cv: Spread | None = None
    """Of log-normal lengths; null: the assumption sft_sample_cv."""
    packing: PackingRule = "best_fit"
    """How instances fill sequences of training.seq_len. best_fit: longest first, each into the fullest sequence that has room
    for it. in_order: into the last sequence, else into a new one. stream: one behind the other, cut where a sequence ends.
    none: one a sequence, padded. An instance longer than a sequence is cut off.
    """


class Rollout(Section):
    """How answers are generated."""

    gpus_per_engine: GpuCount | None = None
    """GPUs of one engine: experts lie over all of them (a dense model's layers are shared by tensor parallelism); null: two
    routed experts a GPU, as many GPUs as hold a dense model's weights in half of their memory.
    """
    max_batch_per_gpu: Few | None = None
    """Answers that a GPU generates at a time; null: as many as memory holds."""
    kv_dtype: Literal["bf16", "fp8"] = "bf16"
    """Format of the cached keys and values."""
    mtp: bool | None = None
    """Whether the first MTP module drafts a token that the next step verifies; null: where the model has one."""


class Rl(Section):
    """Reinforcement learning in steps: prompts are answered several times, the answers rewarded, the policy updated."""

    algorithm: Literal["grpo", "ppo"] = "grpo"
    """ppo has a critic as large as the policy beside it, which is evaluated and updated too."""
    prompts_per_step: Few | None = None
    """Prompts of one update; null: the assumption rl_prompts_per_step."""
    samples_per_prompt: Few | None = None
    """Answers of a prompt; null: the assumption rl_samples_per_prompt."""
    steps_per_rollout: Few | None = None
    """Updates for which answers are generated at once; null: the assumption rl_steps_per_rollout."""
    inner_epochs: Annotated[int, Field(ge=1, le=100)] = 1
    """Times that each answer is trained on."""
    prompt_tokens: SampleTokens | None = None
    """Mean tokens of a prompt; null: the assumption rl_prompt_tokens."""
    response_tokens: SampleTokens | None = None
    """Mean tokens of an answer; null: the assumption rl_response_tokens."""
    response_cv: Spread | None = None
    """Of log-normal lengths; null: the assumption rl_response_cv."""
    max_response_tokens: SampleTokens | None = None
    """Where answers are cut off; null: the assumption rl_max_response_tokens."""
    model_reward_share: Share | None = None
    """Share of answers that a reward model as large as the policy reads, the others being judged by rules; null: the
    assumption rl_model_reward_share.
    """
    reference: bool = True
    """Whether a frozen copy of the policy reads every answer (for the KL penalty)."""
    rollout: Rollout = Rollout()


class Evaluation(Section):
    """Tokens that the model reads without being trained on them."""

    tokens: Tokens
    """Of one evaluation."""
    every_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Steps between two evaluations; null: one, behind the phase."""


def _or_nothing(value: Any) -> Any:
    """An empty section says nothing."""
    return None if value == {} else value


OrNothing = BeforeValidator(_or_nothing)


class KindKeys(Section):
    """Keys of a phase that only some kinds have."""

    kind: Kind = "pretrain"
    """pretrain: every token of a sequence (context extensions too). sft, rl: see their sections. evaluation: forward only."""
    samples: Samples | None = None
    """Of sft: instances of the data set."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Of sft: how often each instance is trained on; null: once."""
    sft: Annotated[Sft | None, OrNothing] = None
    rl: Annotated[Rl | None, OrNothing] = None
    evaluation: Evaluation | None = None
    """Evaluations during the phase or behind it, on the phase's own layout."""


OWN_KEYS: Final = {"samples": ("sft",), "epochs": ("sft",), "sft": ("sft",), "rl": ("rl",)}
"""Key → kinds that have it."""


def kind_problems(
    phase: KindKeys, *, tokens: float | None, steps: int | None, has_ramp: bool
) -> Iterator[FieldProblem]:
    """(key of the phase, message) of what its kind does not allow. tokens, steps, has_ramp: of the phase."""
    for key, kinds in OWN_KEYS.items():
        if getattr(phase, key) is not None and phase.kind not in kinds:
            yield (
                key,
                f"is of phases of kind {' or '.join(kinds)}; this is {phase.kind}: write kind: {kinds[0]}, or leave it out",
            )
    if phase.kind == "sft":
        yield from _sft_length(phase, tokens, steps)
    elif phase.kind == "rl" and tokens is not None:
        yield "tokens", "of rl follow from the answers; give steps (updates), or neither: the assumption rl_steps"
    elif phase.kind == "evaluation":
        if tokens is None or steps is not None:
            yield "tokens", "a phase of kind evaluation says tokens, and no steps"
        if phase.evaluation is not None:
            yield "evaluation", "the phase is one itself; write its tokens"
    if phase.kind != "pretrain" and has_ramp:
        yield "batch_ramp", f"only phases of kind pretrain have one; this is {phase.kind}"


def _sft_length(phase: KindKeys, tokens: float | None, steps: int | None) -> Iterator[FieldProblem]:
    given = [
        key for key, value in (("samples", phase.samples), ("tokens", tokens), ("steps", steps)) if value is not None
    ]
    if len(given) != 1:
        yield (
            "samples",
            f"exactly one of samples, tokens and steps says how long sft is ({', '.join(given) or 'none'} given)",
        )
    elif phase.epochs is not None and phase.samples is None:
        yield "epochs", f"is of samples; {given[0]} says how long the phase is"
