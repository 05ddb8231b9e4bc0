"""How a GPU's process issues its work, and the rules of that."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hwprofiles.hosts import Executor
from simulator.scenario.section import Section


class Host(Section):
    """The host process of each GPU, which issues what the GPU runs."""

    dispatch: Executor | None = None
    """How work is issued. eager: plain torch modules; transformer_engine: its modules as Megatron-Core uses them; compiled:
    regions that torch.compile made; custom: own code with few launches, or one program of the whole step. null: not known,
    between the first two.
    """
    launch_s: Annotated[float, Field(ge=0, le=1)] | None = None
    """Seconds of the host for every kernel and collective; null: what the framework's calls take on the node's processor."""
