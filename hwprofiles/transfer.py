"""Stacks made of public efficiencies and a datasheet, for GPUs that nobody measured for us.

`stacks/transfer/` holds shares by operator class and GPU (efficiencies.py). `<gpu>-public` takes each key from what was
measured on the GPU or on a chip of equal datasheet; `<gpu>-transfer`, and `-public` for what its GPU lacks, from all GPUs of
the nearest family that has the key. Which of several serves: `Choice` (hwprofiles/serving.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal

from hwprofiles.catalog import load_gpu
from hwprofiles.efficiencies import Efficiencies, EfficiencyGroup, load_efficiencies
from hwprofiles.kernels.rows import KernelTable
from hwprofiles.kernels.shape import PEAK_OF_DTYPE
from hwprofiles.leave_out import NOTHING, LeftOut
from hwprofiles.names import nearest
from hwprofiles.provenance import Basis, Source
from hwprofiles.schema import Gpu
from hwprofiles.serving import Choice, Found
from hwprofiles.stack_records import Parameter, Stack, StackProvenance

PER_FLOP = {"st_bytes_per_flop": "st_bytes_per_s", "l2_bytes_per_flop": "l2_bytes_per_s"}
"""Rates of one SM given as bytes for each FLOP of its dense BF16 peak, and the parameter that they become."""

UNITS = {"c_tokens": "tokens", "softmax_clocks": "clocks", "comm_sms": "SMs", "bm_max": "elements", "bn_max": "elements",
         "bn_step": "elements", "pj_per_flop": "pJ/FLOP", "pj_per_byte": "pJ/byte"}  # fmt: skip
"""Units that the end of a name does not tell."""

Made = Literal["public", "transfer"]
"""How a stack is made of the public efficiencies; the end of its name."""

CLASSES: Final = {
    "gemm": "GEMM", "attention": "attention", "memory": "memory-bound kernels", "link": "links", "ring": "rings",
    "nvls": "all-reduces of the switch",
    "all_to_all": "dispatch and combine", "hybridep": "Hybrid-EP", "overlap": "kernels beside communication", "power": "watts",
    "": "host",
}  # fmt: skip
"""First word of a group's prefix → what it is of, the weightiest first; a word that is not here stands for itself."""


NO_KERNELS: Final = frozenset({"sustained", "power", ""})
"""First words of groups that are neither of kernels nor of collectives: alone they make no public stack."""


def build_stack(made: Made, gpu: Gpu | str, without: LeftOut = NOTHING) -> Stack:
    """The stack `<gpu>-public` or `<gpu>-transfer` of a GPU record, or of a catalogue name, less what is left out.

    A format that the GPU's datasheet lacks has no parameters; asking for it raises MissingKernelError, which names it.
    Raises CatalogError for an unknown name.
    """
    target = load_gpu(gpu) if isinstance(gpu, str) else gpu
    choice = Choice(load_efficiencies().without(without), target, own_alone=made == "public")
    provenance = _provenance(made, choice, without)
    parameters = dict(_parameters(target, choice))
    return Stack(f"{target.name}-{made}", target.name, provenance.description, KernelTable(), provenance,
                 parameters=parameters)  # fmt: skip


def made_provenance(made: Made, target: Gpu, without: LeftOut = NOTHING) -> StackProvenance:
    """What such a stack is of; its caveat says where its family was not measured."""
    choice = Choice(load_efficiencies().without(without), target, own_alone=made == "public")
    return _provenance(made, choice, without)


def has_public(gpu: str, without: LeftOut = NOTHING) -> bool:
    """Whether kernels or collectives were measured in public on the GPU, or on a chip of equal datasheet."""
    own = Choice(load_efficiencies().without(without), load_gpu(gpu)).own_groups
    return any(group.prefix.partition(".")[0] not in NO_KERNELS for group in own)


def _provenance(made: Made, choice: Choice, without: LeftOut) -> StackProvenance:
    target, table = choice.target, choice.table
    description = (
        f"datasheet of {target.name} times the efficiencies reached on GPUs of its family, else of the nearest"
    )
    if made == "public":
        description = f"{_what(choice.own_groups)}; datasheet times efficiencies of other GPUs for the rest"
    left = f"; left out: {without}" if without else ""
    used = {group.source for group in table.groups if choice.may_use(group)}
    return StackProvenance(
        gpu=target.name,
        description=f"{description}{left}",
        software="library kernels of 2024 to 2026, by the source of each parameter",
        state="benchmark_loop",
        caveat=_caveat(choice),
        sources={name: source for name, source in table.sources.items() if name in used},
    )


