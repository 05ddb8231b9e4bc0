"""The only place that turns SI numbers into text: ms, GB, TFLOP/s, %, USD, with as many digits as the interval bears.

Text is for people; programs read the result document. Every function takes SI (seconds, bytes, FLOP, fractions, USD).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwprofiles import units
from simulator.results.interval import Interval

DEFAULT_DIGITS = 3
"""Significant digits of a number whose uncertainty is not known."""
MAX_DECIMALS = 9
MANY_WHOLES = 10
"""From so many wholes on a percentage has three digits and no decimal."""

TIME_UNITS = (
    (units.SECONDS_PER_DAY, "d"), (units.SECONDS_PER_HOUR, "h"), (units.SECONDS_PER_MINUTE, "min"), (1.0, "s"),
    (units.MILLI, "ms"), (units.MICRO, "µs"), (units.NANO, "ns"),
)  # fmt: skip
PREFIXES = (
    (units.YOTTA, "Y"), (units.ZETTA, "Z"), (units.EXA, "E"), (units.PETA, "P"), (units.TERA, "T"),
    (units.GIGA, "G"), (units.MEGA, "M"), (units.KILO, "k"), (1.0, ""),
)  # fmt: skip
AMOUNTS = ((units.TERA, "T"), (units.GIGA, "B"), (units.MEGA, "M"), (units.KILO, "K"), (1.0, ""))
"""The field's letters for counts of tokens, parameters and GPU-hours: thousand, million, billion, trillion."""


def decimals_for(value: float, uncertainty: float | None = None) -> int:
    """Decimals that show `value`: so that the last digit is a tenth of the uncertainty's leading one, at least.

    Without an uncertainty (None or 0): DEFAULT_DIGITS significant digits. Never negative, at most MAX_DECIMALS.
    """
    if uncertainty:
        decimals = 1 - math.floor(math.log10(abs(uncertainty)))
    elif value:
        rounded = float(f"{abs(value):.{DEFAULT_DIGITS - 1}e}")  # 99.96 is shown as 100, with no decimals more
        decimals = DEFAULT_DIGITS - 1 - math.floor(math.log10(rounded))
    else:
        decimals = 0
    return min(max(decimals, 0), MAX_DECIMALS)


def plain(value: float, uncertainty: float | None = None) -> str:
    """A number without a unit: 12,345 or 0.123."""
    return f"{value:,.{decimals_for(value, uncertainty)}f}"


def step_time(step_s: float, interval: Interval | None = None) -> str:
    """A step time with its interval beside it, in seconds, at least one decimal: "19.4 s (18.2 to 21.0)"."""
    if interval is None:
        return f"{step_s:,.{max(decimals_for(step_s), 1)}f} s"
    decimals = max(decimals_for(step_s, interval.width / 2), 1)
    return f"{step_s:,.{decimals}f} s ({interval.low:,.{decimals}f} to {interval.high:,.{decimals}f})"


def seconds(duration_s: float) -> str:
    """A duration in the unit that suits it: "1.23 s", "45.6 ms", "53.1 d". Below a nanosecond it is "0 s"."""
    if abs(duration_s) < units.NANO:
        return "0 s"
    size, unit = next(pair for pair in TIME_UNITS if abs(duration_s) >= pair[0])
    return f"{plain(duration_s / size)} {unit}"


def duration_estimate(duration_s: float, interval: Interval) -> tuple[str, str]:
    """A duration and the ends of its interval, both in the unit that suits the duration: ("52.3 d", "49.6 to 58.2 d")."""
    size, unit = next((pair for pair in TIME_UNITS if abs(duration_s) >= pair[0]), TIME_UNITS[-1])
    decimals = decimals_for(duration_s / size, interval.width / 2 / size)
    value, low, high = (f"{each / size:,.{decimals}f}" for each in (duration_s, interval.low, interval.high))
    return f"{value} {unit}", f"{low} to {high} {unit}"


def time_unit(span_s: float) -> tuple[float, str]:
    """The unit of an axis that spans so many seconds: s, ms or µs, and its size."""
    return next((pair for pair in TIME_UNITS if pair[0] <= 1.0 and span_s >= pair[0]), (units.MICRO, "µs"))


def moment(at_s: float, span_s: float) -> str:
    """A time inside a window of `span_s`, so that a thousandth of the window tells: "12.3456 s"."""
    size, unit = time_unit(max(abs(at_s), span_s))
    return f"{at_s / size:,.{decimals_for(at_s / size, span_s / size / units.KILO)}f} {unit}"


def seconds_to_compare(duration_s: float) -> str:
    """A duration beside a published one: thousandths of the larger unit, so that the error can be checked by hand."""
    return f"{duration_s:.3f} s" if duration_s >= 0.1 else f"{duration_s * units.KILO:.3f} ms"


def column_of_seconds(durations_s: Sequence[float], step_s: float) -> tuple[str, list[str]]:
    """Parts of a step as a column: the unit (s, or ms for a short step), and the numbers with equal decimals."""
    size, unit = (1.0, "s") if step_s >= 1 else (units.MILLI, "ms")
    decimals = max(decimals_for(step_s / size), 2 if unit == "s" else 1)
    return unit, [f"{duration / size:,.{decimals}f}" for duration in durations_s]


def amount_of_bytes(size_bytes: float) -> str:
    """Bytes by powers of ten: "66.1 GB"."""
    return _scaled(size_bytes, PREFIXES, "B")


