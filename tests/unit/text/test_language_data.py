"""The files of the languages: complete, understood by the code, and with errors that say what to mend."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from num2words import CONVERTER_CLASSES

from voxtral.errors import LanguageFileError
from voxtral.text import language_data
from voxtral.text.language import LANGUAGES
from voxtral.text.language_data import LanguageData, SentenceWords, load_language, parse_language

FOLDER = Path(language_data.__file__).with_name("data")
HEAD = 'names = "xyz"\nscripts = "Latin"\nsample = "Hello."\n'


def test_every_language_has_a_file_and_every_file_a_language() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*LANGUAGES, "neighbours"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_file_is_read_and_has_what_the_code_needs(code: str) -> None:
    language = load_language(code)
    assert language.names
    assert language.scripts
    assert (language.numbers is None) == (code == "ja")
    assert (language.kana is not None) == (code == "ja")
    if grammar := language.numbers:
        assert ("." if grammar.has_decimal_point else ",") in grammar.decimal_words
        assert {"$", "€", "£", "¥", "₹"} <= set(grammar.currencies)
        assert grammar.own_words or (grammar.num2words or code) in CONVERTER_CLASSES
        for rule in grammar.agreement:
            re.sub(rule.ending, rule.masculine + rule.feminine, "")  # patterns and groups are sound
    if kana := language.kana:
        assert "".join(kana.letter_names) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        assert set(kana.counted) <= set(kana.counters)
        assert set(kana.last_words) <= {counter[0] for counter in kana.counters}


def test_own_number_words_leave_no_gap() -> None:
    grammar = load_language("hi").numbers
    assert grammar is not None
    assert grammar.own_words is not None
    assert len(grammar.own_words.below_100) == 100
    assert min(grammar.own_words.powers) == 100


@pytest.mark.parametrize("code", LANGUAGES)
def test_abbreviations_are_written_as_they_are_looked_up(code: str) -> None:
    words = load_language(code).sentences
    for each in fields(SentenceWords):
        for word in getattr(words, each.name):
            assert not word.endswith(".")
            assert each.name == "first_words" or word == word.casefold()


def _keys(kind: type[object]) -> set[str]:
    """List the keys of a table and of the tables in it."""
    keys: set[str] = set()
    waiting = [kind]
    while waiting:
        each = waiting.pop()
        if is_dataclass(each):
            hints = get_type_hints(each)
            keys |= hints.keys()
            waiting += hints.values()
        else:
            waiting += get_args(each)
    return keys


def test_every_key_is_explained() -> None:
    explained = re.findall(r"`\[?(\w+)\]?`", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert _keys(LanguageData) <= set(explained)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("names = \n", ["x.toml", "no TOML", "line 1"]),
        (HEAD + 'names = "abc"', ["x.toml", "no TOML"]),
        ('scripts = "Latin"\nsample = "Hello."', ["x.toml", "'names'", "README.md"]),
        (HEAD + 'smaple = "Hello."', ["x.toml", "'smaple'", "names, scripts, sample"]),
        (HEAD + '[sentences]\nabreviations = "dr"', ["x.toml: sentences", "'abreviations'", "abbreviations_at_end"]),
        (HEAD + '[sentences]\nabbreviations = "dr prof dr"', ["sentences: abbreviations", "'dr' twice", "leave one"]),
        (HEAD + '[sentences]\nabbreviations = ["dr"]', ["sentences: abbreviations", "['dr']", "a text in quotes"]),
        (HEAD + "sentences = 5", ["x.toml: sentences", "5", "a table"]),
        (HEAD + '[numbers]\nminus = "minus"', ["x.toml: numbers", "'written'"]),
        (HEAD + '[numbers]\nwritten = "1234"', ["numbers", "lacks the key 'minus'"]),
    ],
)
def test_what_breaks_a_rule_is_named_with_its_place(source: str, words: list[str]) -> None:
    with pytest.raises(LanguageFileError) as caught:
        parse_language(source, "x.toml")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('written = "1.234,56"', 'written = "1234,56"', ["numbers: written", "'1234,56'", "'1.234,56'"]),
        ("first = 1100", "first = true", ["numbers: years: first", "True", "a whole number"]),
        ('one = "ein Euro", ', "", ["numbers: currencies: €: unit", "'one'"]),
        ("is_feminine = true", "is_feminine = 1", ["currencies: ₹: unit: is_feminine", "true or false"]),
        ("[[numbers.agreement]]", "[numbers.agreement]", ["numbers: agreement", "a list"]),
        ("ending = 'eins$'", "endings = 'eins$'", ["numbers: agreement", "'endings'"]),
    ],
)
def test_a_slip_in_a_real_file_is_named_with_its_place(before: str, after: str, words: list[str]) -> None:
    source = (FOLDER / "de.toml").read_text(encoding="utf-8")
    assert before in source
    with pytest.raises(LanguageFileError) as caught:
        parse_language(source.replace(before, after), "de.toml")
    for word in words:
        assert word in str(caught.value)


def test_keys_that_are_numbers_must_be_numbers() -> None:
    source = (FOLDER / "hi.toml").read_text(encoding="utf-8").replace('\n100 = "सौ"', '\nhundred = "सौ"')
    with pytest.raises(LanguageFileError, match="powers has the key 'hundred'"):
        parse_language(source, "hi.toml")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(LanguageFileError, match=r"xx\.toml cannot be read .* install voxtral-tts again"):
        load_language("xx")


def test_nothing_is_read_at_import() -> None:
    code = (
        "import voxtral.text.normalize, voxtral.text.segment, voxtral.text.language_data as data, sys;"
        "assert data.load_language.cache_info().currsize == 0;"
        "assert not {'regex', 'num2words'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