def _what(own: tuple[EfficiencyGroup, ...]) -> str:
    """ "public measurements on b200: GEMM, attention": what was measured on which GPUs."""
    gpus = dict.fromkeys(str(group.gpu) for group in own)
    found = {group.prefix.partition(".")[0] for group in own}
    order = [*CLASSES, *sorted(found - CLASSES.keys())]
    words = ", ".join(CLASSES.get(name, name) for name in order if name in found)
    return f"public measurements on {' and '.join(sorted(gpus))}: {words or 'none'}"


def _caveat(choice: Choice) -> str:
    """Says whose GEMMs serve where none was measured in the GPU's family; else ""."""
    target, table = choice.target, choice.table
    measured = {load_gpu(group.gpu).family for group in table.groups if group.gpu and group.prefix.startswith("gemm.")}
    chosen = choice.found("gemm.bf16.eta").chosen
    if target.family in measured or not chosen or chosen[0][0].gpu is None:
        return ""
    whose = chosen[0][0].gpu
    unknown = "" if target.family in table.families else f" (an unknown family{nearest(target.family, table.families)})"
    return (
        f"no GEMM was measured on a GPU of the family {target.family}{unknown}: {target.name} takes the shares that "
        f"{whose} ({load_gpu(whose).family}) reaches, in wider ranges"
    )


def _parameters(target: Gpu, choice: Choice) -> Iterator[tuple[str, Parameter]]:
    for key in choice.keys:
        if _lacks_format(key, target):
            continue
        found = choice.found(key)
        if found.chosen:
            name = key.rpartition(".")[2]
            yield key.replace(name, PER_FLOP.get(name, name)), _parameter(key, found, target, choice.table)


def _lacks_format(key: str, target: Gpu) -> bool:
    """Whether the key belongs to a number format for which the datasheet has no peak."""
    kind, _, rest = key.partition(".")
    return kind in ("gemm", "attention") and PEAK_OF_DTYPE[rest.partition(".")[0]] not in target.peak_flop_per_s


def _parameter(key: str, found: Found, target: Gpu, table: Efficiencies) -> Parameter:
    """Geometric mean of the chosen entries; the range spans them, or all families' where the target's own has none."""
    values = [triple[0] for _, triple in found.chosen]
    value = values[0]
    if len(values) > 1 and min(values) > 0.0:
        value = math.exp(math.fsum(map(math.log, values)) / len(values))
    name = key.rpartition(".")[2]
    is_gemm = key.startswith("gemm.")
    spanned = found.usable if found.is_other_family and not is_gemm else found.chosen
    low = min(value, *(triple[1] for _, triple in spanned))
    high = max(value, *(triple[2] for _, triple in spanned))
    if name == "residual" and found.is_other_family:
        low, high = low * table.other_family_residual[1], high * table.other_family_residual[2]
    elif name == "residual" and not found.is_own:
        low, high = min(low, table.other_gpu_residual[1]), max(high, table.other_gpu_residual[2])
    scale = target.peak_flop_per_s["bf16"] / target.num_sms if name in PER_FLOP else 1.0
    states = {group.state for group, _ in found.chosen}
    return Parameter(
        value=value * scale, low=low * scale, high=high * scale, unit=_unit(PER_FLOP.get(name, name)),
        state=states.pop() if len(states) == 1 else None,
        basis=_basis(found, target, table), source=_source(found, target, table),
    )  # fmt: skip


def _basis(found: Found, target: Gpu, table: Efficiencies) -> Basis:
    """Interpolated: all of it was measured on this very GPU, or on chips of equal datasheet; else transferred or assumed."""
    if table.sources[found.chosen[0][0].source].kind == "assumed":
        return "assumed"
    return "interpolated" if found.is_own else "transferred"


def _source(found: Found, target: Gpu, table: Efficiencies) -> Source:
    origins = list({group.source: table.sources[group.source] for group, _ in found.chosen}.values())
    origin, where = origins[0], "; ".join(each.where for each in origins)
    measured_on = sorted({group.gpu for group, _ in found.chosen if group.gpu})
    families = sorted({load_gpu(name).family for name in measured_on}) if found.is_other_family else []
    foreign = f"of the family {' and '.join(families)}, not {target.family}" if families else ""
    notes = "; ".join(dict.fromkeys(note for note in (foreign, *(group.note for group, _ in found.chosen)) if note))
    shown = f"reached on {' and '.join(measured_on)}: {where}" if measured_on else where
    return Source(kind=origin.kind, where=shown, date=max(each.date for each in origins), note=notes)


def _unit(name: str) -> str:
    if name.endswith("_bytes_per_s"):
        return "bytes/s"
    if name.startswith("sm_cost_"):
        return "s*SM/byte"
    return "s" if name.endswith("_s") else UNITS.get(name, "1")