def bytes_rate(bytes_per_s: float) -> str:
    """A bandwidth: "50.0 GB/s"."""
    return _scaled(bytes_per_s, PREFIXES, "B/s")


def flop(amount_flop: float) -> str:
    """An amount of work: "250 GFLOP"."""
    return _scaled(amount_flop, PREFIXES, "FLOP")


def flop_rate(flop_per_s: float) -> str:
    """A rate of work: "385 TFLOP/s"."""
    return _scaled(flop_per_s, PREFIXES, "FLOP/s")


def tflops(rate_tflops: float) -> str:
    """A rate that is already in 1e12 FLOP/s, as the field's TFLOPS are: "385" (the column names the unit)."""
    return plain(rate_tflops)


def whole(count: float, uncertainty: float | None = None) -> str:
    """A count, rounded to a whole number: "14,991"; to tens or hundreds where the uncertainty bears no more: "1,320"."""
    zeros = math.floor(math.log10(uncertainty)) - 1 if uncertainty else 0
    return f"{round(count, -zeros) if zeros > 0 else count:,.0f}"


def amount(count: float, uncertainty: float | None = None) -> str:
    """A count of tokens, parameters or hours: "14.8 T", "671 B", "2.66 M", "512". Counts below a thousand keep no
    fraction.
    """
    if abs(count) < units.KILO:
        return f"{count:,.0f}"
    return _scaled(count, AMOUNTS, "", uncertainty)


def quantity(count: float, uncertainty: float | None = None) -> str:
    """GPU-hours or USD: as `amount`, and below a thousand with the digits that are known: "10.9", "0.024"."""
    return amount(count, uncertainty) if abs(count) >= units.KILO else plain(count, uncertainty)


def percent(fraction: float) -> str:
    """A fraction (0 to 1) as a percentage of one decimal: "38.9 %"; from ten wholes on three digits: "63,100 %"."""
    return _percent(fraction, "")


def rough_percent(fraction: float) -> str:
    """A fraction for a headline: whole per cent, below one per cent a decimal: "17 %", "0.4 %"."""
    return f"{fraction:.0%}".replace("%", " %") if abs(fraction) >= 0.01 or not fraction else percent(fraction)


def rough_change(fraction: float) -> str:
    """A change for a headline: "-5 %", "+11 %", "+0.4 %"."""
    return f"{'+' if fraction > 0 else ''}{rough_percent(fraction)}"


def signed_percent(fraction: float) -> str:
    """A change relative to a whole, with its sign: "+2.3 %"; no change is "0.0 %"."""
    return percent(0.0) if round(fraction, 3) == 0 else _percent(fraction, "+")


def signed_percent_range(low: float, high: float) -> str:
    """The ends of such changes: "-13.0 % to +15.0 %"."""
    return f"{signed_percent(low)} to {signed_percent(high)}"


def signed_seconds(difference_s: float) -> str:
    """A difference of durations with its sign: "+1.23 s", "-45.6 ms"."""
    return f"{'-' if difference_s < 0 else '+'}{seconds(abs(difference_s))}"


def usd(money_usd: float, uncertainty: float | None = None) -> str:
    """Money: "5.33 M USD"; below a thousand to the cent: "2.00 USD"."""
    if abs(money_usd) < units.KILO:
        return f"{money_usd:,.2f} USD"
    return f"{_scaled(money_usd, AMOUNTS, '', uncertainty)} USD"


def amount_range(low: float, high: float) -> str:
    """The ends of an interval of a count or of money (no currency): "2.4 to 2.9 M"; both ends in the larger one's
    unit.
    """
    size, prefix = _unit_of(max(abs(low), abs(high)), AMOUNTS)
    decimals = decimals_for(high / size, (high - low) / 2 / size)
    return f"{low / size:,.{decimals}f} to {high / size:,.{decimals}f} {prefix}".rstrip()


def by_key(key: str, value: object) -> str:
    """A value under a key that ends in its unit, as text: ("nic.latency_s", 8e-6) is "8.00 µs"; other values as they
    are.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "yes" if value is True else "no" if value is False else str(value)
    for suffix, as_text in (("_bytes_per_s", bytes_rate), ("_flop_per_s", flop_rate), ("_bytes", amount_of_bytes),
                            ("_flop", flop), ("_usd_per_gpu_hour", usd), ("_usd", usd), ("_s", seconds)):  # fmt: skip
        if key.endswith(suffix):
            return as_text(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < units.MEGA else amount(value)


def bar(fraction: float, width: int) -> str:
    """A fraction (0 to 1) as a horizontal bar of at most `width` characters, to an eighth of a character."""
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def _percent(fraction: float, sign: str) -> str:
    if abs(fraction) >= MANY_WHOLES and math.isfinite(fraction):
        return f"{float(f'{fraction:.{DEFAULT_DIGITS - 1}e}'):{sign},.0%}".replace("%", " %")
    return f"{fraction:{sign}.1%}".replace("%", " %")


def _unit_of(value: float, steps: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest unit of which there is one; what rounds to one counts: 999.9 thousand are a million."""
    rounded = float(f"{abs(value):.{DEFAULT_DIGITS - 1}e}")
    return next((pair for pair in steps if rounded >= pair[0]), steps[-1])


def _scaled(value: float, steps: Sequence[tuple[float, str]], unit: str, uncertainty: float | None = None) -> str:
    size, prefix = _unit_of(value, steps)
    text = plain(value / size, uncertainty / size if uncertainty else None)
    return f"{text} {prefix}{unit}".rstrip()
