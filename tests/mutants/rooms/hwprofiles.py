"""Faults of units, kernel formulas, anchoring, transfer, ages and bounds."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

HWPROFILES = Room(
    "hwprofiles",
    ("tests/hwprofiles",),
    (
        Fault(
            "hwprofiles/units.py",
            '("bit", Decimal(1) / BITS_PER_BYTE)',
            '("bit", Decimal(1))',
            "a bit spelt out is a byte",
        ),
        Fault(
            "hwprofiles/units.py",
            '_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30,',
            '_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 29,',
            "a GiB is half as large",
        ),
        Fault(
            "hwprofiles/units.py",
            'units[f"{prefix}Wh"] = ("j", factor * Decimal(3600))',
            'units[f"{prefix}Wh"] = ("j", factor * Decimal(60))',
            "a watt-hour is a watt-minute",
        ),
        Fault(
            "hwprofiles/kernels/gemm.py",
            "np.ceil(tiles / limits.free_sms) * one_tile",
            "(tiles / limits.free_sms) * one_tile",
            "waves of tiles are not whole",
        ),
        Fault(
            "hwprofiles/kernels/gemm.py",
            "peak_per_sm = limits.peak_flop_per_s / limits.num_sms",
            "peak_per_sm = limits.peak_flop_per_s / limits.free_sms",
            "an SM is faster where others are held",
        ),
        Fault(
            "hwprofiles/kernels/gemm.py",
            "moved = size.groups * ((m * k + n * k) * in_bytes + m * n * moved_bytes)",
            "moved = size.groups * ((m * k + n * k) * in_bytes)",
            "the result is not written",
        ),
        Fault(
            "hwprofiles/kernels/gemm.py",
            "return self.m / self.groups, float(self.n), float(self.k)",
            "return float(self.m), float(self.n), float(self.k)",
            "each group multiplies all rows",
        ),
        Fault(
            "hwprofiles/kernels/gemm.py",
            'return a.m == b.m if a.variant == "wgrad" else a.k == b.k',
            "return a.k == b.k",
            "rows of a weight gradient are one line by the wrong dimension",
        ),
        Fault(
            "hwprofiles/kernels/attention.py",
            "flop * (1.0 + self.c_tokens / seq) / (self.rate_share * peak)",
            "flop / (self.rate_share * peak)",
            "short sequences compute attention at the full rate",
        ),
        Fault(
            "hwprofiles/kernels/attention.py",
            "spread.low * share.value / share.high, spread.high * share.value / share.low",
            "spread.low * share.value / share.low, spread.high * share.value / share.high",
            "the ends of the attention rate swapped",
        ),
        Fault(
            "hwprofiles/kernels/memory_bound.py",
            "floor + shape.bytes / (share * gpu.hbm_bytes_per_s)",
            "shape.bytes / (share * gpu.hbm_bytes_per_s)",
            "a small kernel has no launch",
        ),
        Fault(
            "hwprofiles/kernels/memory_bound.py",
            ").value * shape.num_kernels",
            ").value",
            "several kernels have one launch",
        ),
        Fault(
            "hwprofiles/kernels/table.py",
            'share = comm_sms / need(stack, "overlap.comm_sms").value',
            "share = 1.0",
            "any number of held SMs slows as many as were measured",
        ),
        Fault(
            "hwprofiles/kernels/table.py",
            "changed = cost.scaled(Range(1.0 / asked.value, 1.0 / asked.high, 1.0 / asked.low))",
            "changed = cost.scaled(Range(asked.value, asked.low, asked.high))",
            "beside communication kernels are faster",
        ),
        Fault(
            "hwprofiles/kernels/table.py",
            'cost.scaled(scale), basis="transferred"',
            'cost, basis="transferred"',
            "kernels of a newer release stand for those of the stack",
        ),
        Fault(
            "hwprofiles/kernels/table.py",
            "if shape.flop and abs(shape.flop / shape.attention_flop - 1.0) > FLOP_TOLERANCE:",
            "if shape.flop and shape.flop / shape.attention_flop - 1.0 > FLOP_TOLERANCE:",
            "a row of full attention serves a window of it",
        ),
        Fault(
            "hwprofiles/kernels/anchoring.py",
            "prior_weight = 0.0 if unanchored_s is None else FAR**-4",
            "prior_weight = 0.0",
            "rows of quite another size decide alone",
        ),
        Fault(
            "hwprofiles/kernels/anchoring.py",
            "(0.0 if inside else 1.0)\n",
            "0.0\n",
            "outside the measured sizes is no more doubtful",
        ),
        Fault(
            "hwprofiles/kernels/anchoring.py",
            "seconds = min(max(at * math.exp(r0 + weight * (r1 - r0)), t0), t1)",
            "seconds = at * math.exp(r0 + weight * (r1 - r0))",
            "more tokens may be faster between two rows",
        ),
        Fault(
            "hwprofiles/transfer.py",
            "(0.5 if steps > 0 else 0.0)",
            "(0.5 if steps < 0 else 0.0)",
            "of two equally near families the newer one serves",
        ),
        Fault(
            "hwprofiles/transfer.py",
            "low, high = low * table.other_family_residual[1], high * table.other_family_residual[2]",
            "low, high = low, high",
            "GEMMs of another family are as certain as the own",
        ),
        Fault(
            "hwprofiles/transfer.py",
            'target.peak_flop_per_s["bf16"] / target.num_sms if name in PER_FLOP',
            'target.peak_flop_per_s["bf16"] if name in PER_FLOP',
            "one SM fetches for all",
        ),
        Fault("hwprofiles/age.py", "months - (self.at.day < first.day)", "months", "a month counts before it is over"),
        Fault(
            "hwprofiles/assumption_units.py",
            "return number in (self.low, self.high) if self.only_ends else",
            "return",
            "a switch may be half on",
        ),
    ),
)
