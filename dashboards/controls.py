"""The controls of the What-if page: which key each sets, what it is called and what it means. What it offers it asks elsewhere.

A control stands under its name in the link (`keys.SCENARIO_KEYS`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from dashboards import state
from dashboards.keys import BY_NAME, text_of
from dashboards.link import path_of
from dashboards.source import Source
from simulator.remedies import value_of
from simulator.scenario import derived
from simulator.scenario.hardware import node_of
from simulator.scenario.host import GRAPH_SCOPES, WHOLE
from simulator.scenario.recipes import RECIPES
from simulator.scenario.scenario import Scenario

Kind = Literal["choice", "number", "switch", "several", "balance", "tokens", "graphs", "share"]


def always(scenario: Scenario) -> bool:
    """Of a control that every scenario has."""
    return True


def has_experts(scenario: Scenario) -> bool:
    """Whether there are experts to spread."""
    return scenario.model.moe is not None


def has_large_domains(scenario: Scenario) -> bool:
    """Whether a scale-up domain holds more than one host."""
    node = node_of(scenario)
    return node.scale_up_domain_gpus > node.gpus_per_node


def quantises(scenario: Scenario) -> bool:
    """Whether GEMMs read numbers of 8 or 4 bits."""
    return RECIPES[scenario.precision.recipe].is_quantised


def has_scalings(scenario: Scenario) -> bool:
    """Whether scales may be of the tensor itself or of earlier ones."""
    return bool(RECIPES[scenario.precision.recipe].scalings)


def issues_by_calls(scenario: Scenario) -> bool:
    """Whether the seconds of a host's calls are those of who issues the work."""
    return scenario.mechanisms.host_stream and scenario.host.launch_s is None


def has_host_links(scenario: Scenario) -> bool:
    """Whether it is known how fast the host holds something for its GPUs."""
    return node_of(scenario).host_link_bytes_per_s is not None


def shares_parameters(scenario: Scenario) -> bool:
    """Whether parameters are sharded, over all or over a group of data-parallel ranks."""
    return scenario.parallel.zero_stage == 3


def recomputes_modules(scenario: Scenario) -> bool:
    """Whether recompute is of single modules."""
    return scenario.recompute.granularity == "selective"


@dataclass(frozen=True, slots=True)
class Control:
    """One control. name: in the link. blank: what an empty field means, for numbers that may be null.

    is_wide: takes the whole width of its group. shows: whether it has a meaning in a scenario.
    """

    name: str
    label: str
    help: str
    kind: Kind = "number"
    blank: str = ""
    is_wide: bool = False
    shows: Callable[[Scenario], bool] = always

    @property
    def path(self) -> str:
        """Dotted key of the scenario, with {first} for the first phase's name."""
        return str(BY_NAME[self.name].path)


GROUPS: Final[tuple[tuple[str, tuple[Control, ...]], ...]] = (
    (
        "Machines",
        (
            Control("node", "GPU and node", "Node type: GPU, how many a node, NVLink and NICs.", "choice", is_wide=True),
            Control("gpus", "GPUs", "All GPUs of the job. Data parallelism takes what the other degrees leave."),
            Control("fabric", "Network fabric", "Between the nodes: rate, topology, planes.", "choice", is_wide=True),
            Control(
                "domain", "GPUs used of a domain", "Of each scale-up domain (such as 64 of an NVL72's 72).", blank="as fits",
                shows=has_large_domains,
            ),
        ),
    ),
    (
        "Parallelism",
        (
            Control("pp", "Pipeline, pp", "Pipeline ranks: the layers are cut into so many stages."),
            Control("vpp", "Virtual, vpp", "Chunks of the model a pipeline rank holds (interleaved schedules; 2 in a V)."),
            Control("tp", "Tensor, tp", "GPUs that share the GEMMs of a layer."),
            Control("cp", "Context, cp", "GPUs that share every sequence."),
            Control(
                "cp_comm", "Context by", "How they attend to one another's tokens: an all-to-all of heads, a ring of keys and "
                "values, or a gather of them.", "choice",
            ),
            Control("ep", "Experts, ep", "GPUs over which the routed experts of a layer are spread.", shows=has_experts),
            Control("etp", "Expert tp, etp", "GPUs over which one routed expert is cut.", shows=has_experts),
            Control(
                "zero", "ZeRO stage", "What data-parallel ranks share: 0 nothing, 1 optimizer state, 2 gradients too, "
                "3 parameters too (FSDP).", "choice",
            ),
            Control(
                "hsdp", "Shard group", "Data-parallel ranks that share one copy of the parameters (HSDP).", blank="all",
                shows=shares_parameters,
            ),
            Control("sp", "Sequence parallel", "The tp GPUs share the tokens of norms and router too.", "switch", is_wide=True),
        ),
    ),
    (
        "Schedule and batch",
        (
            Control("schedule", "Pipeline schedule", "Order of forwards and backwards on each rank.", "choice", is_wide=True),
            Control("batch", "Global batch", "Sequences of a step, over all data-parallel ranks."),
            Control("micro", "Micro-batch", "Sequences that a pipeline takes at a time."),
            Control("seq", "Sequence", "Tokens of a sequence."),
        ),
    ),
    (
        "Precision and memory",
        (
            Control("recipe", "Precision recipe", "Formats of GEMMs, dispatch and activations.", "choice", is_wide=True),
            Control("scaling", "Scales", "Of a tensor itself, or of earlier maxima.", "choice", shows=has_scalings),
            Control(
                "primary", "Weights kept", "Beside the quantised weights that GEMMs read: BF16 ones, or none.", "choice",
                shows=quantises,
            ),
            Control("optimizer", "Optimizer state", "Formats of moments and master weights.", "choice", is_wide=True),
            Control("recompute", "Recompute", "Activations that the backward computes again: less memory, more time.",
                    "choice"),
            Control(
                "modules", "Recomputed modules", "What selective recompute computes again.", "several", is_wide=True,
                shows=recomputes_modules
            ),
            Control(
                "off_optimizer", "Optimizer state on the host", "Share of it that the host holds and updates.", "share",
                is_wide=True, shows=has_host_links,
            ),
            Control(
                "off_activations", "Activations on the host", "Share of what the backward needs that waits there.", "share",
                is_wide=True, shows=has_host_links,
            ),
        ),
    ),
    (
        "Software and power",
        (
            Control(
                "framework", "Framework release", "Its switches are the defaults of what the scenario leaves open.", "choice",
                is_wide=True,
            ),
            Control("attention", "Attention library", "null: the stack's own, else the newest for such GPUs.", "choice"),
            Control(
                "grouped_gemm", "Expert GEMMs", "A launch an expert (loop), or one for all (grouped); null: as measured.",
                "choice", shows=has_experts,
            ),
            Control(
                "casts", "Kernels around GEMMs", "The software that casts, transposes and shuffles tokens.", "choice",
                is_wide=True,
            ),
            Control(
                "issued_by", "Work issued by", "What a call costs the host; null: one of the first two, not known which.",
                "choice", is_wide=True, shows=issues_by_calls,
            ),
            Control(
                "graphs", "CUDA graphs", "What one call issues: nothing, scopes of a layer, or the iteration.",
                "graphs", is_wide=True,
            ),
            Control("power_cap", "Power cap, W", "Watts that a GPU may draw on the mean.", blank="the board's"),
        ),
    ),
    (
        "Experts",
        (
            Control(
                "dispatcher", "Dispatcher", "Library that sends tokens to their experts and results back.", "choice",
                shows=has_experts,
            ),
            Control(
                "host_sync", "Host waits for counts", "Before it issues a layer's experts; null: as dispatcher and graphs say.",
                "choice", is_wide=True, shows=has_experts,
            ),
            Control(
                "balance", "Expert balance", "forced: every expert the same; learned: as a trained, balanced router; natural: "
                "without balancing; or a given maximum over mean.", "balance", shows=has_experts,
            ),
            Control(
                "nodes", "Nodes a token", "Most nodes on which a token's experts may lie.", blank="as the router groups",
                shows=has_experts,
            ),
        ),
    ),
)  # fmt: skip
"""Groups in the order of the page; the run's length and price have a group of their own (widgets/run_controls.py)."""

