"""Faults of the spreadsheet, the CSV table, the price's offers, saved results and the version."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

SHEETS = Room(
    "sheets",
    (
        "tests/report/test_xlsx.py", "tests/report/test_csv.py", "tests/results/test_saved.py", "tests/test_version.py",
        "tests/hwprofiles/test_offers.py", "tests/run/test_economics.py", "tests/run/test_phase_intervals.py",
    ),
    (
        Fault(
            "simulator/report/sheets/phases.py",
            "at_full = tokens.term.or_na_below(in_ramp.term) - in_ramp.term",
            "at_full = tokens.term.or_na_below(in_ramp.term)",
            "the ramp's tokens are trained again at full batch",
        ),
        Fault(
            "simulator/report/sheets/phases.py",
            "at_full = tokens.term.or_na_below(in_ramp.term) - in_ramp.term",
            "at_full = tokens.term - in_ramp.term",
            "fewer tokens than the ramp has give negative steps",
        ),
        Fault(
            "simulator/report/sheets/phases.py",
            "return (hours * price).rounded(MICRO_DECIMALS)",
            "return hours * price",
            "the cost is not exact to the micro-USD",
        ),
        Fault(
            "simulator/report/sheets/phases.py",
            "costs = {end: guarded(price[end], partial(_usd, hours[end].term), NO_PRICE) for end in ENDS}",
            'costs = {end: guarded(price["value"], partial(_usd, hours[end].term), NO_PRICE) for end in ENDS}',
            "the ends of the cost take the price and not its ends",
        ),
        Fault(
            "simulator/report/sheets/term.py",
            'return Term(f"({self.formula}+{other.formula})", self.value + other.value)',
            'return Term(f"{self.formula}+{other.formula}", self.value + other.value)',
            "of a sum's formula only the last part is divided",
        ),
        Fault(
            "simulator/report/sheets/sheet.py",
            'return Guarded(f\'IF(ISNUMBER({cell}),{term.formula},"{words}")\', term.value if is_known else words)',
            "return Guarded(term.formula, term.value if is_known else words)",
            "without a price the cost is 0",
        ),
        Fault(
            "simulator/report/sheets/sheet.py",
            'plain = _CONTROL.sub("\\ufffd", str(text).replace("\\r\\n", "\\n").replace("\\r", "\\n"))',
            'plain = str(text).replace("\\r\\n", "\\n").replace("\\r", "\\n")',
            "characters that the file format has no place for are written",
        ),
        Fault(
            "simulator/report/sheets/styles.py",
            'return self.of(text_wrap=True, bold=bold, quote_prefix=True, align="left", indent=1)',
            'return self.of(text_wrap=True, bold=bold, align="left", indent=1)',
            "a text becomes a formula when its cell is edited",
        ),
        Fault(
            "simulator/report/sheets/workbook.py",
            '"author": "moesim", "created": CREATED}',
            '"author": "moesim"}',
            "the clock stands in the file",
        ),
        Fault(
            "simulator/report/csv_text.py",
            '_STARTS: Final = "=+\\\\-@\\t\\r\\n＝＋－＠"',
            '_STARTS: Final = "=+\\\\-@\\t\\r＝＋－＠"',
            "a text that begins with a line feed is not guarded",
        ),
        Fault(
            "simulator/report/csv_text.py",
            "        return guarded(value)\n",
            "        return value\n",
            "texts of the table may be formulas",
        ),
        Fault(
            "simulator/report/long_table.py",
            'yield Row(section, path, child, unit_of(path), ends["low"], ends["high"])',
            'yield Row(section, path, child, unit_of(path), ends["high"], ends["low"])',
            "the ends of an interval change places",
        ),
        Fault(
            "simulator/results/consistency.py",
            'if scenario_digest(result.scenario) != result.scenario_sha256:',
            'if len(scenario_digest(result.scenario)) != len(result.scenario_sha256):',
            "an edited scenario is taken for the one that was run",
        ),
        Fault(
            "simulator/results/json_text.py",
            "        if key in mapping:\n",
            "        if key in mapping and mapping[key] == value:\n",
            "of two equal keys the last one counts",
        ),
        Fault(
            "simulator/results/saved.py",
            "if type(version) is not int or version != SCHEMA_VERSION:",
            "if version is not None and version < SCHEMA_VERSION:",
            "a later schema is read as this one",
        ),
        Fault(
            "simulator/version.py",
            'is_dirty = any(not line.startswith("# ") for line in lines)',
            'is_dirty = any(line.startswith("1 .M") for line in lines)',
            "staged changes and new files are not seen",
        ),
        Fault(
            "hwprofiles/offers.py",
            "return min(_decimal(offer.low) for offer in self.offers)",
            "return min(_decimal(offer.usd_per_gpu_hour) for offer in self.offers)",
            "the range of a source is not that of the price",
        ),
        Fault(
            "hwprofiles/offers.py",
            "matching = tuple(offer for offer in offers if wanted.agreeing(offer) == len(wanted.given))",
            "matching = tuple(offer for offer in offers if wanted.agreeing(offer))",
            "an offer that meets one wish of several is taken",
        ),
        Fault(
            "simulator/run/phases.py",
            'step_interval=Interval(low=times["low"][plan.full], high=times["high"][plan.full]),',
            'step_interval=Interval(low=times["value"][plan.full], high=times["high"][plan.full]),',
            "a phase's step is never faster than predicted",
        ),
    ),
)  # fmt: skip
