"""Faults of packed documents and padding."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

PACKING = Room(
    "packing",
    (
        "tests/workload/test_head.py",
        "tests/workload/test_context_parallel.py",
        "tests/workload/test_memory_bound_operators.py",
        "tests/hwprofiles/test_attention_formula.py",
        "tests/workload/test_counted.py",
        "tests/workload/test_documents.py",
        "tests/workload/test_pairs.py",
        "tests/laws/test_packing.py",
        "tests/validation/test_packed_attention.py",
    ),
    (
        Fault(
            "simulator/workload/documents.py",
            "documents.seq * moments[0] - moments[1] + 2 * survival",
            "documents.seq * moments[0] - moments[1] + survival",
            "documents are cut at one end of a sequence only",
        ),
        Fault(
            "simulator/workload/document_load.py",
            "portable.exp(centre + sigma**2 + sigma *",
            "portable.exp(centre + sigma *",
            "the document in which a stream is cut is as long as any",
        ),
        Fault(
            "simulator/workload/document_load.py",
            "self.bank[:, picked].mean(axis=3).max(axis=3)",
            "self.bank[:, picked].mean(axis=3).mean(axis=3)",
            "the longest rank of a sequence that is cut holds nobody",
        ),
        Fault(
            "simulator/workload/pairs.py",
            "for i in (rank, 2 * cp - 1 - rank))",
            "for i in (rank, cp + rank))",
            "the second piece of a rank is not the mirrored one",
        ),
        Fault(
            "simulator/workload/layers/packed.py",
            "scale = mean_pairs(documents, window) / (2 * cp) / mean_pairs(chunk, window)",
            "scale = 1.0",
            "a chunk of a cut sequence sees no keys before it",
        ),
        Fault(
            "simulator/workload/layers/context_parallel.py",
            "for rank in (range(cp) if window is not None else (0,))",
            "for rank in (0,)",
            "the rank with the first queries of a window stands for all",
        ),
        Fault(
            "simulator/step/draws.py",
            "rows[int(window is not None)] *= found",
            "rows[window is not None] *= found",
            "cores take their mean whatever was drawn",
        ),
        Fault(
            "simulator/assembly/expand.py",
            "(kinds * self.ranks + ranks) * self.micro_batches + micro_batches",
            "(kinds * self.ranks + ranks) * self.micro_batches",
            "every micro-batch has the first one's sequences",
        ),
        Fault(
            "simulator/workload/layers/packed.py",
            "mean_pairs(documents, window), True, groups(documents, window))",
            "mean_pairs(documents), True, groups(documents))",
            "a window changes nothing inside documents",
        ),
        Fault(
            "hwprofiles/kernels/attention.py",
            "own = each.number * shape.heads * math.ceil(_sides(shape, *each.sides)[0] / limits.rows) / limits.num_sms",
            "own = each.number * shape.heads * math.ceil(shape.seq / limits.rows) / limits.num_sms",
            "a document has the blocks of the whole sequence",
        ),
        Fault(
            "simulator/run/phases.py",
            "useful, full_batch = useful_tokens(scenario), ",
            "useful, full_batch = scenario.training.seq_len, ",
            "padding counts as tokens of the run",
        ),
        Fault(
            "simulator/workload/layers/head.py",
            "tokens = min(r.head_chunk, t - first)",
            "tokens = r.head_chunk",
            "the last chunk of logits is a whole one",
        ),
        Fault(
            "simulator/workload/layers/head.py",
            '    block.keep("head.input_grad", "bf16", r.tokens * hidden)\n',
            "",
            "the gradient that chunks leave is kept nowhere",
        ),
        Fault(
            "simulator/workload/layers/moe.py",
            "bytes_per_token=r.returned_bytes(hidden), is_scaled",
            "bytes_per_token=2 * hidden, is_scaled",
            "a combine in 8 bits sends as many bytes",
        ),
        Fault(
            "simulator/scenario/derived.py",
            "    if given is not None:\n        return given\n",
            "",
            "a given row padding is ignored",
        ),
        Fault(
            "validation/packed_attention.py",
            "sum(each * each / 2.0 for each in documents)",
            "tokens * tokens / 2.0",
            "packed documents are predicted as if they saw one another",
        ),
    ),
)
