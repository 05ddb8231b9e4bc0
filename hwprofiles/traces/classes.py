"""What kind of kernel a name is of: the one list of classes, and the patterns of names that belong to each.

The first class in CLASSES with a pattern that is found in a name has it; names are as demanglers, Triton and the libraries
write them, and as the compiler mangled them. Collectives and copies between devices count as communication, copies from and
to the host as transfers, all else as compute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Group = Literal["compute", "communication", "transfer"]
GROUPS: Final[tuple[Group, ...]] = ("compute", "communication", "transfer")
"""In the order in which time in which several run counts: communication is exposed where no compute runs, transfers where
nothing else does."""
OTHER: Final = "other"
"""What no pattern knows; its names are listed."""


@dataclass(frozen=True, slots=True)
class KernelNames:
    """A class: patterns are regular expressions, upper and lower case alike."""

    name: str
    group: Group
    patterns: tuple[str, ...]


def _patterns(text: str) -> tuple[str, ...]:
    """Patterns that blanks stand between; a blank in a name is written \\s."""
    return tuple(text.split())


CLASSES: Final[tuple[KernelNames, ...]] = (
    KernelNames(
        "memcpy_host", "transfer", _patterns(r"^memcpy\s(htod|dtoh|htoh) copyhosttodevice copydevicetohost")
    ),
    KernelNames("memcpy_peer", "communication", _patterns(r"^memcpy\sptop ^memcpy\sdtod.*peer copypeer")),
    KernelNames("memcpy_device", "compute", _patterns(r"^memcpy copydevicetodevice")),
    KernelNames("memset", "compute", _patterns(r"^memset")),
    KernelNames("all_gather", "communication", _patterns(r"nccl.*all_?gather \ball_?gather_kernel multimem_all_gather")),
    KernelNames("reduce_scatter", "communication", _patterns(r"nccl.*reduce_?scatter \breduce_?scatter_kernel")),
    KernelNames(
        "all_reduce", "communication",
        _patterns(r"""nccl.*all_?reduce cross_device_reduce all_?reduce_(one|two)_?shot (one|two)_shot_all_?reduce
            multimem_(one_shot_|two_shot_)?all_?reduce all_?reduce_fusion \ball_?reduce_kernel"""),
    ),
    KernelNames(
        "dispatch_combine", "communication",
        _patterns(r"""internode(_ll)?:: intranode:: \bdeep_?ep\b hybrid_ep notify_(dispatch|combine) cached_notify
            get_dispatch_layout nvshmem moe_a2a all_?to_?all"""),
    ),
    KernelNames("send_receive", "communication", _patterns(r"nccl(dev)?kernel ncclsymk rccl")),
    KernelNames(
        "attention_bwd", "compute",
        _patterns(r"""flash_?attn_?bwd flash_bwd bprop.*(sdpa|flash|fmha) (sdpa|flash|fmha).*(bprop|bwd|backward)
            fmha_cutlassb attentionbackwardkernel compute_dot_do_o convert_dq_to fmha_reduce_head flex_attention_backward
            attn_bwd attention_bwd"""),
    ),
    KernelNames(
        "attention_fwd", "compute",
        _patterns(r"""flash_?attn flash_fwd fmha sdpa attentionkernel compute_attn flex_attention attn_fwd attention_fwd
            flash::"""),
    ),
    KernelNames(
        "grouped_gemm", "compute",
        _patterns(r"""groupproblemshape grouped_?gemm(?!::cuda::(fp8|utils)) [mk]_grouped group_gemm gemm_?grouped grouped_mm
            moe_?gemm fused_moe_kernel grouped_?matmul"""),
    ),
    KernelNames(
        "quantise", "compute",
        _patterns(r"""cast_to_fp8 cast_and_transpose cast_transpose quanti[sz] cast_back per_(token|channel|block)_cast
            per_token_quant scaled_?fp8 amax_kernel compute_scale"""),
    ),
    KernelNames(
        "gemm", "compute",
        _patterns(r"""nvjet gemm(?!::cuda::utils) splitkreduce cutlass.*(mma|conv|[dw]grad|fprop) xmma gemv epilogue::impl
            cublas.*dot_kernel triton_tem_fused fp8_d?ptp128c matmul ^cijk_ _mm_kernel scaled_mm scudnn convolve winograd
            [dw]grad\w*_engine"""),
    ),
    KernelNames(
        "optimizer", "compute",
        _patterns(r"""fused_?adam fusedoptimizer adamw?(functor|math|_kernel|cuda) lamb(functor|_stage|_kernel) fused_?sgd
            multi_?tensor newton_?schulz"""),
    ),
    KernelNames(
        "norm", "compute",
        _patterns(r"layer_?norm rms_?norm \bln_(fwd|bwd) group_?norm gammabeta rowwise_?moments batch_?norm ::bn_(fw|bw)"),
    ),
    KernelNames(
        "sort", "compute",
        _patterns(r"""sort top_?k devicescan scan_ histogram unique_by_key devicecompact deviceselect bincount cumsum"""),
    ),
    KernelNames("softmax_loss", "compute", _patterns(r"cross_?entropy softmax nll_loss")),
    KernelNames(
        "permute", "compute",
        _patterns(r"permute expand_to_fused reduce_fused_impl fused_mapping moe_align moe_sum clean_and_count"),
    ),
    KernelNames(
        "index", "compute",
        _patterns(r"""gather scatter index_ indexing_ ::index embedding compute_grad_weight partial_?segment
            partials_per_segment segment_offset reverse_indices masked_select nonzero
            bounds_check_indices recat_"""),
    ),
    KernelNames("cat", "compute", _patterns(r"catarray \bcat_ split_with_sizes chunk_cat")),
    KernelNames(
        "copy", "compute",
        _patterns(r"""copy_kernel copy_device _copy_tensor tensor_copy nchwtonhwc nhwctonchw transpose fillfunctor \bfill
            elementwise_kernel_with_index"""),
    ),
    KernelNames("reduction", "compute", _patterns(r"reduce_kernel triton_(red|per)_ devicereduce reduceop segmented_reduce")),
    KernelNames(
        "elementwise", "compute",
        _patterns(r"""elementwise triton_poi triton__\d functor swiglu silu gelu rotary rope dropout foreach bias_act
            act_and_mul distribution pointwise"""),
    ),
    KernelNames(OTHER, "compute", (r"",)),
)  # fmt: skip
"""Every class, in the order in which they are asked."""

GROUP_OF: Final[Mapping[str, Group]] = {each.name: each.group for each in CLASSES}
_COMPILED: Final = tuple((each.name, re.compile("|".join(each.patterns), re.IGNORECASE)) for each in CLASSES)


@lru_cache(maxsize=65536)
def class_of(name: str) -> str:
    """The class of a kernel's or copy's name; OTHER where no pattern is found in it."""
    return next(each for each, pattern in _COMPILED if pattern.search(name))
