"""Faults of offload: bytes, what copies wait for, the host's rates, and the memory that is left."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

OFFLOAD = Room(
    "offload",
    ("tests/laws/test_offload.py",),
    (
        Fault(
            "simulator/costs/host.py",
            "return Host(node.host_link_name, min(link, share), share)",
            "return Host(node.host_link_name, link, share)",
            "copies are faster than the host's memory",
        ),
        Fault(
            "simulator/assembly/copies.py",
            "edges.append((int(start[i] + back[i]), left[stage, micro_batch]))",
            "pass",
            "what is not on the host yet comes back",
        ),
        Fault(
            "simulator/assembly/pair.py",
            "preds = [*self.ready, *self.params(idx), *self.copied[-2:-1]]",
            "preds = [*self.ready, *self.params(idx)]",
            "layers compute on while any number of copies wait",
        ),
        Fault(
            "simulator/assembly/pair.py",
            "self.progress.gathered.setdefault(copy.unit, []).extend(done)",
            "pass",
            "a backward starts before its activations are back",
        ),
        Fault(
            "simulator/step/tail.py",
            "yield lasting(host, max(0.0, host.seconds - segment.seconds))",
            "yield host",
            "the GPU's update waits for the host's",
        ),
        Fault(
            "simulator/workload/offload.py",
            'deferred=(*block.deferred, *(tensor for tensor in gone if tensor.until == "W")),',
            "deferred=block.deferred,",
            "what waits for weight gradients is on the host meanwhile",
        ),
        Fault(
            "simulator/workload/model_state.py",
            "tensor_bytes(dtype, count - int(count * r.host_frac))",
            "tensor_bytes(dtype, count)",
            "the optimizer's state stays on the GPU",
        ),
        Fault(
            "simulator/step/offload.py",
            "units[each.last], each.num_bytes) for each in moved[::-1])",
            "units[each.first], each.num_bytes) for each in moved[::-1])",
            "layers recomputed together come back before the first of them",
        ),
        Fault(
            "simulator/assembly/copies.py",
            "edges.append((int(start[now] + first[now]), int(start[before] + out[before])))",
            "pass",
            "a rank runs any number of actions ahead of its copies",
        ),
        Fault(
            "simulator/costs/host.py",
            "share = memory * memory_frac.value / min(node.gpus_per_node, num_gpus)",
            "share = memory * memory_frac.value / num_gpus",
            "all GPUs of the cluster share one host",
        ),
    ),
)
