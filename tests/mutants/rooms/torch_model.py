"""Faults of the torch model: a wrong formula, gradient, place in a sequence, or something kept that need not be."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

MODEL = "hwprofiles/calibration/model"

TORCH_MODEL = Room(
    "torch-model",
    ("tests/hwprofiles/model",),
    (
        Fault(
            f"{MODEL}/rope.py",
            "return _turned(grad, ctx.cos, -ctx.sin), None, None",
            "return _turned(grad, ctx.cos, ctx.sin), None, None",
            "the backward turns a gradient on, not back",
        ),
        Fault(
            f"{MODEL}/rope.py",
            "return float(stretch**2 / math.sqrt(head_dim))",
            "return float(stretch / math.sqrt(head_dim))",
            "YaRN's temperature acts on queries or keys, not on both",
        ),
        Fault(
            f"{MODEL}/norm.py",
            "inverse * (inner - normed * (inner * normed).mean(-1, keepdim=True))",
            "inverse * inner",
            "a norm's own share of the gradient is missing",
        ),
        Fault(
            f"{MODEL}/blockwise.py",
            "max(0, first - window + 1)",
            "max(0, first - window + 2)",
            "the first query of a block misses the oldest key of its window",
        ),
        Fault(
            f"{MODEL}/blockwise.py",
            "sinks_grad = -(shares * out_grad)",
            "sinks_grad = (shares * out_grad)",
            "a sink learns away from the loss",
        ),
        Fault(
            f"{MODEL}/gqa.py",
            "v = v.contiguous()",
            "v = v",
            "values hold queries and keys as they were before rope",
        ),
        Fault(
            f"{MODEL}/head.py",
            "share = grad / logits.shape[0]",
            "share = grad / logits.shape[1]",
            "the loss's gradient is divided by the vocabulary, not by the tokens",
        ),
        Fault(
            f"{MODEL}/recompute.py",
            "self.made, self.num_asked = (), 0",
            "self.num_asked = 0",
            "what was made again stays in memory for ever",
        ),
        Fault(
            f"{MODEL}/optimizer.py",
            "root = (second / (1 - s.beta2**num_steps))",
            "root = second",
            "the second moment's start at zero is not corrected",
        ),
        Fault(
            f"{MODEL}/initial.py",
            'f"{seed} {name} {first + number}"',
            'f"{seed} {name}"',
            "all experts begin with the same weights",
        ),
        Fault(
            f"{MODEL}/transformer.py",
            "self.embedding(tokens[:, ahead : ahead + length])",
            "self.embedding(tokens[:, :length])",
            "a module that predicts further reads the main model's tokens",
        ),
        Fault(
            f"{MODEL}/mtp.py",
            "self.hidden_norm(hidden), self.embedding_norm(embedded)",
            "hidden, self.embedding_norm(embedded)",
            "the hidden state goes into the projection without its norm",
        ),
        Fault(
            f"{MODEL}/mla.py",
            "rope.softmax_scale(self.rope, self.head_dim)",
            "rope.softmax_scale(self.rope, self.sizes.qk_nope_head_dim)",
            "a head's turned part does not count in the scale",
        ),
        Fault(
            f"{MODEL}/optimizer.py",
            "        increment_version(master)",
            "        pass",
            "FP8 weights of the first step are used for ever on a GPU",
        ),
        Fault(
            f"{MODEL}/config.py",
            'is_normalised=values.get("is_normalised", values["top_k"] != 1)',
            'is_normalised=values.get("is_normalised", True)',
            "the weight of a single expert is always 1, and its router learns nothing",
        ),
        Fault(
            f"{MODEL}/config_form.py",
            "isinstance(value, int) and not isinstance(value, bool) and least <= value",
            "isinstance(value, int) and least <= value",
            "yes is a size of 1",
        ),
        Fault(
            f"{MODEL}/transformer.py",
            "check_range(tokens, config.vocab_size)",
            "check_range(tokens[:, :1], config.vocab_size)",
            "a token outside the vocabulary that is only predicted is torch's own error",
        ),
        Fault(
            f"{MODEL}/router.py",
            "if not bool(biased.sum().isnan()):",
            "if not bool(scores.sum().isnan()):",
            "a bias that is NaN chooses the experts",
        ),
        Fault(
            f"{MODEL}/activation.py",
            "up.clamp(-limit, limit)",
            "up.clamp(max=limit)",
            "what comes beside the gate is limited above alone",
        ),
        Fault(
            f"{MODEL}/gqa.py",
            "sizes.rope_scale**2",
            "sizes.rope_scale",
            "the factor of rotated heads acts on queries or keys, not on both",
        ),
    ),
)
