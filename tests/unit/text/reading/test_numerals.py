"""Numerals: how each language and region groups digits and marks decimals."""

from __future__ import annotations

import pytest

from voxtral.text.reading.numerals import numerals_of


@pytest.mark.parametrize(
    ("language", "written", "whole", "fraction"),
    [
        ("en", "1,234.5", "1234", "5"),
        ("en", "12,34,567", "1234567", None),
        ("en", "10 000", "10000", None),
        ("en", "1'000'000", "1000000", None),
        ("en", ".5", "", "5"),
        ("de", "1.000.000.000", "1000000000", None),
        ("de", "1 234 567,8", "1234567", "8"),
        ("de", "3.14", "3", "14"),
        ("es", "1.234", "1234", None),
        ("es-MX", "1,234", "1234", None),
        ("es-MX", "1.234", "1", "234"),
        ("ar", "7,99", "7", "99"),
        ("ar", "658,888", "658888", None),
        ("ar", "٧٫٩", "7", "9"),
        ("hi", "५,८८,०२५.६६", "588025", "66"),
        ("ja", "1,234.5", "1234", "5"),
    ],
)
def test_a_numeral_is_read_as_the_region_writes_it(
    language: str, written: str, whole: str, fraction: str | None
) -> None:
    numeral = numerals_of(*language.split("-")).read(written)
    assert numeral is not None
    assert (numeral.whole, numeral.fraction) == (whole, fraction)


@pytest.mark.parametrize(
    ("language", "written"),
    [("de", "192.168.100.200"), ("de", "1.2.3"), ("en", "00.5"), ("en", "1,23,4"), ("de", "5."), ("en", "1.234.567")],
)
def test_what_is_not_clearly_a_number_is_none(language: str, written: str) -> None:
    assert numerals_of(language).read(written) is None


def test_long_numbers_are_quantities_only_where_they_are_grouped() -> None:
    read = numerals_of("en").read
    plain, grouped = read("1" * 16), read("1," + ",".join(["234"] * 5))
    assert plain is not None
    assert plain.is_code
    assert grouped is not None
    assert not grouped.is_code
