"""Attention inside packed documents on an H200, predicted beside measured; nothing was fitted to it."""

from __future__ import annotations

from statistics import mean

import pytest

from validation.packed_attention import Call, block_of, calls, main

LONG = 2000
"""Tokens of a mean document from which on the formula meets the calls."""
FEW_BLOCKS = 1000
"""Blocks of a call below which the last ones, that some SMs compute alone, weigh in what a block takes."""


@pytest.fixture(scope="module")
def found() -> list[Call]:
    return list(calls())


def equal(found: list[Call], phase: str) -> list[Call]:
    """Calls of many blocks with equal documents of 250 and 1,000 tokens, heads of 128."""
    return [
        call
        for call in found
        if call.phase == phase
        and call.documents[0] in (250, 1000)
        and call.head_dim == 128
        and call.tokens * call.heads > FEW_BLOCKS * 128
    ]


def test_every_row_is_predicted(found: list[Call]) -> None:
    assert len(found) == 2 * 42


@pytest.mark.parametrize(("phase", "average"), [("F", 0.04), ("I", 0.03)])
def test_documents_of_thousands_of_tokens_and_whole_sequences(found: list[Call], phase: str, average: float) -> None:
    errors = [abs(call.error) for call in found if call.phase == phase and call.mean_length > LONG]
    assert len(errors) == 18 and mean(errors) < average and max(errors) < 0.09


@pytest.mark.parametrize(("phase", "average", "largest"), [("F", -0.22, 0.42), ("I", -0.10, 0.24)])
def test_short_documents_are_predicted_too_fast(found: list[Call], phase: str, average: float, largest: float) -> None:
    errors = [call.error for call in found if call.phase == phase and call.mean_length < LONG]
    assert len(errors) == 24 and mean(errors) == pytest.approx(average, abs=0.02)
    assert max(errors) < 0.02 and min(errors) > -largest


@pytest.mark.parametrize(("phase", "block_s", "spread"), [("F", 2.8e-6, 0.12), ("I", 5.0e-6, 0.2)])
def test_what_is_missing_is_the_same_time_a_block(found: list[Call], phase: str, block_s: float, spread: float) -> None:
    """Whatever the heads, the sequence and the documents' length: the start and end of a block, not the pairs in it."""
    missing = [call.block_excess_s for call in equal(found, phase)]
    assert len(missing) >= 6
    assert all(each == pytest.approx(block_s, rel=spread) for each in missing)


def test_a_call_computes_the_pairs_inside_its_documents() -> None:
    block = block_of((300, 100, 100))
    assert block is not None
    assert block.pairs == (300**2 + 2 * 100**2) / 2
    assert sorted(each.number for each in block.documents) == [1, 2]
    assert block_of((500,)) is None


def test_the_command_prints_a_line_for_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 13
    assert all(line.count(",") == head.count(",") for line in lines)
