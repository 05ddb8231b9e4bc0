"""Law: an age depends on the stated date and the record alone; the newest date is the newest that any file states."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest

from hwprofiles import age, catalog
from hwprofiles.age import Age, first_day, newest_date, price_age, stack_age
from hwprofiles.catalog import list_names, load_prices
from hwprofiles.provenance import Source
from hwprofiles.stack_choice import stack_names, stack_provenance
from hwprofiles.stack_records import StackProvenance
from tests.hwprofiles.conftest import forget

SHEET = load_prices("market-2026-05")


@pytest.mark.parametrize(
    ("dated", "at", "months"),
    [
        ("2026-05", "2026-05-01", 0),
        ("2026-05", "2026-11-24", 6),
        ("2025-02-27", "2025-03-26", 0),
        ("2025-02-27", "2025-03-27", 1),
        ("2024", "2026-01-01", 24),
        ("2026-05", "2025-01-01", 0),
    ],
)
def test_months_are_whole_and_from_the_first_possible_day(dated: str, at: str, months: int) -> None:
    assert Age(dated, datetime.date.fromisoformat(at)).months == months


def test_it_is_outdated_behind_what_it_is_good_for_only() -> None:
    last = Age("2025-01", datetime.date(2026, 1, 31), good_for_months=12)
    assert (last.months, last.is_outdated) == (12, False)
    assert Age("2025-01", datetime.date(2026, 2, 1), good_for_months=12).is_outdated
    assert not Age("2025-01", datetime.date(2099, 1, 1)).is_outdated
    assert str(last) == "of 2025-01, 12 months old at 2026-01-31; good for 12 months"


def test_a_sheet_says_how_long_it_is_good_for() -> None:
    start = first_day(SHEET.date)
    assert not price_age(SHEET, start).is_outdated
    assert price_age(SHEET, start.replace(year=start.year + 10)).is_outdated


@pytest.mark.parametrize("name", stack_names())
def test_every_stack_has_an_age(name: str) -> None:
    found = stack_age(stack_provenance(name), newest_date())
    assert found is not None and first_day(found.dated) <= newest_date()


def test_a_stack_is_as_old_as_its_newest_dated_source() -> None:
    sources = {
        str(i): Source(kind="paper", where="w", date=date) for i, date in enumerate(("2024-12", "", "2025-05", "2025"))
    }
    dated = StackProvenance(
        gpu="g", description="d", software="s", state="first_launches", good_for_months=6, sources=sources
    )
    assert stack_age(dated, datetime.date(2025, 7, 1)) == Age("2025-05", datetime.date(2025, 7, 1), 6)
    undated = dated.model_copy(update={"sources": {"a": sources["1"]}})
    assert stack_age(undated, datetime.date(2025, 7, 1)) is None


def test_the_newest_date_is_the_newest_in_the_files() -> None:
    root = Path(catalog.__file__).parent
    files = [path for kind in catalog.KINDS for path in (root / kind).glob("*.yaml")]
    files += [*root.glob("stacks/*/provenance.yaml"), *root.glob("stacks/transfer/*.yaml")]
    texts = [path.read_text() for path in files]
    stated = [found for text in texts for found in re.findall(r"\bdate: *(20[0-9-]+)", text)]
    assert newest_date() == max(map(first_day, stated))


def test_the_newest_date_follows_a_new_file(own_catalogue: Path) -> None:
    before = newest_date()
    path = own_catalogue / "prices" / "later.yaml"
    path.write_text((own_catalogue / "prices" / "market-2026-05.yaml").read_text().replace("market-2026-05", "later"))
    path.write_text(path.read_text().replace("date: 2026-05\n", "date: 2031-02\n", 1))
    forget()
    assert "later" in list_names("prices") and newest_date() == datetime.date(2031, 2, 1) > before


def test_no_clock_is_asked() -> None:
    assert not re.search(r"\b(today|now|time)\(", Path(age.__file__).read_text())
