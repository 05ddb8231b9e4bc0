"""How long a rollout takes: closed forms of answers of one length, and laws of waiting for the longest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from simulator.run.kinds.rollout import Answers, generating_s

NONE: Mapping[str, float] = {}


@dataclass(frozen=True)
class Fixed:
    """An engine whose step takes a + b sequences + c tokens of context, which holds `most` sequences."""

    fixed: float = 0.01
    a_sequence: float = 0.001
    a_token: float = 0.0
    most: float = 100.0
    yields: float = 1.0

    def tokens_per_step(self, values: Mapping[str, float]) -> float:
        return self.yields

    def most_sequences(self, values: Mapping[str, float], context: float) -> float:
        return self.most

    def step_s(self, values: Mapping[str, float], batch: float, context: float) -> float:
        return self.fixed + self.a_sequence * batch + self.a_token * context


def answers(number: float, *, gpus: int = 8, mean: float = 1000.0, cv: float = 0.0, longest: float = 8192.0) -> Answers:
    return Answers(number=number, number_of_all=number * gpus, mean=mean, cv=cv, longest=longest, prompt=200.0)


@pytest.mark.parametrize("yields", [1.0, 1.85])
def test_equal_answers_end_together(yields: float) -> None:
    engine = Fixed(yields=yields)
    assert generating_s(engine, NONE, answers(50.0)) == pytest.approx(1000 / yields * (0.01 + 0.05))


def test_equal_answers_beyond_the_batch_follow_in_waves() -> None:
    engine = Fixed()
    one, three = (generating_s(engine, NONE, answers(number)) for number in (100.0, 300.0))
    assert three == pytest.approx(one + 2 * 1000 * (0.01 + 0.1), rel=1e-9)
    assert generating_s(engine, NONE, answers(100.0), limit=50.0) == pytest.approx(
        generating_s(engine, NONE, answers(50.0)) + 1000 * (0.01 + 0.05)
    )


def test_a_step_that_costs_the_same_whatever_its_batch_waits_for_the_longest() -> None:
    """The drain is the longest answer's tokens, which no mean shortens."""
    engine, drawn = Fixed(a_sequence=0.0), answers(64.0, cv=1.0)
    longest = generating_s(engine, NONE, drawn) / 0.01
    assert 4000 < longest <= 8192
    assert longest == pytest.approx(drawn.length(3.09), rel=0.05)  # the longest of 512: the 99.9 % point


def test_a_step_that_costs_by_the_sequence_counts_tokens_alone() -> None:
    """Where nothing is fixed, the drain is the tokens of all answers, whatever their lengths."""
    engine, drawn = Fixed(fixed=0.0, a_sequence=0.001), answers(64.0, cv=0.8)
    assert generating_s(engine, NONE, drawn) == pytest.approx(64 * drawn.tokens * 0.001, rel=1e-3)


def test_context_counts_from_the_prompt_on() -> None:
    engine = Fixed(fixed=0.0, a_sequence=0.0, a_token=1e-5)
    assert generating_s(engine, NONE, answers(10.0)) == pytest.approx(1000 * 1e-5 * (200 + 500), rel=0.1)


def test_more_longer_or_more_uneven_answers_take_longer() -> None:
    engine, usual = Fixed(), answers(200.0, cv=0.8, longest=1e6)
    seconds = generating_s(engine, NONE, usual)
    for changed in (
        replace(usual, number=400.0, number_of_all=3200.0), replace(usual, mean=1500.0), replace(usual, cv=1.2),
    ):  # fmt: skip
        assert generating_s(engine, NONE, changed) > seconds
    assert generating_s(engine, NONE, replace(usual, longest=2000.0)) < seconds
    assert generating_s(replace(engine, most=400.0), NONE, usual) < seconds


def test_answers_are_cut_at_the_longest() -> None:
    drawn = answers(10.0, mean=5000.0, cv=1.0, longest=2000.0)
    assert drawn.tokens < 2000 and drawn.length(5.0) == 2000.0
    assert answers(10.0, mean=5000.0, longest=2000.0).tokens == 2000.0
