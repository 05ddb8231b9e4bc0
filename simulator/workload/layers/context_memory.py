"""What the attention core of ranks that share sequences keeps and holds beside what one rank's would (context_parallel.py).

a2a         what heads of keys are sent to several ranks is kept by each; tensors before they are sent, beside those that came
all_gather  all tokens' keys and values, in the backward their gradients too
ring        as TransformerEngine allocates them: forward a buffer and an output a step until all are merged; backward two
            buffers of keys, values and their gradients, and one step's gradients
"""

from __future__ import annotations

from simulator.workload.counting import AttentionCore
from simulator.workload.saved import ActivationRecipe, BlockBuilder, bf16


def projects_again(r: ActivationRecipe) -> bool:
    """Whether keys and values are projected up from latents again in the backward: those of other ranks are not kept."""
    return r.cp > 1 and r.cp_kv == "latent" and r.cp_comm != "a2a"


def hold_exchanged(block: BlockBuilder, core: AttentionCore, latent: int) -> None:
    """Notes in the block what the recipe's way of context parallelism needs more. core: of the rank's heads, cp above 1.

    latent: as in `context_parallel.run_core`.
    """
    r, run = block.recipe, core.as_run
    q, out = r.tokens * run.heads * run.head_dim_qk, r.tokens * run.heads * run.head_dim_v
    kv = r.tokens * run.kv_heads * (run.head_dim_qk + run.head_dim_v)
    sent = r.tokens * latent if latent else kv
    if latent:
        block.forward.append(bf16("attn.latent_gathered", r.cp * sent))
        block.backward.append(bf16("attn.latent_gathered", 2 * r.cp * sent))
    if r.cp_comm == "a2a":
        more = kv * (r.cp // run.kv_heads - 1) if run.kv_heads < r.cp and not latent else 0
        if more:
            block.keep("attn.kv_copies", "bf16", more)
        block.forward.append(bf16("attn.exchange", q + (0 if latent else kv + more)))
        block.backward.append(bf16("attn.exchange", q + (0 if latent else kv + more)))
    elif r.cp_comm == "all_gather":
        block.forward.append(bf16("attn.kv_gathered", r.cp * kv))
        block.backward.append(bf16("attn.kv_gathered", 2 * r.cp * kv))
    else:
        # All queries in the first step and in every one with half of the keys, else half of them.
        outputs = out * (1 + r.cp // 2) + out * (r.cp - 1 - r.cp // 2) // 2
        block.forward += [bf16("attn.ring_buffers", r.cp * sent), bf16("attn.ring_outputs", outputs)]
        block.backward += [bf16("attn.ring_buffers", 4 * sent), bf16("attn.ring_gradients", q + sent)]
