"""Which units stand on which pipeline stage; with virtual stages (parallel.vpp) a stage is a chunk, vpp of them a rank.

A unit code is E (embedding), d (dense layer), m (MoE layer), mtp (MTP module with its pass through the head) or L
(output head and loss). A layout text has the stages between "|": `E d*3 m | (m*4)*14 | m mtp L` has 16; `m*4` repeats
a unit, `(...)*14` the stages in the brackets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from simulator.scenario.model import ModelSpec
from simulator.scenario.section import MAX_LAYERS, MAX_STAGES

UnitCode = Literal["E", "d", "m", "mtp", "L"]
Stage = tuple[UnitCode, ...]
Layout = tuple[Stage, ...]

_TOKEN: Final = re.compile(r"\s*(mtp|[EdmL()|*]|[0-9]+)")
_MAX_DEPTH: Final = 4
MAX_SHOWN: Final = 80
"""Characters of a wrong layout that a message repeats."""


class LayoutError(ValueError):
    """Text or counts that are no layout of the model; the message says what was expected."""


def default_layer_counts(num_layers: int, num_stages: int, num_mtp: int, least_last: int = 1) -> tuple[int, ...]:
    """Transformer layers of every stage where the scenario does not say.

    num_stages: pp, with virtual stages pp * vpp.
    1. Layers that divide by the stages are split evenly.
    2. Else the output head counts as one layer and an MTP module as two (its layer and its pass through the head), as
       Megatron-LM counts the loss with `account_for_loss_in_pipeline_split`. The last stage holds the head and the MTP
       modules and gets floor(slots / stages) - (1 + 2 num_mtp) layers, at least `least_last`; slots are the layers and what
       counts as such. The other layers are split evenly over the other stages; what remains goes to the earliest stages
       after the first, which already holds the embedding.

    Raises LayoutError where there are more stages than layers.
    """
    if num_stages > num_layers:
        raise LayoutError(f"{num_stages} pipeline stages for {num_layers} layers; at most one stage a layer")
    base, rest = divmod(num_layers, num_stages)
    if rest == 0:
        return (base,) * num_stages
    extras = 1 + 2 * num_mtp
    last = max(least_last, (num_layers + extras) // num_stages - extras)
    base, rest = divmod(num_layers - last, num_stages - 1)
    others = [base + (1 <= stage <= rest) for stage in range(num_stages - 1)]
    return (*others, last)


def stage_layout(model: ModelSpec, num_stages: int, layers_per_stage: str | Sequence[int] | None) -> Layout:
    """The unit codes of every stage. Raises LayoutError: not a layout, or not of this model and number of stages."""
    if isinstance(layers_per_stage, str):
        layout = parse_layout(layers_per_stage)
    else:
        counts = layers_per_stage
        if counts is None:
            counts = default_layer_counts(model.num_layers, num_stages, model.mtp.num_modules)
        if sum(counts) != model.num_layers:
            raise LayoutError(f"the counts sum to {sum(counts)}; the model has {model.num_layers} layers")
        layout = _from_counts(model, counts)
    _check(layout, model, num_stages)
    return layout


def parse_layout(text: str) -> Layout:
    """The stages of a layout text. Raises LayoutError."""
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise LayoutError(f"unknown text {stripped[position : position + 12]!r}; units are E, d, m, mtp, L")
        tokens.append(match[1])
        position = match.end()
    parser = _Parser(tokens)
    stages = parser.stages(0)
    if parser.position < len(tokens):
        raise LayoutError("a ) without its (")
    return tuple(stages)


def _format_stage(stage: Stage) -> str:
    runs: list[tuple[str, int]] = []
    for code in stage:
        if runs and runs[-1][0] == code:
            runs[-1] = (code, runs[-1][1] + 1)
        else:
            runs.append((code, 1))
    return " ".join(code if count == 1 else f"{code}*{count}" for code, count in runs)


def _from_counts(model: ModelSpec, counts: Sequence[int]) -> Layout:
    """Layers in order over the stages; embedding first, MTP modules and head last."""
    layers: list[UnitCode] = ["d" if code == "d" else "m" for code in model.layers]
    stages: list[list[UnitCode]] = []
    position = 0
    for count in counts:
        stages.append(layers[position : position + count])
        position += count
    stages[0].insert(0, "E")
    modules: list[UnitCode] = ["mtp"] * model.mtp.num_modules
    stages[-1] += [*modules, "L"]
    return tuple(tuple(stage) for stage in stages)


def _check(layout: Layout, model: ModelSpec, num_stages: int) -> None:
    """Raise LayoutError unless the layout holds the model's units in order on num_stages non-empty stages."""
    if len(layout) != num_stages:
        raise LayoutError(f"the layout has {len(layout)} stages; pp * vpp is {num_stages}")
    if () in layout:
        raise LayoutError(f"stage {layout.index(())} has no layer; each stage needs one, the embedding or the head")
    found = [code for stage in layout for code in stage]
    expected = _from_counts(model, [model.num_layers])[0]
    if tuple(found) != expected:
        units = _format_stage(tuple(found))
        units = units if len(units) <= MAX_SHOWN else f"{units[: MAX_SHOWN - 1]}…"
        raise LayoutError(f"the units are {units!r}; the model has, in this order, {_format_stage(expected)!r}")


class _Parser:
    """Recursive descent: layout = part {"|" part}; part = "(" layout ")" "*" n, or units; unit = code ["*" n]."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.position = 0

    def stages(self, depth: int) -> list[Stage]:
        """The stages up to the end or to a closing bracket."""
        if depth > _MAX_DEPTH:
            raise LayoutError(f"brackets more than {_MAX_DEPTH} deep")
        result = self._part(depth)
        while self._take("|"):
            result += self._part(depth)
        return result

    def _part(self, depth: int) -> list[Stage]:
        if self._take("("):
            inner = self.stages(depth + 1)
            if not self._take(")"):
                raise LayoutError("a ( without its ); a group in brackets stands alone between |")
            times = self._times(MAX_STAGES // len(inner), "stages", MAX_STAGES)
            return inner * times
        units: list[UnitCode] = []
        while (code := self._code()) is not None:
            units += [code] * self._times(2 * MAX_LAYERS - len(units), "units of a stage", 2 * MAX_LAYERS)
        if self._peek() == "(":
            raise LayoutError(
                "a ( inside a stage; brackets repeat whole stages and stand alone between |, write the units out"
            )
        if not units:
            raise LayoutError("a stage without a unit")
        return [tuple(units)]

    def _code(self) -> UnitCode | None:
        for code in ("E", "d", "m", "mtp", "L"):
            if self._take(code):
                return code  # type: ignore[return-value]
        return None

    def _times(self, limit: int, what: str, allowed: int) -> int:
        """The n of "* n", 1 where there is none."""
        if not self._take("*"):
            return 1
        text = self._peek()
        if text is None or not text.isdigit():
            raise LayoutError("a * without a number")
        self.position += 1
        if not 1 <= (int(text) if len(text) < 8 else limit + 1) <= limit:
            raise LayoutError(f"*{text[:20]} makes more than {allowed} {what}, or none")
        return int(text)

    def _peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _take(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self.position += 1
        return True
