"""Host processors, and what it takes one of them to issue work: a file a processor, and one a way of issuing (dispatch/).

The tables of dispatch are of one processor; another one's seconds are theirs times its ratio. Any of the calls below is the
framework's own: the driver's launch is the smallest part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from math import exp, fsum, log
from pathlib import Path
from typing import Final, Literal, get_args

from hwprofiles.fields import Text
from hwprofiles.names import nearest
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError, read_mapping, read_record
from hwprofiles.schema import Record
from hwprofiles.stack_records import Parameter
from hwprofiles.yaml_file import excerpt

Executor = Literal["eager", "transformer_engine", "compiled", "custom"]
"""How work is issued: plain torch modules; Transformer Engine's modules as Megatron-Core uses them; regions that torch.compile
made; own code with few launches, or a program of the whole step."""

EXECUTORS: Final[tuple[Executor, ...]] = get_args(Executor)
BETWEEN: Final[tuple[Executor, ...]] = ("eager", "transformer_engine")
"""Between which work is issued where nobody says."""
_ROOT: Final = Path(__file__).parent


class HostCpu(Record):
    """A host's processor. seconds: of its calls over those of the processor that the tables of dispatch are of.

    reported: what of its name stands in what Linux calls it; of alike processors, each.
    """

    description: Text
    seconds: Parameter
    reported: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class DispatchCosts:
    """Seconds of the host a call; _f_s forward, _b_s backward.

    launch: an operator that launches one kernel, with its share of views, allocations and Python. module: a module around a
    GEMM, the GEMM included; in the backward one of its two gradients. function: a fused operator behind a function of
    autograd. attention: the attention core's module. cast: one tensor cast to fewer bits. looped_expert, grouped_expert: what
    a grouped linear layer does an expert and GEMM, in a loop of products or before one call. expert_cast: an expert's tensor.
    parameter: a parameter's accumulation and hook in the backward. collective: a collective or a send. message: a dispatch or
    combine of the experts' rows. layer: what a layer does beside its counted operators (views, allocations, small operators,
    Python); routed: more of that in a layer with experts. graph: a replay of a captured graph, and
    graph_node more for each kernel in it. sync: what a host that waits
    for a result loses beyond the result's own time.
    """

    launch_f_s: float
    launch_b_s: float
    module_f_s: float
    module_b_s: float
    function_f_s: float
    function_b_s: float
    attention_f_s: float
    attention_b_s: float
    cast_s: float
    looped_expert_f_s: float
    looped_expert_b_s: float
    grouped_expert_f_s: float
    grouped_expert_b_s: float
    expert_cast_s: float
    parameter_s: float
    collective_s: float
    message_f_s: float
    message_b_s: float
    layer_f_s: float
    layer_b_s: float
    routed_f_s: float
    routed_b_s: float
    graph_s: float
    graph_node_s: float
    sync_s: float

    def times(self, ratio: float) -> DispatchCosts:
        """Of a host whose every call takes so many times as long."""
        return DispatchCosts(*(getattr(self, name) * ratio for name in KEYS))


KEYS: Final = tuple(each.name for each in fields(DispatchCosts))


@dataclass(frozen=True, slots=True)
class CostRange:
    """What calls take, and the ends of what is believed, all calls dear or all cheap together."""

    value: DispatchCosts
    low: DispatchCosts
    high: DispatchCosts


@cache
def host_names() -> tuple[str, ...]:
    """Processors of the catalogue, sorted."""
    return tuple(sorted(path.stem for path in _ROOT.glob("*.yaml")))


@cache
def load_host(name: str) -> HostCpu:
    """The processor of that name. Raises CatalogError: no such name (the nearest are named), or a wrong file."""
    known = host_names()
    if name not in known:
        raise CatalogError(f"no host processor is called {excerpt(name)}{nearest(str(name), known)}")
    path = _ROOT / f"{name}.yaml"
    record = read_record(path, HostCpu)
    if record.name != name:
        raise CatalogError([Problem(f"{path}:1", "name", f"{record.name}; the file's name says {name}")])
    return record


@cache
def load_dispatch(executor: Executor) -> dict[str, Parameter]:
    """Key of DispatchCosts → seconds with their range and source. Raises CatalogError: a wrong file, a key more or less."""
    path = _ROOT / "dispatch" / f"{executor}.yaml"
    read = read_mapping(path, Parameter)
    problems = [Problem(str(path), key, f"is no cost of a call{nearest(key, KEYS)}") for key in read.keys() - set(KEYS)]
    problems += [Problem(str(path), key, "is missing") for key in KEYS if key not in read]
    if problems:
        raise CatalogError(problems)
    return read


@cache
def known_in_a_model() -> Parameter:
    """Seconds of calls between others of a model over those in a loop of their like. Raises CatalogError: a wrong file."""
    return read_mapping(_ROOT / "dispatch" / "in_a_model.yaml", Parameter)["in_a_model"]


@cache
def dispatch_range(executor: Executor | None) -> CostRange:
    """What calls take on the processor of the tables. None: it is not known how work is issued, plainly or by Transformer
    Engine: the geometric middle of both, from the lower of their lower ends to the higher of their higher ones.
    """
    tables = [load_dispatch(each) for each in ((executor,) if executor else BETWEEN)]
    return CostRange(
        DispatchCosts(*(middle([table[key].value for table in tables]) for key in KEYS)),
        DispatchCosts(*(min(table[key].low for table in tables) for key in KEYS)),
        DispatchCosts(*(max(table[key].high for table in tables) for key in KEYS)),
    )


def middle(values: list[float]) -> float:
    """The geometric mean; the arithmetic one where one of them is 0."""
    if min(values) > 0:
        return exp(fsum(map(log, values)) / len(values))
    return fsum(values) / len(values)
