"""Seconds of an operator: its kernel on the stack, beside communication or alone, at the speed of a chip's first launches.

What the power limit leaves of that speed follows from the whole step (step.power).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.parameters import Range, find, need
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.kernels.table import beside_communication, kernel_seconds
from hwprofiles.power.constants import PowerConstants, power_constants
from hwprofiles.power.states import speed_when_measured
from hwprofiles.provenance import State
from hwprofiles.schema import Gpu
from hwprofiles.stack_records import Assumption, Stack
from simulator.costs.cost import weakest
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.schedule import SCHEDULES
from simulator.step.hardware import Hardware
from simulator.workload.op import Op

GAP = "kernel_gap_s"
"""Parameter of a stack: idle time of a stream between two kernels."""
LONG_RUN = "long_run_slowdown"
"""Assumption of a stack whose kernels were measured in a short run of unknown clock."""


@dataclass(frozen=True)
class KernelPrices:
    """Seconds of operators on one stack.

    shared_sms: SMs that communication kernels hold beside an overlapped operator; None where nothing takes SMs (nothing is
    dispatched, or the mechanism is off). full_grid_frac: share of the kernels of a chunk without communication beside it
    that use all SMs (0 to 1; 1 where nothing takes SMs); the others keep the smaller grid. full_grid: kernels beside dispatch
    and combine are launched on the whole GPU too, so that these take from them what a collective does. power: what kernels
    draw. gap_s: idle time of a stream between two kernels. collective_sms: SMs that a ring collective holds, 0 where it takes
    none from kernels. long_run: times of hours of training over those of the stack's short runs, beside what the power limit
    does.
    """

    stack: Stack
    gpu: Gpu
    shared_sms: int | None
    full_grid_frac: float
    power: PowerConstants
    gap_s: float
    collective_sms: int
    full_grid: bool = False
    long_run: float = 1.0
    known: dict[tuple[KernelShape, Regime, int | None], KernelCost] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Kernels that this stack and GPU were asked for already."""
    at_full_speed: dict[tuple[int, int], tuple[Op, KernelCost, KernelCost]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Objects of an operator and its cost → both, and the cost at speed 1."""

    def has_unshared_of(self, other: KernelPrices) -> bool:
        """Whether operators of the step's end cost the same in both."""
        at, elsewhere = ((of.stack, of.gpu, of.power, of.long_run, of.full_grid) for of in (self, other))
        return at == elsewhere

    def same_regimes(self, other: KernelPrices) -> frozenset[Regime]:
        """The regimes in which operators, with the gaps between them, cost the same in both."""
        if not self.has_unshared_of(other) or (self.gap_s, self.shared_sms) != (other.gap_s, other.shared_sms):
            return frozenset()
        return frozenset(("overlapped", "alone") if self.full_grid_frac == other.full_grid_frac else ("overlapped",))

    def kernel(self, shape: KernelShape, regime: Regime, comm_sms: int | None = None) -> KernelCost:
        """One call on the stack, in the state of its measurements. Raises as `seconds`."""
        key = (shape, regime, comm_sms)
        if key not in self.known:
            self.known[key] = kernel_seconds(shape, self.stack, self.gpu, regime, comm_sms)
        return self.known[key]

    def seconds(self, op: Op, regime: Regime) -> KernelCost:
        """One operator at speed 1. Raises MissingKernelError for what the stack has nothing of."""
        if self.full_grid and regime == "overlapped" and self.shared_sms is not None:
            return self._beside(op, self.shared_sms)
        return self._at_full_speed(self._in_regime(op, regime), op)

    def unshared_seconds(self, op: Op) -> KernelCost:
        """One operator of the step's end, where no communication kernel ever holds SMs. Raises as `seconds`."""
        return self._at_full_speed(self._alone(op), op)

    def beside_collective(self, op: Op) -> KernelCost:
        """One operator of a lone chunk with a data-parallel collective beside it all the time. Raises as `seconds`."""
        return self._beside(op, self.collective_sms)

    def _beside(self, op: Op, sms: int) -> KernelCost:
        """An operator launched on the whole GPU while communication kernels hold so many SMs."""
        return beside_communication(self.seconds(op, "alone"), op.shape.bound, self.stack, sms)

    def _at_full_speed(self, cost: KernelCost, op: Op) -> KernelCost:
        """From the state of the chip when the kernel was measured to its first launches; its state is told beside it."""
        key = id(op), id(cost)
        if key not in self.at_full_speed:
            self.at_full_speed[key] = op, cost, self._first_launch(cost, op)
        return self.at_full_speed[key][2]

    def _first_launch(self, cost: KernelCost, op: Op) -> KernelCost:
        state = cost.state or self.stack.provenance.state
        factor = self._speed(cost.seconds, state, op, self.power.value("loop_share")) * self.long_run
        return replace(cost.scaled(Range(factor, factor, factor)), state=state)

    def first_launch_speed(self, op: Op, loop_share: float) -> float:
        """Speed at which an operator alone was measured, if a benchmark's loop had lost so much of the slow-down."""
        cost = self._alone(op)
        return self._speed(cost.seconds, cost.state or self.stack.provenance.state, op, loop_share)

    def _speed(self, seconds: float, state: State, op: Op, loop_share: float) -> float:
        power = self.power
        flop_j, byte_j = power.flop_j(op.shape, op.flop), power.byte_j(op.bytes_read + op.bytes_written)
        return speed_when_measured(seconds, state, flop_j, byte_j, power.chip(power.usual_w), loop_share)

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
    full_grid: bool = False, before: KernelPrices | None = None,
) -> KernelPrices:  # fmt: skip
    """The kernel prices of a scenario. is_dispatching: an expert group exchanges tokens, so that its kernels hold SMs.

    full_grid: as of `KernelPrices`.
    before: prices whose known kernels hold here too, where the stack and the GPU are the same.
    """
    stack, on = hardware.stack, scenario.mechanisms
    slowdown = find(stack, LONG_RUN) if scenario.device.clock == "sustained" else None
    kept = before if before and before.stack is stack and before.gpu is hardware.gpu else None
    shared_sms = derived.comm_sms(scenario) if on.sm_partition and is_dispatching else None
    # Where no chunk runs beside dispatch and combine, nobody made the kernels' grid smaller.
    has_pairs = SCHEDULES[scenario.parallel.schedule].overlaps_pairs and derived.overlaps_pairs(scenario)
    has_smaller_grid = shared_sms is not None and has_pairs and not full_grid
    prices = KernelPrices(
        stack=stack,
        gpu=hardware.gpu,
        shared_sms=shared_sms,
        full_grid_frac=assumptions["lone_chunk_full_sms"].value if has_smaller_grid else 1.0,
        full_grid=full_grid,
        power=kept.power if kept else power_constants(stack, hardware.gpu),
        gap_s=need(stack, GAP).value if on.kernel_gaps else 0.0,
        collective_sms=round(assumptions["collective_sms"].value) if on.sm_partition else 0,
        long_run=1.0 if slowdown is None else slowdown.value,
        known=kept.known if kept else {},
    )
    if kept and prices.has_unshared_of(kept):
        return replace(prices, at_full_speed=kept.at_full_speed)
    return prices
