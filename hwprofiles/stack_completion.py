"""What a stack's folder lacks, from what is public of its GPU: kernels that a calibration cannot run, links, libraries, power.

The folder's own goes first: its rows before any formula, its parameters before the public ones. Constants of one fit are never
mixed: where the folder has a family of GEMMs (`gemm.<dtype>[.grouped]`, a variant or all), an attention library's pass, or a
memory-bound kernel's share, all public constants of it fall; so do the ratios beside held SMs and beside collectives, each as
a whole. What is taken keeps its own basis and range, and its source says that the folder has none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from hwprofiles.parameter_keys import BESIDE, HELD, gemm_stem
from hwprofiles.provenance import Source
from hwprofiles.stack_records import Parameter, Stack

NOTE_LIMIT = 2000
"""Letters of a source's note."""


def completed(stack: Stack, made: Stack) -> Stack:
    """The stack with the parameters of `made`, a stack of the same GPU, that nothing of its own stands for."""
    own = stack.parameters
    stands = _Stands(own)
    taken = {
        key: _of(entry, made) for key, entry in made.parameters.items() if key not in own and not stands.instead(key)
    }
    return replace(stack, parameters={**taken, **own})


class _Stands:
    """What a folder's keys stand for beside themselves."""

    def __init__(self, own: Collection[str]) -> None:
        self._gemms = {gemm_stem(key) for key in own if key.startswith("gemm.") and not key.endswith(".scale")}
        self._cores = {_core(key) for key in own if key.startswith("attention.")}
        self._memory = {key.split(".")[1] for key in own if key.startswith("memory.") and key.count(".") == 1}
        self._groups = [group for group in (HELD, BESIDE) if group & set(own)]

    def instead(self, key: str) -> bool:
        """Whether they stand for a public key of another fit."""
        kind = key.partition(".")[0]
        if kind == "gemm":
            stem = gemm_stem(key)
            return any(each.covers(stem) for each in self._gemms)
        if kind == "attention":
            return _core(key) in self._cores
        if kind == "memory":
            return key.split(".")[1] in self._memory - {"default"}
        return any(key in group for group in self._groups)


def _core(key: str) -> tuple[str, ...]:
    """Format, pass and library of an attention constant; head sizes are of one fit."""
    words = key.split(".")[1:-1]
    return tuple(word for word in words if not (word[:1] == "d" and word[1:].isdigit()))


def _of(entry: Parameter, made: Stack) -> Parameter:
    """A public constant in another stack: the state that it was measured in no longer goes without saying."""
    origin = entry.source
    note = "; ".join(part for part in (f"of {made.name}: the stack itself has none", origin.note) if part)[:NOTE_LIMIT]
    source = Source(kind=origin.kind, where=origin.where, date=origin.date, note=note)
    return entry.model_copy(update={"source": source, "state": entry.state or made.provenance.state})
