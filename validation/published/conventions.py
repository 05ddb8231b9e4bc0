"""What frameworks do where a row does not say: by the framework's name, with the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from validation.published.row import Row


@dataclass(frozen=True)
class Conventions:
    """Of all, sequence parallelism comes with tp > 1. zero_stage: as the framework's recipes have it; experts_keep_tp:
    experts are split by tp as attention is where etp is not stated; autograd: what its layers keep (kernels.autograd);
    overlap_tp: as parallel.overlap.tp; why: the source.
    """

    zero_stage: int
    experts_keep_tp: bool
    autograd: str
    why: str
    overlap_tp: str = "none"


MEGATRON: Final = Conventions(
    1, True, "transformer_engine",
    "Megatron-LM: recipes use the distributed optimizer, sequence parallelism and Transformer Engine; "
    "expert_tensor_parallel_size is tp unless set (megatron/training/arguments.py)",
)  # fmt: skip
BRIDGE: Final = Conventions(
    1, False, "transformer_engine",
    "NVIDIA-NeMo/Megatron-Bridge and NeMo recipes: distributed optimizer, sequence parallelism with tp, Transformer Engine, "
    "expert_tensor_parallel_size 1",
)  # fmt: skip
MODELZOO: Final = Conventions(
    1, False, "transformer_engine",
    "yanring/Megatron-MoE-ModelZoo model_configs/benchmarking/*.yaml and sbatch_benchmarking.sh: distributed optimizer, "
    "sequence parallelism, expert-tensor-parallel-size 1, tp-comm-overlap in BF16",
    "chunked",
)  # fmt: skip
FSDP: Final = Conventions(
    3, False, "eager",
    "FSDP of plain torch modules (llm-foundry, torchtitan); torchtitan's tensor parallelism shards norms along the sequence",
)  # fmt: skip
OTHER: Final = Conventions(1, False, "fused", "the framework is not known; as Megatron-LM's recipes")


def conventions(row: Row) -> Conventions:
    """Those of the row's framework; that parameters are sharded is told by `is_fsdp`, which the row gives."""
    framework = row.text("framework").lower()
    if "megatron-moe-modelzoo" in row.text("source_url").lower():
        return MODELZOO
    if "bridge" in framework or "nemo" in framework:
        return BRIDGE
    if "megatron" in framework or "primus" in framework:
        return MEGATRON
    return FSDP if is_fsdp(row) else OTHER


def is_fsdp(row: Row) -> bool:
    """Whether the row says that parameters are sharded (not "FSDP /", a dash in a table)."""
    prose = f"{row.text('framework')} {row.text('source_detail')} {row.text('notes')}".lower()
    return "fsdp" in prose.replace("fsdp /", "") or "full_shard" in prose or "shard_grad_op" in prose
