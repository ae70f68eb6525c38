"""SSML: what is said and where it stands in the document, and what is refused by its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.errors import SsmlError
from voxtral.text.normalize import prepare
from voxtral.text.ssml import is_ssml, read_ssml
from voxtral.types import Normalize


def said(text: str, language: str = "en", level: Normalize = "auto") -> str:
    return prepare(text, language, level, ssml=read_ssml(text)).normalized.text


@pytest.mark.parametrize(
    "text", ["<speak>a</speak>", " \n<?xml version='1.0'?><!-- x --><speak version='1.1'>a</speak>"]
)
def test_a_document_is_known_by_its_beginning(text: str) -> None:
    assert is_ssml(text)
    assert said(text) == "a"


@pytest.mark.parametrize("text", ["", "speak", "<speaker>a</speaker>", "<b>a</b><speak>", "a <speak>b</speak>"])
def test_other_texts_are_none(text: str) -> None:
    assert not is_ssml(text)


WORDS = "Käse <sub alias='x'>B2B</sub> &amp; <![CDATA[<b>]]> <lang xml:lang='de'>drei 3</lang>\r\nन"


def test_every_word_keeps_its_place() -> None:
    for document in (f"<speak>{WORDS}</speak>", WORDS):
        words = read_ssml(document).words
        assert words.text == "Käse B2B & <b> drei 3\nन"
        for place, char in enumerate(words.text):
            source = document[slice(*words.source_span(place, place + 1))]
            assert source == {"&": "&amp;", "\n": "\r\n"}.get(char, char) or char not in "Käsedrei3न"


@pytest.mark.parametrize("level", ["off", "clean", "auto"])
def test_sub_and_say_as_hold_at_every_level(level: Normalize) -> None:
    document = "<speak><sub alias='World Wide Web'>WWW</sub>, <say-as interpret-as='digits'>123</say-as></speak>"
    assert said(document, level=level) == "World Wide Web, one two three"


@pytest.mark.parametrize(
    ("language", "kind", "text", "spoken"),
    [
        ("en", "cardinal", "1,234", "one thousand two hundred and thirty-four"),
        ("en", "cardinal", "-5", "minus five"),
        ("en", "ordinal", "22", "twenty-second"),
        ("en", "telephone", "+1 555-0123", "plus, one, five five five, zero one two three"),
        ("en", "characters", "ab9", "A B nine"),
        ("de", "spell-out", "äb", "Ä B"),
        ("de", "digits", "07", "null sieben"),
        ("fr", "cardinal", "80", "quatre-vingts"),
        ("en", "currency", "$5", "five dollars"),
        ("hi", "digits", "१२", "एक दो"),
        ("ja", "characters", "AB", "A B"),
        ("en", "cardinal", "many", "many"),
    ],
)
def test_a_span_is_read_as_its_author_asks(language: str, kind: str, text: str, spoken: str) -> None:
    assert said(f"<say-as interpret-as='{kind}'>{text}</say-as>", language) == spoken


def test_a_language_has_its_own_rules_and_ends_with_its_element() -> None:
    document = "<speak xml:lang='en-GB'>2 <lang xml:lang='de'>2 <lang xml:lang='fr'>2</lang> 2</lang> 2</speak>"
    assert said(document) == "two zwei deux zwei two"
    assert read_ssml(document).language == "en-GB"


def test_paragraphs_and_sentences_are_parted() -> None:
    assert said("<speak><p>One</p><p><s>Two</s><s>Three!</s></p>Four</speak>") == "One\n\nTwo. Three!\n\nFour"
    assert said("<speak><s>नमस्ते</s><s>दो</s></speak>", "hi") == "नमस्ते। दो।"


def test_breaks_are_silence_at_their_places() -> None:
    document = "<speak>a<break/>b<break time='1.5s'/>c<break time='250ms'/><break strength='none'/></speak>"
    found = read_ssml(document).breaks
    assert [each.seconds for each in found] == [0.4, 1.5, 0.25, 0.0]
    assert [document[each.at : each.at + 6] for each in found] == ["<break"] * 4


BOMB = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]><speak>&b;</speak>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<speak>a", "line 1, column 9 is no XML"),
        ("<speak>\n a <b>", "line 2, column 4 has <b>, which cannot be done"),
        ("a <phoneme ph='x'>b</phoneme>", "line 1, column 3 has <phoneme>.*alias"),
        ("<prosody rate='fast'>b</prosody>", "<prosody>.*speed"),
        ("<emphasis>b</emphasis>", "<emphasis>"),
        ("<audio src='x'/>", "<audio>"),
        ("<mark name='x'/>", "<mark>.*timestamps"),
        ("<voice name='x'>b</voice>", "<voice>"),
        ("<break time='11s'/>", "a break of '11s'.*at most 10s"),
        ("<break time='-1s'/>", "'-1s'"),
        ("<break time='1'/>", "such as 500ms"),
        ("<break strength='huge'/>", "'huge'"),
        ("<break>a</break>b<break><s>x</s></break>", "inside of <break>"),
        ("<sub>a</sub>", "<sub> without alias"),
        ("<sub alias='x'> </sub>", "<sub> without text"),
        ("<say-as interpret-as='song'>a</say-as>", "interpret-as 'song'"),
        ("<say-as>a</say-as>", "interpret-as ''"),
        ("<lang>a</lang>", "without xml:lang"),
        ("<lang xml:lang='tlh'>a</lang>", "unknown language 'tlh'"),
        ("<speak><speak>a</speak></speak>", "a document is one <speak>"),
        ("<x:p xmlns:x='http://example.org/'>a</x:p>", "namespace"),
        ("<p>" * 60 + "</p>" * 60, "nest less deeply"),
        (BOMB, "no XML|document type"),
        ("<speak><!DOCTYPE x></speak>", "no XML"),
        ("a & b", "no XML"),
        ("<speak>\x00</speak>", "no XML"),
        ("<speak>\ud800</speak>", "no XML"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_place(text: str, message: str) -> None:
    with pytest.raises(SsmlError, match=message):
        read_ssml(text)


PARTS = (
    *("a", " ", "é", "5", "\r\n", "&lt;", "<!-- x -->", "<break/>", "<p>", "</p>", "<s>", "</s>"),
    *("<sub alias='b'>", "</sub>", "<lang xml:lang='de'>", "</lang>"),
)


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join), st.sampled_from(("off", "clean", "auto")))
def test_a_document_is_refused_or_has_all_places_in_order(text: str, level: Normalize) -> None:
    try:
        document = read_ssml(text)
    except SsmlError:
        return
    spoken = prepare(text, "en", level, ssml=document).normalized
    spans = [spoken.source_span(place, place + 1) for place in range(len(spoken.text))]
    assert spans == sorted(spans)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