CONTROLS: Final = tuple(control for _, controls in GROUPS for control in controls)
LABELS: Final = {control.name: control.label for control in CONTROLS} | {
    "tokens": "Tokens", "steps": "Steps", "price": "Price", "sheet": "Price sheet", "ramp": "Batch ramp",
    "ramp_from": "Batch ramp from", "ramp_below": "Ramp's schedule", "overlap_ep": "Overlap of experts",
    "overlap_pp": "Overlap of transfers", "overlap_tp": "Overlap of tp", "weight_cache": "FP8 weight cache",
    "remethod": "Recompute method", "relayers": "Recomputed layers",
    "grad_every": "Gradients reduced every",
    "stack": "Stack", "drop": "Dropped rows", "pad": "Pad to capacity",
    "permute_fusion": "Fused permutation",
}  # fmt: skip
"""Names of the link as people call them."""


def path(name: str, source: Source) -> str:
    """The dotted key that a name of the link sets in a source."""
    return path_of(BY_NAME[name].path, source.plain())


def value(name: str, scenario: Scenario, source: Source) -> Any:
    """What the scenario says under a name of the link; None where a section on the way is null."""
    try:
        return value_of(scenario, path(name, source))
    except LookupError:
        return None


def graphs_of(chosen: Sequence[str]) -> str | tuple[str, ...]:
    """What host.cuda_graph says for names in the order in which they were chosen: of two that exclude each other the later
    counts, and preprocessing brings the router that it is captured behind.
    """
    none, full = WHOLE
    if not chosen or chosen[-1] == full:
        return full if chosen else none
    kept = set(chosen) - {full}
    parts = {"moe_router", "moe_preprocess"}
    kept -= parts if chosen[-1] == "moe" else {"moe"} if kept & parts else set()
    kept |= {"moe_router"} if "moe_preprocess" in kept else set()
    return tuple(scope for scope in GRAPH_SCOPES if scope in kept)


def choose(name: str, text: str) -> None:
    """Change a key; what the scenario says anyway is taken out of the link again."""
    state.change(**{name: None})
    asked = state.current()
    if asked.scenario is None or text_of(value(name, asked.scenario, asked.source)) != text:
        state.change(**{name: text})


def chosen(name: str, text: str) -> Callable[[], None]:
    """`choose`, to be called by a button."""
    return partial(choose, name, text)


DERIVED_IN: Final = "Parallelism"


def derived_words(scenario: Scenario) -> str:
    """Degrees that follow from the others."""
    if not derived.is_mesh_whole(scenario):
        return "Data parallel, dp: no whole number"
    words = f"Data parallel, dp: {derived.dp(scenario):,}"
    if has_experts(scenario) and derived.edp(scenario):
        words += f" · replicas of an expert: {derived.edp(scenario):,}"
    return f"{words} · micro-batches a pipeline: {derived.num_micro_batches(scenario):,}"
