"""Seconds of an operator: its kernel on the stack, beside communication or alone, at the clock that training sustains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.parameters import need
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.kernels.table import beside_communication, kernel_seconds
from hwprofiles.schema import Assumption, Gpu, Stack
from simulator.costs.cost import weakest
from simulator.scenario.scenario import Scenario
from simulator.step.hardware import Hardware
from simulator.workload.op import Op


@dataclass(frozen=True)
class KernelPrices:
    """Seconds of operators on one stack.

    shared_sms: SMs that communication kernels hold beside an overlapped operator; None where nothing takes SMs (nothing is
    dispatched, or the mechanism is off). full_grid_frac: share of the kernels of a chunk without communication beside it
    that use all SMs (0 to 1; 1 where nothing takes SMs); the others keep the smaller grid. to_sustained: the stack's rows are
    of a short run and the scenario's clock is that of hours of training. gap_s: idle time of a stream between two kernels.
    collective_sms: SMs that a ring collective holds, 0 where it takes none from kernels.
    """

    stack: Stack
    gpu: Gpu
    shared_sms: int | None
    full_grid_frac: float
    to_sustained: bool
    gap_s: float
    collective_sms: int
    known: dict[tuple[KernelShape, Regime, int | None], KernelCost] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Kernels that this stack and GPU were asked for already."""

    def kernel(self, shape: KernelShape, regime: Regime, comm_sms: int | None = None) -> KernelCost:
        """One call on the stack, at the clock of its measurements. Raises as `seconds`."""
        key = (shape, regime, comm_sms)
        if key not in self.known:
            self.known[key] = kernel_seconds(shape, self.stack, self.gpu, regime, comm_sms)
        return self.known[key]

    def seconds(self, op: Op, regime: Regime) -> KernelCost:
        """One operator, as the scenario's clock runs it. Raises MissingKernelError for what the stack has nothing of."""
        return self._at_clock(self._in_regime(op, regime), op)

    def unshared_seconds(self, op: Op) -> KernelCost:
        """One operator of the step's end, where no communication kernel ever holds SMs. Raises as `seconds`."""
        return self._at_clock(self._alone(op), op)

    def beside_collective(self, op: Op) -> KernelCost:
        """One operator of a lone chunk with a data-parallel collective beside it all the time. Raises as `seconds`."""
        return beside_communication(self.seconds(op, "alone"), op.shape.bound, self.stack, self.collective_sms)

    def _at_clock(self, cost: KernelCost, op: Op) -> KernelCost:
        """From the clock of the stack's measurements to the scenario's: a power-limited chip slows down."""
        if not self.to_sustained:
            return cost
        return cost.scaled(need(self.stack, f"sustained.{op.shape.bound}.slowdown"))

    def _alone(self, op: Op) -> KernelCost:
        return self.kernel(op.shape, "alone")

    def _in_regime(self, op: Op, regime: Regime) -> KernelCost:
        alone = self._alone(op)
        if self.shared_sms is None or (regime == "alone" and self.full_grid_frac == 1.0):
            return alone
        shared = self.kernel(op.shape, "overlapped", self.shared_sms)
        if regime == "overlapped":
            return shared
        full = self.full_grid_frac
        mix = {
            key: full * getattr(alone, key) + (1 - full) * getattr(shared, key) for key in ("seconds", "low", "high")
        }
        return replace(alone, **mix, basis=weakest(alone.basis, shared.basis))


def kernel_prices(
    scenario: Scenario, hardware: Hardware, assumptions: Mapping[str, Assumption], *, is_dispatching: bool,
    before: KernelPrices | None = None,
) -> KernelPrices:  # fmt: skip
    """The kernel prices of a scenario. is_dispatching: an expert group exchanges tokens, so that its kernels hold SMs.

    before: prices whose known kernels hold here too, where the stack and the GPU are the same.
    """
    stack, on = hardware.stack, scenario.mechanisms
    shared_sms = scenario.parallel.comm_sms if on.sm_partition and is_dispatching else None
    return KernelPrices(
        stack=stack,
        gpu=hardware.gpu,
        shared_sms=shared_sms,
        full_grid_frac=1.0 if shared_sms is None else assumptions["lone_chunk_full_sms"].value,
        to_sustained=stack.provenance.clock != "sustained" and scenario.device.clock != "burst",
        gap_s=need(stack, "kernel_gap_s").value if on.kernel_gaps else 0.0,
        collective_sms=round(assumptions["collective_sms"].value) if on.sm_partition else 0,
        known=before.known if before and before.stack is stack and before.gpu is hardware.gpu else {},
    )
