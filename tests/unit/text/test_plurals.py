"""Plural categories: the samples that CLDR gives for its rules."""

from __future__ import annotations

import pytest

from voxtral.text.plurals import plural_category


@pytest.mark.parametrize(
    ("language", "category", "numbers"),
    [
        ("en", "one", "1"),
        ("en", "other", "0 2 16 100 1.0 0.5"),
        ("de", "one", "1"),
        ("de", "other", "0 2 1.0 1.5"),
        ("nl", "one", "1"),
        ("it", "other", "0 1.0 2"),
        ("es", "one", "1 1.0 1.00"),
        ("es", "other", "0 2 1.5"),
        ("fr", "one", "0 1 0.5 1.5 1.9"),
        ("fr", "other", "2 17 2.0"),
        ("pt", "one", "0 1 0.0 1.5"),
        ("pt", "other", "2 17 100"),
        ("hi", "one", "0 1 0.5 1.0"),
        ("hi", "other", "1.1 2 100"),
        ("ar", "zero", "0 0.0"),
        ("ar", "one", "1 1.0"),
        ("ar", "two", "2 2.0"),
        ("ar", "few", "3 10 103 110 1003"),
        ("ar", "many", "11 26 99 111 1011"),
        ("ar", "other", "100 102 200 202 300 1000 0.1 1.5"),
        ("ja", "other", "0 1 2 1.5"),
    ],
)
def test_categories_are_those_of_cldr(language: str, category: str, numbers: str) -> None:
    for number in numbers.split():
        whole, _, fraction = number.partition(".")
        assert plural_category(language, whole, fraction or None) == category


def test_portugal_counts_nothing_as_many() -> None:
    assert plural_category("pt", "0", None, "PT") == "other"
    assert plural_category("pt", "1", None, "PT") == "one"
