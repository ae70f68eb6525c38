"""Units: every one of every language has words, and none says a sign."""

from __future__ import annotations

import re

import pytest

from voxtral.text.language import LANGUAGES
from voxtral.text.reading.currencies import currencies_of
from voxtral.text.reading.units import units_of


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_unit_is_said_in_words(language: str) -> None:
    known = units_of(language)
    for symbol in known.known:
        unit = known.find(symbol)
        assert unit is not None
        for form in (*unit.forms.values(), unit.per):
            # Latin letters may be a name ("CFA"), digits and signs are left-overs of CLDR.
            assert not re.search(r"[\d/°²³%]", form.replace("{0}", "")), (symbol, form)


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_two_units_make_one(language: str) -> None:
    unit = units_of(language).find("kg/m³")
    assert unit is not None
    assert "m³" not in unit.form("other")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_currency_is_known_by_code_and_sign(language: str) -> None:
    known = currencies_of(language).known
    assert {"USD", "EUR", "JPY", "CHF", "US$", "$", "€", "£", "₩", "₺"} <= known.keys()
    assert all(currency.unit.many for currency in known.values())
