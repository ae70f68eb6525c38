"""Values to words, language by language."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from num2words import CONVERTER_CLASSES, num2words

from voxtral.text.language import LANGUAGES
from voxtral.text.spelling import MAX_DIGITS, Speller, grammar_of

SPOKEN = [code for code in LANGUAGES if code != "ja"]


@pytest.mark.parametrize(
    ("language", "value", "words"),
    [
        ("en", 1234, "one thousand two hundred and thirty-four"),
        ("fr", 1971, "mille neuf cent soixante et onze"),
        ("es", 21_000, "veintiún mil"),
        ("es", 31_000_000, "treinta y un millones"),
        ("de", 1234, "eintausendzweihundertvierunddreißig"),
        ("it", 1234, "milleduecentotrentaquattro"),
        ("pt", 1_000_000_016, "um bilhão e dezesseis"),
        ("nl", 1234, "duizendtweehonderdvierendertig"),
        ("ar", 2000, "ألفان"),
        ("ar", 200_000, "مئتا ألف"),
        ("ar", 1234, "ألف ومئتان وأربعة وثلاثون"),
        ("hi", 0, "शून्य"),
        ("hi", 99, "निन्यानवे"),
        ("hi", 1_234_567, "बारह लाख चौंतीस हज़ार पाँच सौ सड़सठ"),
        ("hi", 30_000_000_100, "तीस अरब एक सौ"),
    ],
)
def test_cardinals(language: str, value: int, words: str) -> None:
    assert Speller(language).cardinal(value) == words


@pytest.mark.parametrize("language", SPOKEN)
def test_cardinals_of_different_values_differ_and_have_no_digits(language: str) -> None:
    speller = Speller(language)
    values = [*range(120), *(10**power for power in range(3, MAX_DIGITS)), 10**MAX_DIGITS - 1]
    words = [speller.cardinal(value) for value in values]
    assert len(set(words)) == len(words)
    assert not any(char.isdigit() or char == "," for char in "".join(words))


def test_slips_of_the_library_are_mended_whatever_the_value() -> None:
    italian, german, arabic = Speller("it"), Speller("de"), Speller("ar")
    for value in range(118, 30_000, 100):
        assert "dicotto" not in italian.cardinal(value) + italian.ordinal(value)
    for value in range(101, 2000, 100):
        assert "einstausend" not in german.cardinal(value * 1000)
        assert "eins Million" not in german.cardinal(value * 10**6)
    for value in range(1, 10):
        assert "ألفاً" not in arabic.cardinal(value * 100_000 + 980)


@pytest.mark.parametrize(
    ("language", "region", "value", "words"),
    [
        ("pt", "PT", 16_000_000_000, "dezasseis mil milhões"),
        ("fr", "BE", 91, "nonante et un"),
        ("fr", "CH", 71, "septante et un"),
        ("fr", "CA", 71, "soixante et onze"),
    ],
)
def test_a_region_may_count_otherwise(language: str, region: str, value: int, words: str) -> None:
    assert Speller(language, region).cardinal(value) == words


@pytest.mark.parametrize("language", SPOKEN)
def test_every_currency_has_words_for_every_amount(language: str) -> None:
    speller = Speller(language)
    for currency in speller.grammar.currencies.values():
        amounts = [("0", None), ("1", None), ("2", None), ("5", "50"), ("0", "99"), ("3", "5"), ("9" * 20, None)]
        words = [speller.amount(currency, whole, fraction, ".") for whole, fraction in amounts]
        assert len(set(words)) == len(amounts)
        assert all(text and text == text.strip() and "  " not in text for text in words)


@pytest.mark.parametrize(
    ("language", "sign", "whole", "fraction", "words"),
    [
        ("en", "$", "1", "01", "one dollar and one cent"),
        ("en", "¥", "5", "50", "five point five zero yen"),
        ("fr", "£", "21", None, "vingt et une livres"),
        ("fr", "€", "1000000", None, "un million d'euros"),
        ("es", "€", "21", None, "veintiún euros"),
        ("es", "£", "200", None, "doscientas libras"),
        ("de", "€", "1", "50", "ein Euro und fünfzig Cent"),
        ("it", "€", "2000000", None, "due milioni di euro"),
        ("pt", "£", "2", None, "duas libras"),
        ("pt", "R$", "2", "50", "dois reais e cinquenta centavos"),
        ("nl", "€", "5", "50", "vijf euro en vijftig cent"),
        ("ar", "$", "2", None, "دولاران"),
        ("ar", "$", "5", None, "خمسة دولارات"),
        ("ar", "₹", "8", None, "ثماني روبيات"),
        ("ar", "$", "2000", None, "ألفا دولار"),
        ("hi", "₹", "5", "50", "पाँच रुपये और पचास पैसे"),
    ],
)
def test_money(language: str, sign: str, whole: str, fraction: str | None, words: str) -> None:
    speller = Speller(language)
    assert speller.amount(speller.grammar.currencies[sign], whole, fraction, ".") == words


def test_fractions_are_digits_or_a_pair_as_the_language_says_them() -> None:
    assert Speller("en").number("3", "14") == "three point one four"
    assert Speller("de").number("3", "14", ",") == "drei Komma eins vier"
    assert Speller("fr").number("3", "14", ",") == "trois virgule quatorze"
    assert Speller("fr").number("3", "04", ",") == "trois virgule zéro quatre"
    assert Speller("es").number("3", "141", ",") == "tres coma uno cuatro uno"


def test_japanese_numbers_stay_digits() -> None:
    assert grammar_of("ja") is None


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Let threads take turns in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless_threads")
@pytest.mark.parametrize("language", SPOKEN)
def test_texts_in_other_threads_do_not_change_the_words(language: str) -> None:
    # The Arabic converter of num2words holds the number that it is writing: from one for all, others get it.
    draw = random.Random(0)
    texts = [[draw.randrange(10**9) for _ in range(100)] for _ in range(8)]

    def spell(values: list[int]) -> list[str]:
        speller = Speller(language)
        return [speller.cardinal(value) for value in values]

    expected = [spell(values) for values in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(spell, texts)) == expected


@pytest.mark.parametrize("language", ["en", "de", "fr", "nl"])
def test_the_words_are_those_of_the_whole_library(language: str) -> None:
    draw, speller = random.Random(0), Speller(language)
    for size in range(1, MAX_DIGITS + 1):
        for value in (10 ** (size - 1), 10**size - 1, draw.randrange(10**size)):
            assert speller.cardinal(value) == num2words(value, lang=language).replace(",", "")
    # Others in the process use the same library.
    assert max(CONVERTER_CLASSES[language].cards) > 10**MAX_DIGITS
