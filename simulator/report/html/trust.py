"""How well founded it is: where durations come from, how right the method was, what is left out, provenance."""

from __future__ import annotations

from simulator.report import facts, numbers
from simulator.report.html.blocks import Block, Items, Section, Table, Words, section
from simulator.results.run_result import RunResult
from simulator.results.step_result import BASIS_NAMES


def basis(result: RunResult, key: str) -> Section | None:
    """Shares of the time by where it comes from."""
    rows = tuple(
        (name, numbers.percent(share), facts.BASIS_WORDS[name])
        for name in BASIS_NAMES
        if (share := getattr(result.basis, name)) > 0
    )
    table = Table("Kernel and message time by where it comes from", ("", "share", ""), rows, frozenset({2}))
    return section(key, "Where durations come from", [table])


def not_modelled(result: RunResult, key: str) -> Section | None:
    """What a real run has and this result has not."""
    words = Words("A real run has these, and the figures above have not: what is left out is mostly lost time.", "note")
    return section(key, "What is not modelled", [words, Items(result.not_modelled)]) if result.not_modelled else None


def notes(result: RunResult, key: str) -> Section | None:
    """Warnings, and what a changed key dropped."""
    blocks: list[Block] = []
    if result.warnings:
        blocks.append(Items(result.warnings))
    if result.dropped:
        blocks += [Words("Dropped, as the key that they were chosen for changed:"), Items(result.dropped)]
    return section(key, "Warnings", blocks)


def provenance(result: RunResult, key: str) -> Section | None:
    """What it takes to compute the same again."""
    rows = (
        ("moesim", result.version),
        ("scenario", facts.name(result)),
        ("scenario hash (SHA-256)", result.scenario_sha256),
        ("stack", result.stack),
        ("stack hash (SHA-256)", result.stack_sha256),
        ("seed", str(result.seed)),
        ("random draws", str(result.scenario.get("draws", ""))),
    )
    table = Table("What it takes to compute the same again", ("", ""), rows, frozenset({1}))
    return section(key, "Provenance", [table])
