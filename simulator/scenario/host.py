"""How a GPU's process issues its work."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from hwprofiles.hosts import Executor
from hwprofiles.yaml_file import excerpt
from simulator.scenario.section import AsPlain, Section

GraphScope = Literal["attn", "mlp", "moe", "moe_router", "moe_preprocess"]
"""What a captured graph of a layer holds, as Megatron-Core's --cuda-graph-modules name it."""
GRAPH_SCOPES: Final[tuple[str, ...]] = get_args(GraphScope)
WHOLE: Final = ("none", "full_iteration")


def _graphs(value: Any) -> Any:
    """none, full_iteration, or scopes without repetition in the order of GRAPH_SCOPES."""
    if isinstance(value, str) and value in WHOLE:
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(each, str) for each in value):
        as_list = f"; one scope is a list too: [{value}]" if isinstance(value, str) and value in GRAPH_SCOPES else ""
        raise _refusal(
            f"must be none, full_iteration, or a list of some of {', '.join(GRAPH_SCOPES)}, each once{as_list}"
        )
    for each in value:
        if each not in GRAPH_SCOPES:
            instead = f"{each} stands alone, not in a list" if each in WHOLE else f"allowed {', '.join(GRAPH_SCOPES)}"
            raise _refusal(f"{excerpt(each)} is no scope of a layer; {instead}")
        if value.count(each) > 1:
            raise _refusal(f"names {each} twice; name each scope once")
    if "moe" in value and {"moe_router", "moe_preprocess"} & set(value):
        raise _refusal("moe holds moe_router and moe_preprocess already; name moe alone, or the other two")
    if "moe_preprocess" in value and "moe_router" not in value:
        raise _refusal("moe_preprocess is captured behind moe_router; name both, or neither")
    return tuple(scope for scope in GRAPH_SCOPES if scope in value)


def _refusal(text: str) -> PydanticCustomError:
    return PydanticCustomError("cuda_graph", "{problem}", {"problem": text})


class Host(Section):
    """The host process of each GPU, which issues what the GPU runs."""

    cuda_graph: Annotated[
        str | tuple[GraphScope, ...],
        PlainValidator(_graphs),
        AsPlain,
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": list(WHOLE)},
                    {"type": "array", "items": {"enum": list(GRAPH_SCOPES)}, "minItems": 1, "uniqueItems": True},
                ]
            }
        ),
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
    costs: Literal["stack", "processor"] | None = None
    """Whose calls. stack: as they were measured on the machine of the scenario's stack; processor: as the catalogue has them
    for the node's processor; null: the stack's where the node has the processor that they were measured on.
    """
    pipeline_sync: Literal["none", "1f1b", "always"] = "none"
    """Where the host waits, at every exchange between pipeline ranks, until its GPU has done all that it was given and holds
    what it receives. none: nowhere, it issues on; 1f1b: in that schedule alone, as Megatron-LM does behind sends and receives
    that it batches; always: in the others too, as Megatron-LM does without --overlap-p2p-communication.
    """
