"""Fine-tuning: instances, packed into sequences, are trained on for some epochs.

steps = ceil(instances * epochs * sequences of an instance / global batch); tokens that are trained on are those of the
instances, what is computed is whole sequences, padding included. Each step is one of the phase's own layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.run.kinds.packing import Packed, kept_tokens, pack
from simulator.scenario.phase_kinds import Sft
from simulator.scenario.plan import Packing, Training
from simulator.scenario.scenario import Scenario

NOTE = "steps of the phase's layout on packed instances that attend to themselves alone; padding is computed and trains nothing"
NOT_MODELLED = (
    "fine-tuning: prompts that carry no loss are computed as answers are; packed instances are cut as a stream's",
)
WHOLE = 0.999
"""Instances of at least this share of a sequence are taken as filling it."""


@dataclass(frozen=True, slots=True)
class SftWork:
    """What a phase trains. instances: each epoch's counted; tokens: of instances, padding left out; steps: whole ones, the last
    perhaps not full; computed_tokens: of whole sequences.
    """

    packed: Packed
    instances: float
    sequences: float
    steps: int

    @property
    def tokens(self) -> float:
        """Tokens that are trained on."""
        return self.instances * self.packed.tokens

    @property
    def computed_tokens(self) -> float:
        """Tokens that pass through the model, padding included."""
        return self.sequences * self.packed.seq_len


def given_values(scenario: Scenario) -> dict[str, float]:
    """Assumptions that the (one) phase states itself: they are exact."""
    sft = scenario.phases[0].sft or Sft()
    stated = {"sft_sample_tokens": sft.sample_tokens, "sft_sample_cv": sft.sample_cv}
    return {key: value for key, value in stated.items() if value is not None}


def packed_instances(scenario: Scenario, values: Mapping[str, float]) -> Packed:
    """The instances of the (one) phase in its sequences. values: key → value of the assumptions of sft."""
    rule = (scenario.phases[0].sft or Sft()).packing
    return pack(values["sft_sample_tokens"], values["sft_sample_cv"], scenario.training.seq_len, rule)


def sft_work(scenario: Scenario, values: Mapping[str, float]) -> SftWork:
    """What the (one) phase of a scenario trains; tokens or steps instead of samples say how many instances that is."""
    phase, packed = scenario.phases[0], packed_instances(scenario, values)
    batch = scenario.training.global_batch_size
    if phase.samples is not None:
        instances = phase.samples * (phase.epochs or 1.0)
    elif phase.tokens is not None:
        instances = phase.tokens / packed.tokens
    else:
        instances = (phase.steps or 1) * batch / packed.sequences
    sequences = instances * packed.sequences
    return SftWork(packed, instances, sequences, phase.steps or max(1, math.ceil(sequences / batch)))


def steps_at(scenario: Scenario, work: SftWork, values: Mapping[str, float]) -> int:
    """Steps where instances have other lengths than those of `work`: packed ones fill sequences in proportion to their tokens,
    with the same share of padding; of a length that the phase states itself the number stays.
    """
    phase, packed = scenario.phases[0], work.packed
    if phase.samples is None or (phase.sft or Sft()).packing == "none":
        return work.steps
    kept = kept_tokens(values["sft_sample_tokens"], values["sft_sample_cv"], packed.seq_len)
    stated = kept_tokens(packed.mean_tokens, packed.given_cv, packed.seq_len)
    return max(1, math.ceil(work.sequences * kept / stated / scenario.training.global_batch_size))


def packed_training(training: Training, packed: Packed) -> Training:
    """What a step trains on where its sequences are packed so: documents that attend to themselves alone, and padding."""
    padding = packed.padding_frac
    if packed.tokens >= WHOLE * packed.seq_len:
        return training.model_copy(update={"packing": "none", "padding_fraction": 0.0})
    documents = Packing(mean_tokens=packed.tokens, cv=packed.cv)
    return training.model_copy(update={"packing": documents, "padding_fraction": padding})
