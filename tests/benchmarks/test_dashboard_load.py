"""Law, by hand: how long users wait for the first answer to a change, and what memory the server takes meanwhile.

Every user has a seed of his own, so that no two of them ask for the same step. Figures that this measured: docs/dashboard.md.
`LOAD_SECONDS=1800 pytest …` makes a soak of it. Requests go to this machine alone, and end with the time.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest

from tests.benchmarks.browser_tab import Tab
from tests.dashboards.served import server

pytestmark = [pytest.mark.benchmark_ratio, pytest.mark.timeout(0)]

SECONDS = float(os.environ.get("LOAD_SECONDS", "90"))
EVERY_S = 10.0
NUM_USERS = 20
READY_S = 20.0
MAX_BYTES = 1_000_000_000

CHEAP = {
    "price": [f"{cents / 100:.2f}" for cents in range(100, 500)],
    "tokens": [f"{amount}e9" for amount in range(500, 20_000, 7)],
}
"""What never simulates."""
MIXTRAL = {
    "gpus": ["112", "448", "896", "1792"],
    "pp": ["7", "28"],
    "batch": [str(64 * number) for number in range(4, 60)],
    "micro": ["1", "2"],
    "recompute": ["none", "full"],
    "nodes": ["1", "2", "4"],
}
DEEPSEEK = {
    "gpus": ["1024", "4096"],
    "schedule": ["1f1b"],
    "batch": [str(1024 * number) for number in range(8, 30)],
    "recompute": ["full"],
    "nodes": ["2", "8"],
}


@dataclass
class User:
    """One user: how long he waited, by what he changed."""

    number: int
    preset: str
    simulating: dict[str, list[str]]
    waits: list[tuple[str, float]] = field(default_factory=list)
    stalls: list[str] = field(default_factory=list)

    async def work(self, port: int, seconds: float) -> None:
        """Open the page, then change one thing every ten seconds."""
        chance = random.Random(self.number)
        base = {"preset": self.preset, "seed": str(self.number)}
        end = time.monotonic() + seconds
        tab = Tab(port)
        await asyncio.sleep(EVERY_S * chance.random())
        try:
            self.waits.append(("open", await tab.visit(base, is_answered)))
            changes: dict[str, str] = {}
            while time.monotonic() + EVERY_S < end:
                await asyncio.sleep(EVERY_S * chance.uniform(0.5, 1.5))
                name, changes = self.change(chance, changes)
                self.waits.append((name, await tab.visit({**base, **changes}, is_answered)))
        finally:
            self.stalls = tab.stalls
            await tab.close()

    def change(self, chance: random.Random, changes: dict[str, str]) -> tuple[str, dict[str, str]]:
        """(what, all changes): seven of ten are prices, tokens and counts; the others begin from the preset again."""
        if chance.random() < 0.7:
            name = chance.choice(["price", "tokens", "gpus"])
            return name, {**changes, name: chance.choice(CHEAP.get(name) or self.simulating["gpus"])}
        name = chance.choice([each for each in self.simulating if each != "gpus"])
        kept = {each: text for each, text in changes.items() if each in CHEAP}
        return name, {**kept, name: chance.choice(self.simulating[name])}


def is_answered(tab: Tab) -> bool:
    """Whether the page shows figures: of a first answer at least, or why there are none."""
    return any(True for _ in tab.of("metric")) or any(True for _ in tab.of("alert"))


def resident_bytes(root: int) -> int:
    """Memory of a process and all below it."""
    pages = os.sysconf("SC_PAGE_SIZE")
    parents: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                sizes[int(folder.name)] = int((folder / "statm").read_text().split()[1]) * pages

    def is_below(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    return sum(size for pid, size in sizes.items() if is_below(pid))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def watch(pid: int, seconds: float, sizes: list[int]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sizes.append(
            await asyncio.to_thread(resident_bytes, pid)
        )  # slow where processes are many: no user waits for it
        await asyncio.sleep(1.0)


def load(users: Sequence[User], folder: Path) -> tuple[list[float], list[int]]:
    """(waits of all changes, memory every second) of users at one server; prints what it measured."""
    sizes: list[int] = []

    async def all_of_them(port: int, pid: int) -> None:
        await asyncio.sleep(READY_S)
        await asyncio.gather(watch(pid, SECONDS, sizes), *(user.work(port, SECONDS) for user in users))

    with server(folder) as (process, port):
        asyncio.run(all_of_them(port, process.pid))
    waits = [wait for user in users for wait in user.waits]
    for name in sorted({name for name, _ in waits}):
        of_name = [seconds for each, seconds in waits if each == name]
        print(f"{name}: {len(of_name)}, median {median(of_name):.2f} s, p95 {percentile(of_name, 0.95):.2f} s")
    changes = [seconds for name, seconds in waits if name != "open"]
    print(f"changes: {len(changes)}, median {median(changes):.2f} s, p95 {percentile(changes, 0.95):.2f} s")
    print(f"pages that had to be asked for again: {[stall for user in users for stall in user.stalls]}")
    print(f"memory: first {sizes[0]:,}, last {sizes[-1]:,}, most {max(sizes):,} bytes")
    return changes, sizes


def test_twenty_users_on_a_small_model(tmp_path: Path) -> None:
    changes, sizes = load([User(number, "mixtral-8x22b", MIXTRAL) for number in range(NUM_USERS)], tmp_path)
    assert len(changes) > NUM_USERS * SECONDS / EVERY_S / 2
    assert percentile(changes, 0.95) <= 2.0
    assert max(sizes) <= MAX_BYTES


def test_three_users_on_a_large_model(tmp_path: Path) -> None:
    changes, sizes = load([User(number, "deepseek-v3", DEEPSEEK) for number in range(3)], tmp_path)
    assert len(changes) > 3 * SECONDS / EVERY_S / 2
    assert percentile(changes, 0.95) <= 5.0
    assert max(sizes) <= MAX_BYTES
