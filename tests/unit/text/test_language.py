"""Names of languages, scripts that do not fit, and texts that cannot be spoken."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from voxtral.errors import LanguageError, TextError
from voxtral.text.language import (
    LANGUAGES,
    check_speakable,
    is_speakable,
    resolve_language,
    sample_sentence,
    script_mismatch,
)


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_code_its_upper_case_its_name_and_its_regions_are_the_language(code: str) -> None:
    for value in (
        code,
        code.upper(),
        LANGUAGES[code],
        LANGUAGES[code].lower(),
        f" {code} ",
        f"{code}-XX",
        f"{code}_419",
    ):
        assert resolve_language(value) == code


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("en-US", "en"),
        ("en_GB", "en"),
        ("pt_BR.UTF-8", "pt"),
        ("zxx", None),
        ("eng", "en"),
        ("deu", "de"),
        ("fre-CA", "fr"),
        ("Deutsch", "de"),
        ("français", "fr"),
        ("FRANCAIS", "fr"),
        ("franc\u0327ais", "fr"),
        ("español", "es"),
        ("italiano", "it"),
        ("Português", "pt"),
        ("Nederlands", "nl"),
        ("العربية", "ar"),
        ("हिन्दी", "hi"),
        ("हिंदी", "hi"),
        ("日本語", "ja"),
        ("zh", None),
        ("ko-KR", None),
        ("", None),
        ("en-", None),
        ("e", None),
        ("english-us", None),
        ("klingon", None),
    ],
)
def test_other_spellings(value: str, code: str | None) -> None:
    if code is None:
        with pytest.raises(LanguageError):
            resolve_language(value)
    else:
        assert resolve_language(value) == code


def test_an_unknown_language_is_named_with_the_known_ones_and_a_way_out() -> None:
    with pytest.raises(LanguageError) as caught:
        resolve_language("zh-" + "x" * 1000)
    message = str(caught.value)
    assert "'zh-xxx" in message
    assert "hi (Hindi)" in message
    assert "pass one of these" in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "language", "named"),
    [
        ("你好世界", "en", "Han"),
        ("Привет, мир", "en", "Cyrillic"),
        ("hello", "hi", "Latin"),
        ("hello नम", "hi", "Devanagari"),
        ("مرحبا", "fr", "Arabic"),
        ("안녕하세요", "ja", "Hangul"),
        ("नमस्ते", "ar", "Devanagari"),
    ],
)
def test_a_majority_of_foreign_letters_is_a_mismatch(text: str, language: str, named: str) -> None:
    sentence = script_mismatch(text, language)
    assert sentence is not None
    assert named in sentence
    assert LANGUAGES[language] in sentence


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Ünïcode ﬁne, naïve ªº ℌ", "de"),
        ("ab 你好", "en"),
        ("こんにちは、カタカナと漢字とー", "ja"),
        ("नमस्ते", "Hindi"),
        ("السلام عليكم", "ar-EG"),
        ("123 !? 🙂", "en"),
        ("", "en"),
        ("ʼʼʼʼ a", "en"),
    ],
)
def test_half_of_the_letters_or_none_are_no_mismatch(text: str, language: str) -> None:
    assert script_mismatch(text, language) is None


def test_a_mismatch_of_an_unknown_language_is_an_error() -> None:
    with pytest.raises(LanguageError):
        script_mismatch("hello", "xx")


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_a_sentence_in_its_script(code: str) -> None:
    sentence = sample_sentence(code)
    check_speakable(sentence)
    assert script_mismatch(sentence, code) is None


@pytest.mark.parametrize("text", ["a", "1", "é", "你", "क", "Ⅷ", "½", "😀 a", "a\tb\r\nc", "\u200da"])
def test_a_letter_or_a_digit_is_enough(text: str) -> None:
    check_speakable(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        (" \n\t\u00a0", ["whitespace"]),
        ("😀🎉", ["no letter and no digit", "'😀🎉'"]),
        ("?!...", ["no letter"]),
        ("___", ["no letter"]),
        ("\u0301\u200d", ["no letter"]),
        ("ab\x07c", ["U+0007", "offset 2", 'normalize="auto"']),
        ("ab\x00", ["U+0000", "offset 2"]),
        ("a\x85b", ["U+0085", "offset 1"]),
        ("a\x7fb", ["U+007F"]),
        ("a\x0cb", ["U+000C"]),
        ("ok \ud83d", ["U+D83D", "offset 3", "surrogate"]),
        ("\udc80", ["U+DC80"]),
    ],
)
def test_what_cannot_be_spoken_is_refused_with_its_reason(text: str, words: list[str]) -> None:
    with pytest.raises(TextError) as caught:
        check_speakable(text)
    for word in words:
        assert word in str(caught.value)
    str(caught.value).encode()


def test_speakable_is_the_unicode_categories_of_letters_and_numbers() -> None:
    for code_point in range(0, sys.maxunicode + 1, 3):
        char = chr(code_point)
        assert is_speakable(char) == (unicodedata.category(char)[0] in "LN"), hex(code_point)
