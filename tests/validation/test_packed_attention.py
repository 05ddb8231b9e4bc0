"""Attention inside packed documents on an H200, predicted beside measured; nothing was fitted to it."""

from __future__ import annotations

from statistics import mean

import pytest

from validation.packed_attention import Call, block_of, calls, differences, launch_s, main

SHORT, LONG = 600, 2000
"""Tokens of a mean document: below the first the formula is too fast by more than a sixth."""


@pytest.fixture(scope="module")
def found() -> list[Call]:
    return list(calls())


@pytest.fixture(scope="module")
def apart(found: list[Call]) -> list[Call]:
    return list(differences(found))


def test_every_row_is_predicted_and_paired(found: list[Call], apart: list[Call]) -> None:
    """42 rows, two passes; 14 cases of head size 128 have 32 and 8 heads."""
    assert (len(found), len(apart)) == (84, 28)
    assert {call.heads for call in apart} == {24}


@pytest.mark.parametrize("phase", ["F", "I"])
def test_a_short_call_takes_a_launch_longer_than_predicted_whatever_it_computes(found: list[Call], phase: str) -> None:
    """The host's launch of a call that stands alone: 0.24 ms, forward of every short call within 0.06."""
    mine = [call for call in found if call.phase == phase]
    assert launch_s(mine) == pytest.approx(2.36e-4, rel=0.02)
    short = [call.measured_s - call.predicted_s for call in mine if call.predicted_s < 2e-4]
    assert all(each == pytest.approx(launch_s(mine), abs=7e-5) for each in short)


@pytest.mark.parametrize(("phase", "largest"), [("F", 0.07), ("I", 0.03)])
def test_documents_of_thousands_of_tokens(apart: list[Call], phase: str, largest: float) -> None:
    errors = [call.error for call in apart if call.phase == phase and call.mean_length > LONG]
    assert len(errors) == 6 and max(map(abs, errors)) < largest


@pytest.mark.parametrize(("phase", "average", "short"), [("F", -0.14, -0.32), ("I", -0.07, -0.17)])
def test_shorter_documents_are_predicted_too_fast(apart: list[Call], phase: str, average: float, short: float) -> None:
    """Of about 1,000 tokens, and of 250 in the long sequence (in the short one a difference is near the launches' spread)."""
    mine = [call for call in apart if call.phase == phase]
    middle = [call.error for call in mine if SHORT < call.mean_length < LONG]
    tiny = [call.error for call in mine if call.mean_length < SHORT and call.tokens > 10_000]
    assert mean(middle) == pytest.approx(average, abs=0.02)
    assert mean(tiny) == pytest.approx(short, abs=0.02)


def test_a_call_computes_the_pairs_inside_its_documents() -> None:
    block = block_of((300, 100, 100))
    assert block is not None
    assert block.pairs == (300**2 + 2 * 100**2) / 2
    assert sorted(each.number for each in block.documents) == [1, 2]
    assert block_of((500,)) is None


def test_the_command_prints_groups_and_launches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 2 * 13 + 2
    assert lines[-1].startswith("# launch, backward: 2.3")
