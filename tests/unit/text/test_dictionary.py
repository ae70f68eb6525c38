"""Dictionaries: what is found in a text, and what is refused in a file."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.errors import DictionaryError
from voxtral.text.dictionary import Alias, Dictionary, dictionary_of, parse_dictionary, read_dictionary
from voxtral.text.normalize import prepare, read

PLS = """<?xml version="1.0" encoding="UTF-8"?>
<lexicon version="1.0" xmlns="http://www.w3.org/2005/01/pronunciation-lexicon" alphabet="ipa" xml:lang="en-GB">
  <lexeme><grapheme>W3C</grapheme><alias>World Wide Web Consortium</alias></lexeme>
  <lexeme><grapheme>colour</grapheme><grapheme>color</grapheme><phoneme>x</phoneme><alias>hue</alias>
    <alias prefer="true">cuh ler</alias></lexeme>
</lexeme></lexicon>""".replace("</lexeme></lexicon>", "</lexicon>")


def said(text: str, *aliases: Alias, language: str = "en", region: str = "") -> str:
    tag = f"{language}-{region}" if region else language
    return prepare(text, tag, "clean", dictionary=Dictionary(aliases)).normalized.text


@pytest.mark.parametrize(
    ("alias", "text", "spoken"),
    [
        (Alias("GIF", "jiff"), "A GIF, GIFs, a gif.", "A jiff, GIFs, a gif."),
        (Alias("gif", "jiff", case="ignore"), "A GIF and a Gif.", "A jiff and a jiff."),
        (Alias("2", "two", match="anywhere"), "B2B", "BtwoB"),
        (Alias("C++", "see plus plus"), "C++, C++x, ABC++", "see plus plus, see plus plusx, ABC++"),
        (Alias("New York", "Niu York"), "New York and New  York", "Niu York and Niu York"),
        (Alias("कि", "की"), "कि किताब", "की किताब"),
        (Alias("東京", "とうきょう"), "東京都は東京だ", "とうきょう都はとうきょうだ"),
        (Alias("ناسا", "نا سا"), "وناسا والناسا ناسا مناسا", "ونا سا والنا سا نا سا مناسا"),
        (Alias("café", "coffee house"), unicodedata.normalize("NFD", "Un café."), "Un coffee house."),
        (Alias("Straße", "Strasse", case="ignore"), "STRASSE und straße", "STRASSE und Strasse"),
        (Alias("İ", "I with a dot", case="ignore"), "an İ", "an I with a dot"),
    ],
)
def test_words_are_found_where_they_stand_alone(alias: Alias, text: str, spoken: str) -> None:
    assert said(text, alias) == spoken


def test_the_longest_holds_then_the_first() -> None:
    aliases = Alias("New", "Niu"), Alias("New York", "the city"), Alias("New", "other"), Alias("York City", "never")
    assert said("New York City, New York, New Jersey", *aliases) == "Niu never, the city, Niu Jersey"
    assert said("New", *(Dictionary((Alias("New", "first"),)) + Dictionary(aliases)).aliases) == "first"


def test_a_rule_holds_in_its_language_and_region() -> None:
    aliases = Alias("Z", "zed", language="en-GB"), Alias("Z", "zee", language="en"), Alias("Z", "tsett", language="de")
    assert [
        said("Z", *aliases, language=code, region=region)
        for code, region in (("en", "GB"), ("en", ""), ("de", "AT"), ("fr", ""))
    ] == [
        "zed",
        "zee",
        "tsett",
        "Z",
    ]


def test_what_a_dictionary_says_is_not_read_again() -> None:
    reading = read("5 GB, a B2B deal.", "en", dictionary=dictionary_of({"5 GB": "5 gigs", "B2B": "B 2 B"}))
    assert reading.normalized.text == "5 gigs, a B 2 B deal."
    assert [(each.start, each.end, each.kind) for each in reading.claimed] == [
        (0, 4, "dictionary"),
        (8, 11, "dictionary"),
    ]


@given(st.text("aAbB \u0301é中", max_size=30), st.lists(st.text("aAbé\u0301中", min_size=1, max_size=4), max_size=5))
def test_no_text_fails_and_offsets_stay(text: str, words: list[str]) -> None:
    found = [
        Alias(word, "x", match=match, case=case)
        for word in words
        for match in ("word", "anywhere")
        for case in ("exact", "ignore")
    ]
    spoken = prepare(text, "en", "clean", dictionary=Dictionary(tuple(found))).normalized
    spans = [spoken.source_span(place, place + 1) for place in range(len(spoken.text))]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert spans == sorted(spans)


def test_time_grows_with_the_text_and_not_with_the_rules() -> None:
    aliases = [Alias(f"word{number}", "x") for number in range(10_000)]
    assert said("word77 " * 20_000 + "word", *aliases) == "x " * 20_000 + "word"


# Files.


def test_json_csv_and_pls_say_the_same(tmp_path: Path) -> None:
    wanted = (Alias("W3C", "World Wide Web Consortium", "en-GB"),)
    (tmp_path / "a.json").write_text(
        json.dumps([{"written": "W3C", "spoken": "World Wide Web Consortium", "language": "en-GB"}])
    )
    (tmp_path / "b.csv").write_text("\ufeffWritten,spoken,language\n\nW3C,World Wide Web Consortium,en-GB\n", "utf-8")
    assert read_dictionary(tmp_path / "a.json").aliases == read_dictionary(tmp_path / "b.csv").aliases == wanted
    (tmp_path / "c.pls").write_text(PLS)
    lexicon = read_dictionary(tmp_path / "c.pls").aliases
    assert lexicon[:1] == wanted
    assert lexicon[1:] == (Alias("colour", "cuh ler", "en-GB"), Alias("color", "cuh ler", "en-GB"))
    assert dictionary_of({"rules": [{"written": "a", "spoken": "b"}]}).aliases == (Alias("a", "b"),)
    assert parse_dictionary(b'{"a": "b"}', "json").digest != parse_dictionary(b'{"a": "c"}', "json").digest


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><lexicon>&b;</lexicon>'


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("json", b"[{]", "line 1 is no JSON"),
        ("json", b"3", "must be a list of rules"),
        ("json", b"[3]", "rule 1 is 3"),
        ("json", b'[{"written": "a"}]', "rule 1 lacks spoken"),
        ("json", b'[{"written": "a", "spoken": "b", "say": 1}]', "rule 1 has the unknown key 'say'"),
        ("json", b'[{"written": "a", "spoken": " "}]', "spoken is empty"),
        ("json", b'[{"written": "a", "spoken": "b\\nc"}]', r"spoken has the character U\+000A"),
        ("json", b'[{"written": "a", "spoken": 5}]', "spoken is 5"),
        ("json", b'[{"written": "a", "spoken": "b", "language": "xx"}]', "unknown language"),
        ("json", b'[{"written": "a", "spoken": "b", "match": "part"}]', "must be word or anywhere"),
        ("json", json.dumps({"a" * 201: "b"}).encode(), "201 characters"),
        ("json", json.dumps({f"a{n}": "b" for n in range(10_001)}).encode(), "10001 rules"),
        ("json", b"[" * 100_000, "nests too deeply|no JSON"),
        ("json", b"\xff", "byte 0 is not UTF-8"),
        ("csv", b"a,b\n", "must name the columns"),
        ("csv", b"written,spoken\na,b,c\n", "line 2 has 3 fields"),
        ("csv", b'written,spoken\n"a', "line 2 is no CSV"),
        ("csv", b"written,spoken\na,\n", "line 2: spoken is empty"),
        ("pls", b"<lexicon>", "line 1 is no XML"),
        ("pls", b"<speak/>", "begins with <speak>"),
        ("pls", BOMB, "declares a document type"),
        ("pls", b"<lexicon><lexeme><grapheme>a</grapheme><phoneme>x</phoneme></lexeme></lexicon>", "only a phoneme"),
        ("pls", b"<lexicon><lexeme><alias>a</alias></lexeme></lexicon>", "has no grapheme"),
        ("pls", b"<lexicon xml:lang='xx'/>", "unknown language"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_place(format: str, data: bytes, message: str) -> None:
    with pytest.raises(DictionaryError, match=message):
        parse_dictionary(data, format)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for path, message in (
        (tmp_path / "a.txt", "no known kind"),
        (tmp_path / "b.csv", "is no file"),
        (tmp_path, "no known kind"),
    ):
        with pytest.raises(DictionaryError, match=message):
            read_dictionary(path)
