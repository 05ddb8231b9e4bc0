"""The list of planted faults, a file a room."""

from __future__ import annotations

from tests.mutants.fault import Room
from tests.mutants.rooms.assembly import ASSEMBLY
from tests.mutants.rooms.calibrate import CALIBRATE
from tests.mutants.rooms.cli import CLI
from tests.mutants.rooms.comparing import COMPARING
from tests.mutants.rooms.context import CONTEXT
from tests.mutants.rooms.costs import COSTS
from tests.mutants.rooms.counting import TORCH_COUNTS
from tests.mutants.rooms.dashboards import DASHBOARDS
from tests.mutants.rooms.engine import ENGINE
from tests.mutants.rooms.expert_parallel import EXPERT_PARALLEL
from tests.mutants.rooms.fits import FITS
from tests.mutants.rooms.graph_memory import GRAPH_MEMORY
from tests.mutants.rooms.hosts import HOSTS
from tests.mutants.rooms.hwprofiles import HWPROFILES
from tests.mutants.rooms.kernels import KERNELS
from tests.mutants.rooms.kinds import KINDS
from tests.mutants.rooms.loads import LOADS
from tests.mutants.rooms.machine_parts import MACHINE_PARTS
from tests.mutants.rooms.models import MODELS
from tests.mutants.rooms.muon import MUON
from tests.mutants.rooms.network import NETWORK
from tests.mutants.rooms.numerics import NUMERICS
from tests.mutants.rooms.offload import OFFLOAD
from tests.mutants.rooms.own_kernels import OWN_KERNELS
from tests.mutants.rooms.packing import PACKING
from tests.mutants.rooms.phases import PHASES
from tests.mutants.rooms.pipeline import PIPELINE
from tests.mutants.rooms.proof import PROOF
from tests.mutants.rooms.rates import RATES
from tests.mutants.rooms.report import REPORT
from tests.mutants.rooms.results import RESULTS
from tests.mutants.rooms.routing import ROUTING
from tests.mutants.rooms.run import RUN
from tests.mutants.rooms.scenario import SCENARIO
from tests.mutants.rooms.schedule import SCHEDULE
from tests.mutants.rooms.sharing import SHARING
from tests.mutants.rooms.sheets import SHEETS
from tests.mutants.rooms.sizes import SIZES
from tests.mutants.rooms.stack_folders import STACK_FOLDERS
from tests.mutants.rooms.step import STEP
from tests.mutants.rooms.streams import STREAMS
from tests.mutants.rooms.timeline import TIMELINE
from tests.mutants.rooms.torch_model import TORCH_MODEL
from tests.mutants.rooms.traces import TRACES
from tests.mutants.rooms.train import TRAIN
from tests.mutants.rooms.trained_moe import TRAINED_MOE
from tests.mutants.rooms.validation import VALIDATION
from tests.mutants.rooms.what_if import WHAT_IF
from tests.mutants.rooms.workload import WORKLOAD

ROOMS: tuple[Room, ...] = (
    FITS, HOSTS, MACHINE_PARTS, GRAPH_MEMORY, TRACES, STACK_FOLDERS,
    HWPROFILES, NETWORK, COSTS, SCENARIO, WORKLOAD, MODELS, ROUTING, SCHEDULE, ENGINE, ASSEMBLY, RESULTS, STEP, SHARING, LOADS,
    OFFLOAD, MUON, CONTEXT, PACKING, PHASES, RUN, KINDS, SIZES, RATES, REPORT, COMPARING, SHEETS, TIMELINE, CLI, VALIDATION,
    DASHBOARDS, WHAT_IF, CALIBRATE, PROOF,
    NUMERICS, KERNELS, STREAMS, OWN_KERNELS, TORCH_MODEL, TRAINED_MOE, EXPERT_PARALLEL, PIPELINE, TRAIN, TORCH_COUNTS,
)  # fmt: skip
"""From the bottom up."""
