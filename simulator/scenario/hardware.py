"""Resolves the names in a scenario to entries of the hardware catalogue, and checks that they belong together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from hwprofiles import catalog, stack_choice
from hwprofiles.age import first_day
from hwprofiles.catalog import CatalogError
from hwprofiles.hosts import load_host
from hwprofiles.kernels.attention import has_rates
from hwprofiles.kernels.attention_libraries import LIBRARIES, serving
from hwprofiles.names import nearest
from hwprofiles.offers import Wanted, choose, nearest_offers
from hwprofiles.power.constants import power_constants
from hwprofiles.price_records import Offer, PriceSheet
from hwprofiles.problems import schema_problems, show
from hwprofiles.schema import Fabric, Gpu, Node
from hwprofiles.stack_folders import opened, plain_name
from hwprofiles.units import GIGA, KILO
from hwprofiles.yaml_file import KeyPath
from simulator.scenario import derived
from simulator.scenario.dispatch_rules import dispatcher_problems
from simulator.scenario.offload import offload_problems
from simulator.scenario.own_gemms import own_gemm_problems
from simulator.scenario.own_host import own_host_problems
from simulator.scenario.recipes import RECIPES, RecipeRule
from simulator.scenario.scenario import Scenario
from simulator.scenario.software import DEFAULT
from simulator.scenario.wording import FieldProblem, allowed, divisors, multiples

_INLINE: Final[tuple[tuple[str, type[Node] | type[Fabric]], ...]] = (("node", Node), ("fabric", Fabric))

_PLAUSIBLE: Final[dict[str, tuple[float, float, str]]] = {
    "nic_bytes_per_s": (10 * GIGA, 100 * GIGA, "80 Gb/s to 800 Gb/s"),
    "port_bytes_per_s": (10 * GIGA, 100 * GIGA, "80 Gb/s to 800 Gb/s"),
    "scale_up_bytes_per_s": (32 * GIGA, 2 * KILO * GIGA, "32 GB/s to 2 TB/s, one direction"),
}
"""Field → (low, high, in words) of what is built; outside, bits and bytes may have been mixed up (a factor of 8)."""


MEASURED_COMM_SMS: Final = 32
"""hwprofiles/measurements/h100-sm-partition-2026-11-24.csv: kernels beside 8, 20 and 32 held SMs."""


ROUNDING: Final = 0.01
"""Rates that differ by less are one rate, rounded."""

MEASURED_SEQ: Final = 32_768
"""Longest sequence of a measured attention core where a stack has no longer one: hwprofiles/stacks/h800-notrace/kernels.csv."""

CHECKED_SEQ: Final = 131_072
"""Longest sequence of calls that the formula was compared with, not fitted to: FlashAttention-2 on H200,
hwprofiles/measurements/h200x4-context-parallel-2026-11-27.csv; at that length 8 % too fast forward, 1 % backward (mean of 12).
"""

MEASURED_VENDOR: Final = "NVIDIA"
"""Whose GPUs DeepEP's kernels, and what they take from compute, were measured on."""


def node_of(scenario: Scenario) -> Node:
    """The node type."""
    node = scenario.cluster.node
    return catalog.load_node(node) if isinstance(node, str) else node


def gpu_of(scenario: Scenario) -> Gpu:
    """The node's GPU."""
    return catalog.load_gpu(node_of(scenario).gpu)


def fabric_of(scenario: Scenario) -> Fabric:
    """The fabric between nodes."""
    fabric = scenario.cluster.fabric
    return catalog.load_fabric(fabric) if isinstance(fabric, str) else fabric


def newest_sheet(gpu: str) -> PriceSheet | None:
    """The newest price sheet that has a price of the GPU, None where none has."""
    sheets = [catalog.load_prices(name) for name in catalog.list_names("prices")]
    return max(
        (sheet for sheet in sheets if gpu in sheet.entries), key=lambda sheet: first_day(sheet.date), default=None
    )


