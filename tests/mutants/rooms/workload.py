"""Faults of the counting: FLOP and bytes of operators, parameters, what is kept between the passes."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "simulator/workload"

WORKLOAD = Room(
    "workload",
    ("tests/workload", "tests/assembly", "tests/laws"),
    (
        Fault(
            f"{ROOT}/counting.py",
            "2 * self.heads * (3 * self.head_dim_qk + 2 * self.head_dim_v)",
            "2 * self.heads * (2 * self.head_dim_qk + 2 * self.head_dim_v)",
            "attention's backward does not compute the scores again",
        ),
        Fault(
            f"{ROOT}/counting.py",
            "2 * self.heads * (3 * self.head_dim_qk + 2 * self.head_dim_v)",
            "2 * self.heads * (2 * self.head_dim_qk + 3 * self.head_dim_v)",
            "attention's backward has three GEMMs of the values' width",
        ),
        Fault(
            f"{ROOT}/counting.py",
            "flop, model_flop = pairs * core.backward_flop_per_pair, 2 * forward",
            "flop, model_flop = pairs * core.backward_flop_per_pair, 2.5 * forward",
            "scores computed again count as the model's work",
        ),
        Fault(
            f"{ROOT}/counting.py",
            "return seq * seq * (0.5 if causal else 1.0)",
            "return seq * seq * 0.5",
            "attention without a mask does half of the square",
        ),
        Fault(
            f"{ROOT}/counting.py",
            '"attention_bwd", inputs + 2 * output, inputs, 3',
            '"attention_bwd", inputs + output, inputs, 3',
            "attention's backward reads the output or its gradient, not both",
        ),
        Fault(
            f"{ROOT}/counting.py",
            "core.kv_heads * (core.head_dim_qk + core.head_dim_v)",
            "core.heads * (core.head_dim_qk + core.head_dim_v)",
            "every query head reads keys of its own",
        ),
        Fault(
            f"{ROOT}/counting.py",
            "more = 4 * one.m * one.n * (groups - 1)",
            "more = 4 * one.m * one.n",
            "weight gradients of two experts are written, whatever their number",
        ),
        Fault(
            f"{ROOT}/counting.py",
            "read += (groups - 1) * operand_bytes(one.dtype, one.n * one.k)",
            "read += 0",
            "one expert's weights are read for all",
        ),
        Fault(
            f"{ROOT}/layers/experts.py",
            "real = r.tokens * m.top_k / padded_rows(m, r)",
            "real = 1.0",
            "padding of the experts' rows counts as the model's work",
        ),
        Fault(
            f"{ROOT}/layers/experts.py",
            'c.wgrad("router_wgrad", "bf16", t, m.num_routed_experts, hidden, phase="I")',
            'c.wgrad("router_wgrad", "bf16", t, m.num_routed_experts, hidden)',
            "the router's weight gradient says that it is deferred",
        ),
        Fault(
            f"{ROOT}/layers/mla.py",
            "a.num_heads, a.num_heads, a.qk_nope_head_dim + a.qk_rope_head_dim, a.v_head_dim",
            "a.num_heads, a.num_heads, a.qk_nope_head_dim, a.v_head_dim",
            "the core leaves the rope part of queries and keys out",
        ),
        Fault(
            f"{ROOT}/layers/mla.py",
            "return a.q_lora_rank or a.num_heads",
            "return a.num_heads",
            "queries are projected directly beside their low rank",
        ),
        Fault(
            f"{ROOT}/layers/mla.py",
            'block.operand(f"{name}_norm", s * rank, recomputed=norms)',
            'block.keep(f"{name}_norm", "bf16", s * rank, recomputed=norms)',
            "the latents' norms do not wait for the up-projections' weight gradients",
        ),
        Fault(
            f"{ROOT}/layers/mla.py",
            'block.keep(name, "bf16", t * heads * width, recomputed=up)',
            "block.operand(name, t * heads * width, recomputed=up)",
            "queries, keys and values wait for W, which does not read them",
        ),
        Fault(
            f"{ROOT}/layers/mla.py",
            '    if a.q_lora_rank:\n        block.gradient("attn.q_up_grad", t * heads * qk)\n',
            "",
            "the gradient of the queries does not wait for W",
        ),
        Fault(
            f"{ROOT}/layers/gqa.py",
            'block.gradient("attn.qkv_grad", t * (q_width + 2 * kv_width))',
            'block.gradient("attn.qkv_grad", t * (q_width + kv_width))',
            "the values' gradient does not wait for W",
        ),
        Fault(
            f"{ROOT}/layers/gqa.py",
            'block.keep("attn.v", "bf16", t * kv_width)',
            'block.operand("attn.v", t * kv_width)',
            "the values wait for W, which does not read them",
        ),
        Fault(
            f"{ROOT}/layers/attention.py",
            'block.operand("attn.norm_out", s * h, recomputed="rmsnorm" in r.recompute)',
            'block.keep("attn.norm_out", "bf16", s * h, recomputed="rmsnorm" in r.recompute)',
            "the projections' input is gone before their weight gradients",
        ),
        Fault(
            f"{ROOT}/layers/attention.py",
            'block.operand("attn.o_input", t * out, recomputed=True)',
            'block.keep("attn.o_input", "bf16", t * out, recomputed=True)',
            "an attention output saved in another format leaves no operand for the output projection's weight gradient",
        ),
        Fault(
            f"{ROOT}/layers/attention.py",
            '    block.gradient("attn.o_grad", s * h)\n',
            "",
            "the gradient of the attention's output projection does not wait for W",
        ),
        Fault(
            f"{ROOT}/saved.py",
            'self.gradient(f"{owner}.up_grad", 2 * rows * f)',
            'self.gradient(f"{owner}.up_grad", rows * f)',
            "the gate's gradient does not wait for W",
        ),
        Fault(
            f"{ROOT}/saved.py",
            'deferred=(*block.deferred, *(tensor for tensor in again if tensor.until == "W")),',
            "deferred=block.deferred,",
            "an operand computed again in I does not wait for W",
        ),
        Fault(
            f"{ROOT}/saved.py",
            "            self.forward.append(tensor)\n            self.deferred.append(tensor)\n",
            "            self.forward.append(tensor)\n            self.backward.append(tensor)\n",
            "a recomputed operand is gone when I ends",
        ),
        Fault(
            f"{ROOT}/layers/moe.py",
            'block.operand("expert.input", rows * h)',
            'block.keep("expert.input", r.act_dtype, rows * h)',
            "the experts' input is gone before their weight gradients",
        ),
        Fault(
            f"{ROOT}/layers/moe.py",
            "shared, active = m.num_shared_experts * expert, m.top_k * expert",
            "shared, active = m.num_shared_experts * expert, (m.top_k - 1) * expert",
            "a token passes one expert fewer",
        ),
        Fault(
            f"{ROOT}/layers/mtp.py",
            "gemm=layer.gemm + own.gemm + HEAD.params(model).gemm",
            "gemm=layer.gemm + own.gemm",
            "an MTP module does not pass the head",
        ),
        Fault(
            f"{ROOT}/layers/head.py",
            "0 if model.tied_embeddings else matrix",
            "matrix",
            "a tied head is counted beside its embedding",
        ),
        Fault(
            f"{ROOT}/layers/part.py",
            "(*ops, *own) if name in _FORWARD else (*own, *ops)",
            "(*ops, *own)",
            "the embedding's gradient runs before its layer's",
        ),
        Fault(
            f"{ROOT}/model_counts.py",
            "causal=gemm_flop + attention_flop / 2",
            "causal=gemm_flop + attention_flop",
            "a causal mask saves nothing",
        ),
        Fault(
            f"{ROOT}/model_state.py",
            "len(used - held)",
            "len(used)",
            "a rank copies the vocabulary matrices that it has",
        ),
        Fault(
            f"{ROOT}/stages.py",
            "sum(p.expert // recipe.ep for p in counts)",
            "sum(p.expert for p in counts)",
            "every rank holds all experts",
        ),
        Fault(
            f"{ROOT}/counting.py",
            '"rmsnorm_bwd", "I", 4 * t * h, 2 * t * h, kernels=3',
            '"rmsnorm_bwd", "I", 2 * t * h, 2 * t * h, kernels=3',
            "a norm's backward does not read its input",
        ),
        Fault(
            f"{ROOT}/counting.py",
            '"rmsnorm_bwd", "I", 4 * t * h, 2 * t * h, kernels=3',
            '"rmsnorm_bwd", "I", 4 * t * h, 2 * t * h',
            "a norm's backward is one kernel",
        ),
        Fault(
            f"{ROOT}/counting.py",
            '"quantise", phase, 2 * t * h, fp8_bytes(t * h), kernels=2',
            '"quantise", phase, 2 * t * h, fp8_bytes(t * h)',
            "a cast does not transpose its scales",
        ),
        Fault(
            f"{ROOT}/counting.py",
            '"add", phase, 2 * inputs * elements, 2 * elements)',
            '"add", phase, 2 * elements, 2 * elements)',
            "a sum reads one input",
        ),
        Fault(
            f"{ROOT}/counted.py",
            'dispatch_fp8=scenario.moe.dispatch_dtype == "fp8"',
            "dispatch_fp8=rule.is_fp8",
            "the dispatch's format is the recipe's",
        ),
        Fault(
            f"{ROOT}/counted.py",
            'save_attn_out_e5m6=saved.attn_out == "e5m6"',
            'save_attn_out_e5m6=saved.swiglu_in == "e5m6"',
            "attention outputs are saved as SwiGLU inputs are",
        ),
        Fault(
            f"{ROOT}/counted.py",
            'save_swiglu_fp8=saved.swiglu_in == "fp8"',
            "save_swiglu_fp8=rule.is_fp8",
            "SwiGLU inputs are saved in the recipe's format",
        ),
        Fault(
            f"{ROOT}/counted.py",
            "nodes_per_token=routing.nodes_per_token",
            "nodes_per_token=routing.ranks_per_token",
            "a token reaches as many nodes as ranks",
        ),
        Fault(
            f"{ROOT}/counted.py",
            "row_padding=EXPERT_ROW_PADDING if rule.is_fp8 else 1",
            "row_padding=EXPERT_ROW_PADDING",
            "BF16 experts are padded too",
        ),
        Fault(
            f"{ROOT}/counted.py",
            "key=flop.__getitem__)[len(flop) // 2]",
            "key=flop.__getitem__)[-1]",
            "even stages are the largest one",
        ),
        Fault(
            f"{ROOT}/counted.py",
            "build_workload(derived.padded_model(scenario)",
            "build_workload(scenario.model",
            "the head computes without the vocabulary's padding",
        ),
        Fault(
            f"{ROOT}/recipe.py",
            "EXPERT_ROW_PADDING: Final = 128",
            "EXPERT_ROW_PADDING: Final = 64",
            "rows of experts are padded to 64",
        ),
        Fault(
            f"{ROOT}/stages.py",
            "2 * recipe.tokens * model.hidden_size",
            "4 * recipe.tokens * model.hidden_size",
            "stages exchange FP32",
        ),
    ),
)
