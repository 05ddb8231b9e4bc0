"""Which keys a stack's parameters may have, and which of them are of one fit: for files that somebody wrote elsewhere.

The keys that the shipped tables use are known; those of kernels are built of names that the formulas know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Final

from hwprofiles.hosts.own import KEY, RATIO, own_key_problem
from hwprofiles.kernels.anchoring import ANCHOR
from hwprofiles.kernels.attention_libraries import LIBRARIES
from hwprofiles.kernels.rows import GEMM_VARIANTS
from hwprofiles.kernels.shape import KERNELS, OWN_GEMMS, PEAK_OF_DTYPE
from hwprofiles.names import nearest

GROUPED: Final = "grouped"
RESIDUAL: Final = "residual"
RESULTS: Final = ("bf16-out", "fp32-out")
"""Of weight gradients with constants of their own: as kernels/gemm.py reads them."""
OVERLAP: Final = ("gemm", "attention", "memory")
"""Classes of kernels that have an `overlap.<class>.ratio`."""
HELD: Final = frozenset({"overlap.comm_sms", *(f"overlap.{name}.ratio" for name in OVERLAP)})
BESIDE: Final = frozenset({"overlap.collective.sms", *(f"overlap.collective.{name}.ratio" for name in OVERLAP)})
"""What kernels keep while so many SMs are held, and beside a collective of so many: measured together."""

FLOOR: Final = "launch_floor_s"
"""Of every memory-bound kernel."""
_MEMORY: Final = ("latency_s", "elements_per_s", "rows_per_s", "p", "exponent")
"""Constants of a memory-bound kernel beside its share, which has the kernel's own key."""
_NEEDED: Final = frozenset({"t0_s", "t_tile_s", "st_bytes_per_s", "l2_bytes_per_s", "eta", "ecap", "eb", RESIDUAL})
"""Constants without which a GEMM family says nothing."""


@dataclass(frozen=True, slots=True)
class GemmStem:
    """`gemm.<dtype>[.<library>][.grouped][.<variant>[.<result>]]`; variant "", result "": all that have none of their own."""

    dtype: str
    is_grouped: bool
    variant: str
    library: str = ""
    result: str = ""

    def covers(self, other: GemmStem) -> bool:
        """Whether a family of its own stands for the other one too."""
        same = (self.dtype, self.library, self.is_grouped) == (other.dtype, other.library, other.is_grouped)
        return same and self.variant in ("", other.variant) and self.result in ("", other.result)

    def backs(self, other: GemmStem) -> bool:
        """Whether a constant that the other family lacks is looked for in this one."""
        same = (self.dtype, self.library) == (other.dtype, other.library)
        is_wider = self.variant in ("", other.variant) and self.result in ("", other.result)
        return same and self.is_grouped <= other.is_grouped and is_wider


def gemm_stem(key: str) -> GemmStem:
    """The family of a key of GEMMs."""
    words = key.split(".")[1:-1]
    result = words.pop() if words[-1] in RESULTS else ""
    variant = words[-1] if words[-1] in GEMM_VARIANTS else ""
    return GemmStem(words[0], GROUPED in words, variant, OWN_GEMMS if OWN_GEMMS in words else "", result)


def key_problem(key: str) -> str | None:
    """Why no formula reads a parameter of that key; None where one does."""
    kind, _, rest = key.partition(".")
    words = rest.split(".")
    if kind == "gemm":
        return _kernel_problem(words, _gemm_constants(), (OWN_GEMMS, GROUPED, *GEMM_VARIANTS, *RESULTS))
    if kind == "attention":
        return _kernel_problem(words, _attention_constants(), ("fwd", "bwd", *LIBRARIES))
    if kind == "memory":
        return _memory_problem(words)
    if kind == "host":
        return own_key_problem(key)
    if key in HELD | BESIDE or kind in _kinds():
        return None
    kinds = _kinds() | {"gemm", "attention", "memory", "host"}
    return f"unknown key; it begins with none of the known kinds{nearest(kind, kinds)}"


def part_problems(keys: Collection[str]) -> Iterator[tuple[str, str]]:
    """(key, what is missing beside it) of constants that mean nothing alone."""
    families: dict[GemmStem, set[str]] = {}
    for key in keys:
        if key.startswith("gemm.") and not key.endswith(".scale"):
            families.setdefault(gemm_stem(key), set()).add(key)
    for stem, own in families.items():
        behind = (each for other, each in families.items() if other.backs(stem))
        missing = _NEEDED - {key.rpartition(".")[2] for key in own.union(*behind)}
        if missing:
            yield (
                min(own),
                f"constants of a GEMM family belong together; missing beside it: {', '.join(sorted(missing))}",
            )
    hosts = [key for key in keys if key.startswith(KEY)]
    if hosts and RATIO not in hosts:
        yield min(hosts), f"stands beside {RATIO}, by which calls that were not measured are known"
    for together in (HELD, BESIDE):
        given = together & set(keys)
        if given and given != together:
            missing = together - given
            yield min(given), f"is measured together with {', '.join(sorted(missing))}; give all of them or none"


def _memory_problem(words: list[str]) -> str | None:
    """Why `<op>[.<library>][.<constant>]` is none; libraries have names of their own."""
    known = (*KERNELS, "default", FLOOR)
    if words[0] not in known:
        return f"unknown kernel{nearest(words[0], known)}"
    if len(words) > 3 or (len(words) == 3 and words[-1] not in _MEMORY) or (len(words) > 1 and words[0] == FLOOR):
        return f"unknown constant {words[-1]!a}{nearest(words[-1], _MEMORY)}"
    if len(words) == 2 and words[-1] not in _MEMORY and (near := nearest(words[-1], _MEMORY, listed=False)):
        return f"unknown constant {words[-1]!a}{near}; a library needs a name that is less alike"
    return None


@cache
def _gemm_constants() -> frozenset[str]:
    """Imported late: the formula needs numpy, which listing stacks does not."""
    from hwprofiles.kernels.gemm_formula import GemmConstants

    return frozenset({*(each.name for each in fields(GemmConstants)), RESIDUAL, ANCHOR, "scale"})


@cache
def _attention_constants() -> frozenset[str]:
    from hwprofiles.kernels.attention import AttentionConstants

    return frozenset({*(each.name for each in fields(AttentionConstants)), RESIDUAL, ANCHOR})


@cache
def _kinds() -> frozenset[str]:
    """First words of the keys of everything but kernels, as the shipped stacks have them."""
    from hwprofiles import catalog
    from hwprofiles.efficiencies import load_efficiencies

    shipped = {key for name in catalog.measured_stacks() for key in catalog.read_stack(name).parameters}
    made = {group.prefix or next(iter(group.values)) for group in load_efficiencies().groups}
    alone = {name for group in load_efficiencies().groups if not group.prefix for name in group.values}
    return frozenset(key.partition(".")[0] for key in shipped | made | alone) - {"overlap"}


def _kernel_problem(words: list[str], names: frozenset[str], between: Collection[str]) -> str | None:
    """Why `<dtype>[.<between>]….<name>` is none; head sizes ("d128") may stand between."""
    if words[0] not in PEAK_OF_DTYPE:
        return f"unknown number format{nearest(words[0], PEAK_OF_DTYPE)}"
    for word in words[1:-1]:
        if word not in between and not (word[:1] == "d" and word[1:].isdigit()):
            return f"unknown part {word!a}{nearest(word, between)}"
    return (
        None if len(words) > 1 and words[-1] in names else f"unknown constant {words[-1]!a}{nearest(words[-1], names)}"
    )
