"""Rules of Japanese in kana that hold for every text."""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
from functools import partial
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.errors import JapaneseReaderMissingError, TextError
from voxtral.text import kana
from voxtral.text.clean import clean
from voxtral.text.kana import has_kanji
from voxtral.text.normalize import NormalizedText, normalize, write_in_kana

_KANA = "".join(map(chr, [*range(0x3041, 0x3097), *range(0x30A1, 0x30FB), 0x30FC, 0x30FD, 0x30FE]))
_KANA_TEXTS = st.text(_KANA + " 　\n。、！？「」…・!?.,", max_size=80)
_PIECES = [
    *(
        "日本",
        "私は",
        "三本",
        "二十日",
        "4月1日",
        "お母さん",
        "〇〇",
        "々",
        "鱻",
        "髙橋",
        "㍿",
        "⼀",
        "ヶ月",
        "、",
        "。",
    ),
    *("3", "1,234", "3.5", "万", "-", "¥", "%", "〜", "つ", "km", "USB", "Google", "x", "は", "へ", "ﾊﾟ", "ﾞ", "\u3099"),
    *("①", "½", "…", "\ufdfa", "\ud800", "१", "𠮷", "😀", "\n\n", " ", "　", "Ａ", "３"),
]
_MIXED = st.lists(
    st.one_of(st.sampled_from(_PIECES), st.text(max_size=4), _KANA_TEXTS.map(lambda t: t[:6])), max_size=30
)
_TEXTS = _MIXED.map("".join)
_HAS_DICTIONARY = all(importlib.util.find_spec(name) for name in ("sudachipy", "sudachidict_core"))


def _is_kanji(char: str) -> bool:
    name = unicodedata.name(char, "")
    return name.startswith(("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH")) or char in "々〆〇"


def _check(text: str, written: NormalizedText) -> None:
    assert not any(_is_kanji(char) or char.isdecimal() for char in written.text)
    spans = [written.source_span(place, place + 1) for place in range(len(written.text))]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start <= next_start
        assert end <= next_end


@given(_KANA_TEXTS)
def test_kana_passes_unchanged(text: str) -> None:
    assert not has_kanji(text)
    assert write_in_kana(text).text == text


@given(st.text(st.sampled_from("ｷｮｳﾊｶﾞ７ＡＢかカ3　 。｡\u200b"), max_size=30))
def test_what_was_cleaned_first_leads_back_to_the_text_as_given(text: str) -> None:
    cleaned = clean(text)
    written = write_in_kana(cleaned.text)
    spoken = written.through(cleaned)
    assert spoken.text == written.text
    for place in range(len(spoken.text)):
        start, end = written.source_span(place, place + 1)
        assert spoken.source_span(place, place + 1) == cleaned.source_span(start, end)


@given(_TEXTS)
def test_without_the_extra_a_text_is_written_in_kana_or_refused_for_its_kanji(text: str) -> None:
    with mock.patch.dict(sys.modules, {"sudachipy": None}):
        kana._open_dictionary.cache_clear()
        try:
            written = write_in_kana(text)
        except JapaneseReaderMissingError:
            assert has_kanji(text)
        else:
            assert not has_kanji(text)
            _check(text, written)
        finally:
            kana._open_dictionary.cache_clear()


@pytest.mark.skipif(not _HAS_DICTIONARY, reason='kanji needs the dictionary: pip install "voxtral-tts[ja]"')
@given(_TEXTS)
def test_with_the_extra_no_kanji_and_no_digit_is_left(text: str) -> None:
    for write in (write_in_kana, partial(normalize, language="ja", in_kana=True)):
        try:
            written = write(text)
        except TextError:
            # Only rare kanji has no reading.
            with pytest.raises(TextError, match="no reading of"):
                write(text)
            assert has_kanji(text)
        else:
            _check(text, written)
