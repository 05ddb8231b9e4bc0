"""An H800 cluster and the two H800 stacks' network tables, as their files say."""

from __future__ import annotations

from pathlib import Path

import pytest

import hwprofiles
from hwprofiles.catalog import load_assumptions
from hwprofiles.collectives.rows import CollectiveTable
from hwprofiles.kernels.rows import KernelTable
from hwprofiles.provenance import Source
from hwprofiles.record_file import read_mapping
from hwprofiles.stack_records import Parameter, Stack, StackProvenance
from simulator.network.topology import Network
from simulator.network.wiring import Wiring

STACKS = Path(hwprofiles.__file__).parent / "stacks"


def network_stack(name: str) -> Stack:
    """The stack's network part, read from its own files only."""
    folder = STACKS / name
    return Stack(
        name=name,
        gpu="h800",
        description="network tables",
        kernels=KernelTable(),
        provenance=StackProvenance(
            gpu="h800", description="d", software="s", state="sustained", sources={"s": Source(kind="paper", where="p")}
        ),
        collectives=CollectiveTable.from_csv(folder / "collectives.csv"),
        parameters=read_mapping(folder / "network_parameters.yaml", Parameter),
        assumptions=load_assumptions(folder / "assumptions.yaml"),
    )


@pytest.fixture(scope="session")
def stack() -> Stack:
    return network_stack("h800-deepseek-2024")


@pytest.fixture(scope="session")
def notrace() -> Stack:
    return network_stack("h800-notrace")


@pytest.fixture(scope="session")
def h800() -> Network:
    """2,048 H800: NVLink 200 GB/s and one 400 Gb/s NIC a GPU, one direction, eight planes of 64-port switches."""
    return Network(
        num_gpus=2048,
        gpus_per_node=8,
        host_gpus=8,
        scale_up_bytes_per_s=200e9,
        scale_up_peer_bytes_per_s=200e9,
        nic_bytes_per_s=50e9,
        latency_same_leaf_s=2.8e-6,
        latency_cross_leaf_s=3.7e-6,
        latency_cross_pod_s=3.7e-6,
        routing="adaptive",
        topology="multi_plane_fat_tree",
        wiring=Wiring(8, 8, 64, 2, 1.0, 50e9),
    )
