"""Law: text with a unit is the SI number that it says, correctly rounded, or an error that says what was expected."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles import units
from hwprofiles.units import DIMENSIONS, Dimension, UnitError, parse, quantity

KNOWN: list[tuple[str, Dimension, float]] = [
    ("400 Gb/s", "bytes_per_s", 50e9),
    ("400 GB/s", "bytes_per_s", 400e9),
    ("400Gbit/s", "bytes_per_s", 50e9),
    ("3.35 TB/s", "bytes_per_s", 3.35e12),
    ("80 GB", "bytes", 80e9),
    ("80 GiB", "bytes", 80 * 2**30),
    ("50 MiB", "bytes", 52428800),
    ("8 Gb", "bytes", 1e9),
    ("8 Gib", "bytes", 2**30),
    ("8 us", "s", 8e-6),
    ("8 µs", "s", 8e-6),
    ("8 μs", "s", 8e-6),
    ("3.6 us", "s", 3.6e-6),
    ("150 ns", "s", 1.5e-7),
    ("5 min", "s", 300.0),
    ("2 h", "s", 7200.0),
    ("1 d", "s", 86400.0),
    ("989.4 TFLOP/s", "flop_per_s", 989.4e12),
    ("9 PFLOP/s", "flop_per_s", 9e15),
    ("3.7 YFLOP", "flop", 3.7e24),
    ("700 W", "w", 700.0),
    ("10.2 kW", "w", 10200.0),
    ("2 kWh", "j", 7.2e6),
    ("1.98 GHz", "hz", 1.98e9),
    ("1e3 B", "bytes", 1000.0),
    (" .5 s ", "s", 0.5),
    ("-1 s", "s", -1.0),
]


@pytest.mark.parametrize(("text", "dimension", "expected"), KNOWN)
def test_known_quantities_are_exact(text: str, dimension: Dimension, expected: float) -> None:
    assert parse(text, dimension) == expected


def test_a_bit_is_an_eighth_of_a_byte_everywhere() -> None:
    for prefix in ("", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"):
        assert parse(f"8 {prefix}b", "bytes") == parse(f"1 {prefix}B", "bytes")
        assert parse(f"8 {prefix}b/s", "bytes_per_s") == parse(f"1 {prefix}B/s", "bytes_per_s")


@given(st.decimals(min_value=0, max_value=10**6, places=4))
def test_text_and_si_number_agree_to_the_last_bit(value: Decimal) -> None:
    assert parse(f"{value} us", "s") == float(f"{value}e-6")
    assert parse(f"{value} GB", "bytes") == float(f"{value}e9")


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize(("text", "own"), [(text, own) for text, own, _ in KNOWN[:24:3]])
def test_a_wrong_dimension_is_refused_and_says_what_was_expected(text: str, own: str, dimension: Dimension) -> None:
    if dimension == own:
        parse(text, dimension)
        return
    with pytest.raises(UnitError, match="expected a") as caught:
        parse(text, dimension)
    assert repr(text) in ascii(str(caught.value)) or ascii(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dimension", "hint"),
    [
        ("400 Gbps", "bytes_per_s", "Gb/s"),
        ("400 gb/s", "bytes_per_s", "GB/s or Gb/s"),
        ("80 KB", "bytes", "kB"),
        ("989 TFLOPS", "flop_per_s", "TFLOP/s"),
        ("989 TFLOPs", "flop_per_s", "TFLOP/s"),
        ("5 sec", "s", "did you mean s"),
        ("80 gib", "bytes", "GiB"),
        ("700 watt", "w", "700 W"),
    ],
)
def test_a_common_misspelling_names_the_right_unit(text: str, dimension: Dimension, hint: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse(text, dimension)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "80", "GB", "80 80 GB", "80 GB GB", "eighty GB", "nan GB", "inf GB", "1e999 GB", "0x50 GB", "1_000 GB",
        "1,000 GB", "٨ GB", "80 GB/s", "80 mB", "80 %", "1e9999999999 GB", "8" * 65 + " GB", "80\x00GB", "80 \x1b[31m",
        "80 G\u202eB", "--80 GB", "80e GB",
    ],
)  # fmt: skip
def test_malformed_text_is_refused_in_one_printable_line(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse(text, "bytes")
    message = str(caught.value)
    assert message.isprintable() and message.isascii() and len(message) < 300


@given(st.text(max_size=80))
def test_any_text_is_a_finite_number_or_a_unit_error(text: str) -> None:
    for dimension in DIMENSIONS:
        try:
            value = parse(text, dimension)
        except UnitError:
            continue
        assert value - value == 0.0


def test_quantity_parses_text_and_leaves_everything_else() -> None:
    assert quantity("80 GB", "bytes") == 80e9
    for value in (80, 80.0, None, True, [1]):
        assert quantity(value, "bytes") is value


def test_constants_are_powers() -> None:
    assert units.PETA == units.TERA * 1e3 == units.GIGA * 1e6 == units.MEGA * 1e9 == units.KILO * 1e12
    assert units.MEBI == units.KIBI**2 == 2**20
    assert units.SECONDS_PER_DAY == 24 * units.SECONDS_PER_HOUR == 1440 * units.SECONDS_PER_MINUTE


SYMBOLS: list[tuple[str, Dimension]] = [
    ("B", "bytes"), ("B/s", "bytes_per_s"), ("FLOP", "flop"), ("FLOP/s", "flop_per_s"), ("W", "w"), ("J", "j"), ("Hz", "hz")
]  # fmt: skip


@pytest.mark.parametrize(("symbol", "dimension"), [*SYMBOLS, ("Wh", "j"), ("b/s", "bytes_per_s")])
def test_every_prefix_is_a_thousand_times_the_one_before(symbol: str, dimension: Dimension) -> None:
    sizes = [parse(f"1 {prefix}{symbol}", dimension) for prefix in ("", "k", "M", "G", "T", "P", "E", "Z", "Y")]
    assert sizes == pytest.approx([sizes[0] * 1000.0**i for i in range(9)], rel=1e-15)


@pytest.mark.parametrize(("symbol", "dimension"), SYMBOLS)
def test_a_bare_si_unit_is_one(symbol: str, dimension: Dimension) -> None:
    assert parse(f"1 {symbol}", dimension) == 1.0


def test_binary_prefixes_are_1024_times_the_one_before_and_parts_of_a_second_a_thousandth() -> None:
    assert [parse(f"1 {prefix}iB", "bytes") for prefix in "KMGTP"] == [1024.0**i for i in range(1, 6)]
    assert [parse(f"1 {prefix}s", "s") for prefix in ("", "m", "u", "n", "p")] == [1.0, 1e-3, 1e-6, 1e-9, 1e-12]
