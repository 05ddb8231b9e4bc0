"""How a GPU's process issues its work."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from hwprofiles.hosts import Executor
from simulator.scenario.section import AsPlain, Section

GraphScope = Literal["attn", "mlp", "moe", "moe_router", "moe_preprocess"]
"""What a captured graph of a layer holds, as Megatron-Core's --cuda-graph-modules name it."""
GRAPH_SCOPES: Final[tuple[str, ...]] = get_args(GraphScope)
WHOLE: Final = ("none", "full_iteration")


def _graphs(value: Any) -> Any:
    """none, full_iteration, or scopes without repetition in the order of GRAPH_SCOPES."""
    if isinstance(value, str) and value in WHOLE:
        return value
    named = isinstance(value, list | tuple) and bool(value) and all(isinstance(each, str) for each in value)
    if named and len(set(value)) == len(value) and set(value) <= set(GRAPH_SCOPES):
        return tuple(scope for scope in GRAPH_SCOPES if scope in value)
    text = f"must be none, full_iteration, or a list of some of {', '.join(GRAPH_SCOPES)}, each once"
    raise PydanticCustomError("cuda_graph", text)


class Host(Section):
    """The host process of each GPU, which issues what the GPU runs."""

    cuda_graph: Annotated[
        str | tuple[GraphScope, ...],
        PlainValidator(_graphs),
        AsPlain,
        WithJsonSchema({"anyOf": [{"enum": list(WHOLE)}, {"type": "array", "items": {"enum": list(GRAPH_SCOPES)}}]}),
    ] = "none"
    """What is captured once and issued by one call each time. full_iteration: all forwards and backwards of a step, which
    needs shapes that no router decides. Scopes of a layer: attn: attention; mlp: a dense layer's FFN; moe_router: router and
    shared experts; moe_preprocess: what is counted before a dispatch; moe: all of a MoE layer behind attention.
    """
    dispatch: Executor | None = None
    """How work is issued. eager: plain torch modules; transformer_engine: its modules as Megatron-Core uses them; compiled:
    regions that torch.compile made; custom: own code with few launches, or one program of the whole step. null: not known,
    between the first two.
    """
    launch_s: Annotated[float, Field(ge=0, le=1)] | None = None
    """Seconds of the host for every kernel and collective; null: what the framework's calls take on the node's processor."""