def make_inline(cluster: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Replace inline mappings of node and fabric by records; (key path, message) of what is wrong with them."""
    for key, kind in _INLINE:
        value = cluster.get(key)
        if not isinstance(value, dict):
            continue
        try:
            cluster[key] = kind.model_validate({"name": "inline", **value})
        except ValidationError as error:
            del cluster[key]
            for path, message in schema_problems(error, kind):
                yield ("cluster", key, *path), message


def default_stack_name(cluster: Mapping[str, Any]) -> str | None:
    """The stack of the node's GPU, None where the node is not known."""
    node = cluster.get("node")
    try:
        if isinstance(node, str):
            node = catalog.load_node(node)
        return stack_choice.default_stack(node.gpu) if isinstance(node, Node) else None
    except CatalogError:
        return None


def default_software(stack: object, rule: RecipeRule) -> str:
    """Generation of the kernels around the GEMMs where a scenario names none: of the stack, else of the stack that was measured
    on its GPU; of neither, or where that has no kernels for the recipe, the default or the first that has.
    """
    found = DEFAULT
    if isinstance(stack, str) and stack_choice.is_stack(stack):
        own = stack_choice.stack_provenance(stack)
        found = own.casts or stack_choice.stack_provenance(stack_choice.default_stack(own.gpu)).casts or DEFAULT
    return (
        found if found in rule.software else next((name for name in rule.software if name == DEFAULT), rule.software[0])
    )


def name_problems(cluster: Mapping[str, Any], stack: object, sheet: object) -> Iterator[tuple[KeyPath, str]]:
    """(key path, message) of names that the catalogue does not know, and of a stack of another GPU."""
    gpu = None
    for path, name, load in (
        (("cluster", "node"), cluster.get("node"), catalog.load_node),
        (("cluster", "fabric"), cluster.get("fabric"), catalog.load_fabric),
        (("prices", "sheet"), sheet, catalog.load_prices),
    ):
        try:
            entry = load(name) if isinstance(name, str) else name
            if isinstance(entry, Node):
                gpu = catalog.load_gpu(entry.gpu).name
                if entry.host_cpu is not None:
                    load_host(entry.host_cpu)
        except CatalogError as error:
            yield path, _one_line(error)
    if not isinstance(stack, str):
        return
    try:
        measured_on = stack_choice.stack_provenance(stack).gpu
    except CatalogError as error:
        yield ("stack",), _one_line(error)
        return
    if gpu is not None and measured_on != gpu:
        made = stack_choice.made_names(gpu)
        instead = f"use {' or '.join(made)}"
        if (usual := stack_choice.default_stack(gpu)) not in made:
            instead += f", or leave it out for {usual}"
        folder = opened(stack)
        if folder is not None and folder.has_own_gpu:
            measured_on = folder.gpu_name
            instead = f"write cluster.node as a mapping with gpu: {measured_on}, or {instead}"
        yield ("stack",), f"{plain_name(stack)} is of GPU {measured_on}, but cluster.node has {gpu}; {instead}"


def operand_copies(scenario: Scenario) -> int:
    """Copies of a tensor that two GEMMs read along different dimensions: two where scales or layout have a direction."""
    rule = derived.recipe(scenario)
    if not rule.is_quantised:
        return 1
    return 2 if rule.has_direction or gpu_of(scenario).fp8_layouts == "tn" else 1


def _format_problem(scenario: Scenario, gpu: Gpu) -> str | None:
    """Why the GPU cannot run the precision recipe, with those that it can."""
    rule = derived.recipe(scenario)
    able = [name for name in RECIPES if _runs(RECIPES[name], gpu)]
    if scenario.precision.recipe in able:
        return None
    lacks = f"no {rule.tensor_core.upper()} tensor core"
    if rule.tensor_core in gpu.peak_flop_per_s:
        lacks = f"no tensor core that reads {rule.scaled_format.upper()} operands"
    return f"{scenario.precision.recipe}, but {gpu.name} has {lacks}; use recipe: {' or '.join(able)}"


def _rate_problem(scenario: Scenario, gpu: Gpu) -> str | None:
    """Why the stack cannot say what GEMMs of the recipe's operands take."""
    dtype, stack = derived.recipe(scenario).gemm_dtype, stack_choice.load_stack(scenario.stack)
    held = stack.kernels.gemm_dtypes.union(key.split(".")[1] for key in stack.parameters if key.startswith("gemm."))
    if dtype in held:
        return None
    able = " or ".join(name for name in RECIPES if RECIPES[name].gemm_dtype in held)
    other = stack_choice.transfer_name(gpu.name)
    text = f"{scenario.precision.recipe}, but stack {scenario.stack} holds no GEMMs of {dtype} operands"
    return f"{text}; use stack: {other}" + (f", or recipe: {able}" if able else "")


def _runs(rule: RecipeRule, gpu: Gpu) -> bool:
    is_read = not rule.scaled_format or rule.scaled_format in (gpu.scaled_formats or ())
    return rule.tensor_core in gpu.peak_flop_per_s and is_read


def hardware_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Rules between the plan and the hardware."""
    node, gpu = node_of(scenario), gpu_of(scenario)
    ep = scenario.parallel.ep
    yield from _mesh_problems(scenario, node)
    if derived.comm_sms(scenario) >= gpu.num_sms:
        text = f"{derived.comm_sms(scenario)} of the {gpu.num_sms} SMs of {gpu.name}; none is left to compute"
        yield "parallel.comm_sms", f"{text}; allowed up to {gpu.num_sms - 1}"
    if derived.comm_sms(scenario) == 0 and ep > 1:
        yield "parallel.comm_sms", f"0 SMs for dispatch and combine, but ep is {ep}; allowed 1 to {gpu.num_sms - 1}"
    yield from dispatcher_problems(scenario, gpu)
    yield from own_host_problems(scenario, stack_choice.load_stack(scenario.stack))
    problem = _format_problem(scenario, gpu) or _rate_problem(scenario, gpu)
    if problem:
        yield "precision.recipe", problem
    yield from _attention_problems(scenario, gpu)
    yield from own_gemm_problems(scenario, stack_choice.load_stack(scenario.stack))
    yield from offload_problems(scenario.offload, node)
    yield from _power_problems(scenario, gpu)
    sheet = scenario.prices.sheet if scenario.prices else None
    if sheet is not None and gpu.name not in (entries := catalog.load_prices(sheet).entries):
        other = newest_sheet(gpu.name)
        instead = "give prices.usd_per_gpu_hour in its place"
        if other is not None:
            instead = f"take {other.name} ({other.entries[gpu.name].usd_per_gpu_hour:g} USD), or {instead}"
        yield "prices.sheet", f"{sheet} has no price of {gpu.name}; it has {', '.join(sorted(entries))}; {instead}"
    elif sheet is not None and scenario.prices is not None:
        yield from _offer_problems(sheet, gpu.name, entries[gpu.name].offers, scenario.prices.wanted)


def _attention_problems(scenario: Scenario, gpu: Gpu) -> Iterator[FieldProblem]:
    """A library of attention cores that the GPU cannot run, that has no such heads, or of which the stack knows nothing."""
    name = scenario.kernels.attention
    if name is None:
        return
    library, instead = LIBRARIES[name], f"; leave it out, or use {' or '.join(serving(gpu.family))}"
    if gpu.family not in library.families:
        runs_on = " and ".join(library.families)
        yield "kernels.attention", f"{name} ({library.label}) runs on {runs_on}, {gpu.name} is {gpu.family}{instead}"
        return
    width = scenario.model.attention.query_head_dim
    if width > library.max_head_dim:
        yield (
            "kernels.attention",
            f"{name} takes heads of up to {library.max_head_dim}, the model's have {width}{instead}",
        )
    again = scenario.recompute
    if library.writes_scores and again.granularity != "full" and "attention" not in again.modules:
        yield (
            "kernels.attention",
            f"{name} keeps every pair's scores for the backward, which the memory model does not count: recompute whole layers "
            "or the module attention",
        )
    stack = stack_choice.load_stack(scenario.stack)
    if not all(has_rates(stack, "bf16", direction, name) for direction in ("fwd", "bwd")):
        yield "kernels.attention", f"stack {stack.name} has no rates of {name} ({library.label}); leave it out"


def _power_problems(scenario: Scenario, gpu: Gpu) -> Iterator[FieldProblem]:
    """A cap above the board's limit, so low that a waiting chip exceeds it, or of a clock that no limit reaches."""
    cap_w = scenario.device.power_cap_w
    if cap_w is None:
        return
    if scenario.device.clock == "burst":
        yield (
            "device.power_cap_w",
            f"{cap_w:g} W says nothing of device.clock: burst, which no limit reaches; leave one of them out",
        )
    if cap_w > gpu.tdp_w:
        text = f"{cap_w:g} W is above the limit of {gpu.name}, {gpu.tdp_w:g} W"
        yield "device.power_cap_w", f"{text}; leave it out, or write at most {gpu.tdp_w:g}"
        return
    waiting_w = power_constants(stack_choice.load_stack(scenario.stack), gpu).chip(cap_w).p0_w
    if cap_w <= waiting_w:
        text = f"{cap_w:g} W: {gpu.name} draws {waiting_w:.0f} W while it waits"
        yield "device.power_cap_w", f"{text}; allowed above {waiting_w:.0f} to {gpu.tdp_w:g}"


def _offer_problems(sheet: str, gpu: str, offers: Sequence[Offer], wanted: Wanted) -> Iterator[FieldProblem]:
    """Offers that are wanted and do not exist: the first wish that none of the GPU's meets, else all of them."""
    if not wanted or choose(offers, wanted) is not None:
        return
    if not offers:
        key = next(iter(wanted.given))
        text = f"{sheet} has no single offers of {gpu}; leave {', '.join(wanted.given)} out for its price"
        yield f"prices.{key}", text
        return
    for key, value in wanted.given.items():
        there = sorted({getattr(offer, key) for offer in offers} - {None})
        if value not in there:
            near = nearest(value, there, listed=False)
            text = f"{sheet} has no offer of {gpu} with {key} {show(value)}{near}"
            break
    else:
        key, text = next(reversed(wanted.given)), f"{sheet} has no offer of {gpu} with {wanted} together"
    listed = "; ".join(map(str, nearest_offers(offers, wanted)))
    yield f"prices.{key}", f"{text}; the nearest there are: {listed}"


def _mesh_problems(scenario: Scenario, node: Node) -> Iterator[FieldProblem]:
    """GPUs that are no whole number of pipelines, of expert groups, or of nodes; counts that are all of these."""
    num_gpus, size, plan, moe = scenario.cluster.num_gpus, node.gpus_per_node, scenario.parallel, scenario.model.moe
    ep, group, pipeline = plan.ep, derived.expert_ranks(scenario), derived.pipeline_gpus(scenario)
    has_groups = moe is not None and moe.num_routed_experts % ep == 0
    groups = plan.pp * math.lcm(plan.tp * plan.cp, group) if has_groups else pipeline
    valid = multiples(num_gpus, math.lcm(groups, size) if max(num_gpus, groups) > size else groups)
    if not derived.is_mesh_whole(scenario):
        axes = [f"{axis} {size}" for axis, size in (("tp", plan.tp), ("cp", plan.cp)) if size > 1]
        what = f"{' * '.join([*axes, f'pp {plan.pp}'])} = {pipeline}" if axes else f"pp {plan.pp}"
        yield "cluster.num_gpus", f"{num_gpus} GPUs do not divide by {what}; {valid}"
    elif num_gpus > size and num_gpus % size:
        yield "cluster.num_gpus", f"{num_gpus} GPUs are no whole number of nodes of {size} ({node.name}); {valid}"
    ranks = derived.stage_ranks(scenario)
    if moe is not None and derived.is_mesh_whole(scenario) and ranks % group:
        what, whole = ("ep", ep) if plan.etp == 1 else ("ep * etp", f"{ep} * {plan.etp} = {group}")
        text = f"{what} {whole} does not divide {_stage_ranks(scenario)}; "
        text += allowed(divisors(math.gcd(ranks // math.gcd(ranks, plan.etp), moe.num_routed_experts)))
        yield "parallel.ep", text if groups == pipeline else f"{text}; for {what} {group}, cluster.num_gpus: {valid}"


def _stage_ranks(scenario: Scenario) -> str:
    """'dp 128', 'dp * tp = 128': the ranks that share a pipeline position."""
    axes = [axis for axis in ("tp", "cp") if getattr(scenario.parallel, axis) > 1]
    return f"{' * '.join(['dp', *axes])}{' =' if axes else ''} {derived.stage_ranks(scenario)}"


def hardware_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """What the stack's caveat says, what lies beyond the measurements, what does not act, and rates of inline hardware
    that nobody builds.
    """
    caveat = stack_choice.stack_provenance(scenario.stack).caveat
    if caveat:
        yield "stack", caveat
    gpu, comm_sms, seq_len = gpu_of(scenario), derived.comm_sms(scenario), scenario.training.seq_len
    if scenario.model.moe is not None and comm_sms > MEASURED_COMM_SMS:
        text = f"{comm_sms}; what compute loses was measured with at most {MEASURED_COMM_SMS} SMs held"
        yield "parallel.comm_sms", f"{text} and is extrapolated in a straight line"
    if scenario.parallel.ep > 1 and gpu.vendor != MEASURED_VENDOR and not derived.dispatcher(scenario).is_library:
        text = f"{comm_sms} SMs for DeepEP's dispatch and combine, as measured on GPUs of {MEASURED_VENDOR}"
        yield "parallel.comm_sms", f"{text}; {gpu.name} is of {gpu.vendor}, where another library may take more or less"
    if seq_len > (measured := measured_seq(scenario.stack)):
        text = f"{seq_len:,} tokens; attention was measured up to {measured:,}, beyond that the formula is extrapolated"
        checked = f"at {CHECKED_SEQ:,} it gives FlashAttention-2's calls on H200 8 % too short forward, 1 % backward"
        yield "training.seq_len", f"{text}: {checked}"
    yield from _fabric_warnings(scenario)
    yield from _rate_warnings(scenario)


def measured_seq(stack: str) -> int:
    """Longest sequence of an attention core that the stack's rows, or the fits behind its formula, are of."""
    rows = stack_choice.load_stack(stack).kernels.rows
    return max([MEASURED_SEQ, *(row.shape.seq for row in rows if row.shape.bound == "attention")])


def _fabric_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """A fabric whose ports are faster than the NICs that use them."""
    node, fabric = node_of(scenario), fabric_of(scenario)
    port, nic = fabric.port_bytes_per_s, node.nic_bytes_per_s
    if scenario.cluster.num_gpus > node.scale_up_domain_gpus and port > nic * (1.0 + ROUNDING):
        text = f"{port / GIGA:g} GB/s at a port of {fabric.name}, {nic / GIGA:g} GB/s at a NIC"
        yield "cluster.fabric", f"{text} of {node.name}: a link runs at the lower of NIC and fabric port, here the NIC"


def _rate_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Rates of inline hardware that nobody builds (often bits for bytes)."""
    for key, record in (("node", scenario.cluster.node), ("fabric", scenario.cluster.fabric)):
        if isinstance(record, str):
            continue
        for field, (low, high, words) in _PLAUSIBLE.items():
            value = getattr(record, field, None)
            if value is not None and not low <= value <= high:
                text = f"{value / GIGA:g} GB/s ({value * 8 / GIGA:g} Gb/s) is implausible; built are {words}"
                yield f"cluster.{key}.{field}", f"{text}; b is bit and B is byte"


def _one_line(error: CatalogError) -> str:
    return "; ".join(str(error).splitlines())
