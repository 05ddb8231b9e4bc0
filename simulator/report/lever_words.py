"""What assumptions and limits are in plain words, and what somebody who runs the training can do about a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simulator.report.timeline_words import category_words

ASSUMPTION_WORDS: Final[Mapping[str, str]] = {
    "routing_concentration": "how unevenly one sequence's tokens spread over the experts",
    "expert_popularity_cv": "how uneven the experts' popularity is without balancing",
    "expert_popularity_drift_cv": "how fast the experts' popularity drifts while the router learns",
    "bias_update_rate": "how hard the balancing rule corrects a load",
    "aux_loss_pressure": "how strongly an auxiliary loss balances the experts",
    "host_link_frac": "how much of its rate the link to the host reaches",
    "host_memory_frac": "how much of its rate the host's memory reaches",
    "gpu_speed_cv": "how much GPUs of one kind differ in speed",
    "lone_chunk_full_sms": "whether kernels without communication beside them use the whole GPU",
    "collective_sms": "how much of a GPU a data-parallel collective takes",
    "collective_stretch": "how much longer collectives take beside kernels",
    "tp_overlap_chunks": "in how many pieces tensor-parallel collectives overlap",
    "tp_overlap_sms": "how much of a GPU a GEMM leaves to the reduction of what it makes",
    "pp_boundary_wait": "whether a pipeline transfer holds up the next piece of work",
    "memory_bf16_weight_copy_frac": "how many BF16 originals of FP8 weights stay in memory",
    "memory_expert_rows_frac": "how many rows the fullest rank's experts keep",
    "memory_expert_rows_peak_frac": "how many rows the fullest micro-batch brings",
    "memory_dispatch_nvl_tokens": "slots of a dispatch queue for a GPU of the node",
    "memory_dispatch_rdma_tokens": "slots of a dispatch queue for another node",
    "memory_dispatch_slot_metadata_bytes": "what a slot holds beside its token",
    "memory_dispatch_granularity_bytes": "in which steps the dispatch buffers grow",
    "memory_communicator_bytes": "memory of a communicator of the collective library",
    "memory_context_bytes": "memory of the CUDA context and its kernels",
    "memory_fragmentation_frac": "memory that the allocator holds and cannot use",
    "memory_graph_node_bytes": "the driver's memory for a kernel in a captured graph",
    "memory_graph_pool_frac": "what the pool of captured graphs holds and cannot use",
    "memory_graph_rows_frac": "how many rows captured experts have room to keep",
    "memory_graph_budget_frac": "how many rows captured experts have room to work on",
    "memory_real_over_estimate": "how far measured peaks of memory lay off predicted ones",
    "host_speed": "how long the host takes to issue a call",
    "host_other_s": "what the host does between two steps",
    "notify_floor_s": "the exchange of counts before a dispatch",
    "dispatch_layout_s": "the laying out of tokens before a dispatch",
    "long_run_slowdown": "how much slower kernels are in hours of training than in the short run that was measured",
    "gemm.fp8-block.wgrad.scale": "how much slower the weight gradients' kernels were than those measured",
    "sft_sample_tokens": "how long the instances of fine-tuning are",
    "sft_sample_cv": "how much the instances of fine-tuning differ in length",
    "rl_steps": "how many updates reinforcement learning takes",
    "rl_prompts_per_step": "how many prompts an update has",
    "rl_samples_per_prompt": "how many answers a prompt has",
    "rl_steps_per_rollout": "for how many updates answers are generated at once",
    "rl_prompt_tokens": "how long prompts are",
    "rl_response_tokens": "how long answers are",
    "rl_response_cv": "how much answers differ in length",
    "rl_max_response_tokens": "where answers are cut off",
    "rl_model_reward_share": "how many answers a reward model reads",
    "rl_rule_reward_s": "how long checks by rules keep the GPUs waiting",
    "rl_switch_s": "how long it takes from training to generating and back",
    "forward_share": "how much of a step is its forward pass",
    "rollout_memory_frac": "how much memory weights and cache have in generating",
    "rollout_cache_bandwidth_frac": "how fast attention reads the cache",
    "rollout_attention_flop_frac": "how fast attention over the cache computes",
    "rollout_link_frac": "how much of its rate a link reaches with few rows",
    "rollout_exchange_s": "how long an exchange of few rows takes at least",
    "rollout_engine_s": "what an engine does between two decode steps",
    "rollout_expert_rows_frac": "how uneven experts are loaded in generating",
    "rollout_mtp_acceptance": "how often a drafted token is taken",
}
"""Key of an assumption → what it is."""

RANGE_WORDS: Final[Mapping[str, str]] = {
    "run.unrecorded": "how far runs of the same inputs are apart",
    "software.unknown": "which software runs it, since none is stated",
    "power.idle_share": "what a waiting chip draws",
    "power.beta": "how power follows speed",
    "power.energy": "what a FLOP takes of energy",
    "power.warm_speed": "how much slower a chip at work is than in its first launches",
    "power.window_s": "how far back the power limit looks",
    "power.loop_share": "how far the benchmarks were slowed already",
}
"""What a step's interval is made of beside categories of time and assumptions → what it is."""

ACTIONS: Final[Mapping[str, str]] = {
    "gemm": "a lower precision, a faster GPU or less recompute shortens it",
    "expert_gemm": "larger micro-batches fill the experts better; a lower precision or a faster GPU shortens it",
    "attention": "a faster attention kernel or shorter sequences shorten it",
    "memory_bound": "fused kernels, less recompute or more memory bandwidth shorten it",
    "host": "larger micro-batches, captured graphs (host.cuda_graph) or fewer and fused operators shorten it",
    "other": "garbage collected at one time on all ranks, and logging less often, shorten it",
    "kernel_gaps": "fewer and longer kernels leave fewer gaps",
    "all_to_all": "computing beside it (a schedule with _ep_overlap, parallel.overlap.ep), fewer nodes a token "
    "(moe.max_nodes_per_token), smaller expert groups or a faster fabric shorten it",
    "cp_collectives": "another parallel.cp_comm, or a smaller parallel.cp, takes it away",
    "tp_collectives": "a smaller parallel.tp, or parallel.overlap.tp, takes it away",
    "pp_transfer": "fewer stages, or transfers beside the computing (parallel.overlap.pp), hide it",
    "data_parallel": "overlap with the backward pass, or sums in fewer bytes (data_parallel), hides it",
    "power_limit": "a higher power cap (device.power_cap_w), a lower precision or less recompute leaves the chip faster",
    "interference": "collectives outside the busy part of the step avoid it",
    "link_sharing": "messages that meet on a link less often, or a faster link, avoid it",
    "offload": "a smaller share on the host (offload), or copies beside more computing, shorten it",
    "optimizer": "sharding over more ranks shortens it",
    "document_spread": "sequences packed to equal sums of squared lengths, or larger micro-batches, shorten the waits",
    "speed_spread": "leaving out the slowest GPUs shortens every step",
    "expert_imbalance": "better balanced experts, or fewer ranks in an expert group, shorten the waits",
}
"""What holds a step back → what can be done about it."""


def assumption_words(key: str) -> str:
    """What an assumption is; its key where nobody has said it in words."""
    return ASSUMPTION_WORDS.get(key, key.replace("_", " "))


def range_words(what: str) -> str:
    """What a part of a step's interval is (`RangePart.what`), an assumption with its key, by which it can be narrowed."""
    if what in ASSUMPTION_WORDS:
        return f"{ASSUMPTION_WORDS[what]} ({what})"
    return RANGE_WORDS.get(what) or category_words(what)
