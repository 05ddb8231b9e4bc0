"""Instances fill sequences as the rule says: closed forms of equal lengths, and laws of unequal ones."""

from __future__ import annotations

import math

import pytest

from simulator.run.kinds.packing import RULES, kept_tokens, lengths, pack

PACKED = ("best_fit", "in_order")
SEQ = 4096


@pytest.mark.parametrize("length", [1, 64, 1000, 1365, 1366, 2048, 2049, 4096])
@pytest.mark.parametrize("rule", PACKED)
def test_equal_instances_fill_whole_places_of_a_sequence(length: int, rule: str) -> None:
    places = SEQ // length
    found = pack(float(length), 0.0, SEQ, rule)
    assert found.sequences == pytest.approx(1.0 / places, rel=places / 4096)
    assert found.padding_frac == pytest.approx(1.0 - places * length / SEQ, abs=places / 4096)
    assert found.cut_frac == 0.0


@pytest.mark.parametrize("cv", [0.0, 0.7, 1.5])
def test_one_instance_a_sequence_is_padded_by_what_it_lacks(cv: float) -> None:
    found = pack(1000.0, cv, SEQ, "none")
    assert found.sequences == 1.0
    assert found.padding_frac == pytest.approx(1.0 - found.tokens / SEQ)


def test_a_stream_has_no_padding_and_cuts_nothing_off() -> None:
    found = pack(3000.0, 2.0, SEQ, "stream")
    assert found.padding_frac == pytest.approx(0.0, abs=1e-12)
    assert found.cut_frac == 0.0
    assert found.tokens == pytest.approx(3000.0, rel=0.03)


@pytest.mark.parametrize("cv", [0.3, 1.0, 1.6])
@pytest.mark.parametrize("mean", [300.0, 1420.0, 3000.0])
def test_rules_are_ordered_and_none_loses_tokens(mean: float, cv: float) -> None:
    """The fewest sequences that hold all tokens, longest first, in order, one each; a bin of best fit is at worst 11/9 off."""
    found = {rule: pack(mean, cv, SEQ, rule) for rule in RULES if rule != "stream"}
    least = found["none"].tokens / SEQ
    assert least <= found["best_fit"].sequences <= found["in_order"].sequences <= 1.0
    assert found["best_fit"].sequences <= 2 * least + 1 / 4096
    for each in found.values():
        assert each.tokens == pytest.approx(kept_tokens(mean, cv, SEQ), rel=0.005)
        assert each.sequences * (1.0 - each.padding_frac) * SEQ == pytest.approx(each.tokens)


def test_longer_sequences_pad_less_and_cut_less() -> None:
    found = [pack(2000.0, 1.0, seq, "in_order") for seq in (4096, 16_384, 65_536)]
    assert [each.padding_frac for each in found] == sorted((each.padding_frac for each in found), reverse=True)
    assert [each.cut_frac for each in found] == sorted((each.cut_frac for each in found), reverse=True)
    assert found[0].cut_frac > 0.05


def test_drawn_lengths_have_the_mean_and_the_spread() -> None:
    drawn = lengths(1420.0, 1.0)
    mean = math.fsum(drawn) / len(drawn)
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in drawn) / len(drawn)) / mean
    assert mean == pytest.approx(1420.0, rel=0.01)
    assert spread == pytest.approx(1.0, rel=0.03)
