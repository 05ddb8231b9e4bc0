"""Stacks for GPUs that nobody measured for us: a datasheet times the efficiencies reached on *other* GPUs.

`stacks/transfer/` holds shares by operator class and source GPU (efficiencies.py). A target takes each key from the nearest
GPU family that has it, never from itself; its range spans the sources, and all families where its own has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from hwprofiles.catalog import load_gpu
from hwprofiles.efficiencies import Efficiencies, EfficiencyGroup, Triple, load_efficiencies
from hwprofiles.kernels.rows import KernelTable
from hwprofiles.kernels.shape import PEAK_OF_DTYPE
from hwprofiles.names import nearest
from hwprofiles.provenance import Source
from hwprofiles.schema import Gpu, Parameter, Stack, StackProvenance

PER_FLOP = {"st_bytes_per_flop": "st_bytes_per_s", "l2_bytes_per_flop": "l2_bytes_per_s"}
"""Rates of one SM given as bytes for each FLOP of its dense BF16 peak, and the parameter that they become."""

UNITS = {"c_tokens": "tokens", "comm_sms": "SMs", "bm_max": "elements", "bn_max": "elements", "bn_step": "elements"}
"""Units that the end of a name does not tell."""

SUFFIX = "-transfer"
"""End of the name of a transfer stack."""


@dataclass(frozen=True)
class _Found:
    """What a key takes: the entries it is made of, all usable ones, and whether they come from another family."""

    chosen: list[tuple[EfficiencyGroup, Triple]] = field(default_factory=list)
    usable: list[tuple[EfficiencyGroup, Triple]] = field(default_factory=list)
    is_other_family: bool = False


def build_transfer_stack(gpu: Gpu | str) -> Stack:
    """The stack `<gpu>-transfer` of a GPU record, or of a catalogue name. All its parameters are transferred or assumed.

    A format that the GPU's datasheet lacks has no parameters; asking for it raises MissingKernelError, which names it.
    Raises CatalogError for an unknown name.
    """
    target = load_gpu(gpu) if isinstance(gpu, str) else gpu
    provenance = transfer_provenance(target)
    parameters = dict(_parameters(target, load_efficiencies()))
    return Stack(f"{target.name}{SUFFIX}", target.name, provenance.description, KernelTable(), provenance,
                 parameters=parameters)  # fmt: skip


def transfer_provenance(target: Gpu) -> StackProvenance:
    """What the transfer stack of a GPU is of; its caveat says where its family was not measured."""
    table = load_efficiencies()
    return StackProvenance(
        gpu=target.name,
        description=f"datasheet of {target.name} times the efficiencies reached on other GPUs",
        software="library kernels of 2024 to 2026, by the source of each parameter",
        clock="burst",
        caveat=_caveat(target, table),
        sources={name: source for name, source in table.sources.items() if _is_used(name, target.name, table)},
    )


def _caveat(target: Gpu, table: Efficiencies) -> str:
    """Says whose GEMMs serve where none was measured in the GPU's family; else ""."""
    measured = {load_gpu(group.gpu).family for group in table.groups if group.gpu and group.prefix.startswith("gemm.")}
    if target.family in measured:
        return ""
    group = _find("gemm.bf16.eta", target, table).chosen[0][0]
    unknown = "" if target.family in table.families else f" (an unknown family{nearest(target.family, table.families)})"
    return (
        f"no GEMM was measured on a GPU of the family {target.family}{unknown}: {target.name} takes the shares that "
        f"{group.gpu} ({load_gpu(str(group.gpu)).family}) reaches, in wider ranges"
    )


def _is_used(source: str, target: str, table: Efficiencies) -> bool:
    return any(group.source == source and group.gpu != target for group in table.groups)


def _parameters(target: Gpu, table: Efficiencies) -> Iterator[tuple[str, Parameter]]:
    keys = {key: None for group in table.groups for name in group.values if (key := _key(group, name))}
    for key in keys:
        if _lacks_format(key, target):
            continue
        found = _find(key, target, table)
        if found.chosen:
            name = key.rpartition(".")[2]
            yield key.replace(name, PER_FLOP.get(name, name)), _parameter(key, found, target, table)


def _key(group: EfficiencyGroup, name: str) -> str:
    return f"{group.prefix}.{name}" if group.prefix else name


def _lacks_format(key: str, target: Gpu) -> bool:
    """Whether the key belongs to a number format for which the datasheet has no peak."""
    kind, _, rest = key.partition(".")
    return kind in ("gemm", "attention") and PEAK_OF_DTYPE[rest.partition(".")[0]] not in target.peak_flop_per_s


def _find(key: str, target: Gpu, table: Efficiencies) -> _Found:
    """Entries of the nearest family, the target's own left out; those of no GPU only where there is no other.

    Constants of one GEMM or attention fit belong together: they come from the first source alone.
    """
    entries = [(g, triple) for g in table.groups for name, triple in g.values.items() if _key(g, name) == key]
    usable = [
        entry for entry in entries
        if entry[0].gpu not in (None, target.name)
        and (not entry[0].only_families or target.family in entry[0].only_families)
    ]  # fmt: skip
    if not usable:
        return _Found(bounds := [entry for entry in entries if entry[0].gpu is None], bounds)
    far = [table.distance(target.family, load_gpu(str(group.gpu)).family) for group, _ in usable]
    steps = min(far)
    near = [entry for entry, distance in zip(usable, far, strict=True) if distance == steps]
    is_fit = key.startswith(("gemm.", "attention."))
    return _Found(near[:1] if is_fit else near, usable, is_other_family=steps > 0)


def _parameter(key: str, found: _Found, target: Gpu, table: Efficiencies) -> Parameter:
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
    if name == "residual" and is_gemm and found.is_other_family:
        low, high = low * table.other_family_residual[1], high * table.other_family_residual[2]
    scale = target.peak_flop_per_s["bf16"] / target.num_sms if name in PER_FLOP else 1.0
    origin = table.sources[found.chosen[0][0].source]
    measured_on = sorted({group.gpu for group, _ in found.chosen if group.gpu})
    families = sorted({load_gpu(name).family for name in measured_on}) if found.is_other_family else []
    foreign = f"of the family {' and '.join(families)}, not {target.family}" if families else ""
    notes = "; ".join(dict.fromkeys(note for note in (foreign, *(group.note for group, _ in found.chosen)) if note))
    shown = f"reached on {' and '.join(measured_on)}: {origin.where}" if measured_on else origin.where
    states = {group.state for group, _ in found.chosen}
    return Parameter(
        value=value * scale, low=low * scale, high=high * scale, unit=_unit(PER_FLOP.get(name, name)),
        state=states.pop() if len(states) == 1 else None,
        basis="assumed" if origin.kind == "assumed" else "transferred",
        source=Source(kind=origin.kind, where=shown, date=origin.date, note=notes),
    )  # fmt: skip


def _unit(name: str) -> str:
    if name.endswith("_bytes_per_s"):
        return "bytes/s"
    if name.startswith("sm_cost_"):
        return "s*SM/byte"
    return "s" if name.endswith("_s") else UNITS.get(name, "1")
