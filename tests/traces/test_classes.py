"""Names of kernels that libraries have, and their classes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from hwprofiles.traces.classes import CLASSES, OTHER, class_of

NAMES = {
    "gemm": [
        "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_NNT", "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x256_32x3_tn_align8>",
        "void deep_gemm::fp8_gemm_kernel<4096u, 7168u, 128u>", "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_nn",
        "void cutlass::device_kernel<dpsk::grouped_gemm::cuda::fp8_ptp128c::GemmKernel>", "triton_tem_fused_mm_12",
        "void cublasLt::splitKreduce_kernel<32, 16>", "Cijk_Ailk_Bljk_BBS_BH_MT128x128x32",
    ],
    "grouped_gemm": [
        "_ZN7cutlass13device_kernelINS_4gemm6kernel13GemmUniversalINS5_17GroupProblemShapeIN4cute5tupleIJiiiEEEEE",
        "void at::cuda::detail::prepare_grouped_gemm_data<cutlass::bfloat16_t>", "fused_moe_kernel",
        "void deep_gemm::sm90_m_grouped_fp8_gemm_contiguous", "m_grouped_fp8_ptp128c",
        "void cutlass::device_kernel<dpsk::grouped_gemm::cuda::m_grouped_fp8_ptp128c::GemmKernel>",
    ],
    "attention_fwd": [
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_cga1x1x1_kernel0_0",
        "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>",
        "void cutlass::device_kernel<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwd>>",
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t>::Params)",
    ],
    "attention_bwd": [
        "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_26_64x64x128_1x4x1",
        "flash_bwd_dq_dk_dv_loop_seqk_parallel",
        "void cudnn::fusion::compute_dot_do_o_specialized<true, 128>", "void cudnn::fusion::fmha_reduce_head<true>",
        "fmha_cutlassB_bf16_aligned_128x64_k128_sm80", "void cutlass::device_kernel<flash::FlashAttnBwdSm90<X>>",
    ],
    "optimizer": [
        "void at::native::multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata<4>, FusedAdamMathFunctor<float>>",
        "void multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctorMaster<float>>",
    ],
    "quantise": ["per_token_cast_to_fp8_with_channels", "void transformer_engine::cast_transpose_fused_kernel<>"],
    "norm": ["void at::native::vectorized_layer_norm_kernel<float>", "ln_fwd", "_rms_norm_fwd_kernel"],
    "all_gather": ["ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)"],
    "reduce_scatter": ["ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"],
    "all_reduce": ["ncclDevKernel_AllReduce_Sum_bf16_TREE_LL", "void sglang::cross_device_reduce_2stage<__half, 8>"],
    "send_receive": ["ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "ncclDevKernel_Broadcast_RING_LL"],
    "dispatch_combine": [
        "void deep_ep::internode::dispatch<false, 8, true>", "void deep_ep::intranode::combine<__nv_bfloat16, 8>",
        "nvshmemi_proxy_quiet_entrypoint",
    ],
    "memcpy_host": ["Memcpy DtoH (Device -> Pinned)", "Memcpy HtoD (Pageable -> Device)"],
    "memcpy_device": ["Memcpy DtoD (Device -> Device)"],
    "memcpy_peer": ["Memcpy PtoP (Device -> Device)"],
    "memset": ["Memset (Device)"],
    "sort": [
        "void at_cuda_detail::cub::detail::radix_sort::DeviceRadixSortOnesweepKernel<X>",
        "void at::native::sbtopk::gatherTopK<float>",
    ],
    "softmax_loss": [
        "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float>",
        "nll_loss_forward_reduce_cuda_kernel_2d",
    ],
    "index": [
        "void (anonymous namespace)::indexing_backward_kernel<c10::BFloat16, 4>",
        "void at::native::vectorized_gather_kernel<16, long>(char*, char*, long*, int)",
    ],
    "cat": ["void at::native::(anonymous namespace)::CatArrayBatchedCopy<OpaqueType<2u>>"],
    "copy": [
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)>",
        "void at::native::vectorized_elementwise_kernel<8, at::native::FillFunctor<c10::BFloat16>>",
    ],
    "reduction": ["void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, MeanOps>>", "triton_red_fused_sum_3"],
    "elementwise": [
        "void at::native::elementwise_kernel<128, 4, gpu_kernel_impl_nocast<masked_fill_kernel(x)::{lambda()#1}>>",
        "triton_poi_fused_silu_mul_7", "swiglu_forward_backward", "rotary_kernel",
    ],
    OTHER: ["my_own_kernel"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [(name, key) for key, names in NAMES.items() for name in names])
def test_names_have_their_class(name: str, expected: str) -> None:
    assert class_of(name) == expected


def test_every_class_has_a_name_above_or_is_of_one_library() -> None:
    assert {each.name for each in CLASSES} - NAMES.keys() == {"permute"}
    assert class_of("expand_to_fused") == "permute"


def test_patterns_are_valid_and_only_other_takes_all() -> None:
    for each in CLASSES[:-1]:
        assert not any(re.compile(pattern).search("") for pattern in each.patterns)
    assert CLASSES[-1].name == OTHER


def test_kernels_of_a_published_training_profile(reference: Path) -> None:
    """All but a name that stands for many have the class that the profile's phases speak of."""
    with (reference / "profile_train_kernels.csv").open() as file:
        names = {row["kernel_family"] for row in csv.DictReader(file)}
    assert [name for name in names if class_of(name) == OTHER] == []
