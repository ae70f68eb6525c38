"""Rules of cleaning that hold for every text."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voxtral.text.clean import LINE_ENDS, clean
from voxtral.text.normalize import normalize

# What the rules look at, more often than chance would bring it.
_ODD = [
    *("\u00a0", "\u2009", "\u3000", "\t", "\r\n", "\r", "\n", "\x85", "\u2028", "\u2029", "\x0b", "\u2800", "\u3164"),
    *("\u200b", "\u200c", "\u200d", "\u00ad", "\ufeff", "\u202e", "\ufe0f", "\U000e0020", "\u034f"),
    *("\u0301", "\u0323", "\u0308", "\u093c", "\u094d", "\u3099", "\u1161", "\u11ab", "\u0344"),
    *(
        "Ａ",
        "ｂ",
        "５",
        "！",
        "．",
        "（",
        "）",
        "﹐",
        "︒",
        "𝐚",
        "ﬁ",
        "Ⅳ",
        "ſ",
        "ẛ",
        "ｶ",
        "ﾞ",
        "ﾟ",
        "ﷺ",
        "ﻻ",
        "ﹰ",
        "⽇",
        "가",
    ),
    *("e", "E", "5", "カ", "日", "क", "س", "ᄒ", "½", "²", "①", "™", "😀", ".", "!", " ", "  ", "\x1c", "\x07"),
]
_TEXTS = st.one_of(
    st.lists(st.sampled_from(_ODD), max_size=12).map("".join),
    st.text(st.one_of(st.characters(), st.sampled_from(_ODD).map(lambda piece: piece[0])), max_size=30),
)
_PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


@given(_TEXTS)
@example("ｅ\u0301．５日")
@example("क\u094d\u093c\u200d ")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    cleaned = clean(text).text
    assert clean(cleaned).text == cleaned


def test_no_character_alone_or_among_letters_needs_to_be_cleaned_twice() -> None:
    # All at once, but for ideographs and syllables, which are only themselves: among letters and on lines of their own.
    codes = [*range(0x3400), *range(0xA600, 0xAC00), *range(0xF900, 0x10000), *range(0x1D400, 0x1D800)]
    text = "\n".join(f"a{chr(code)}b 日{chr(code)}e\u0301\n{chr(code)}" for code in codes)
    cleaned = clean(text).text
    assert clean(cleaned).text == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)


@given(_TEXTS)
def test_the_result_is_composed_and_has_plain_white_space(text: str) -> None:
    cleaned = clean(text).text
    assert unicodedata.is_normalized("NFC", cleaned)
    # These four are controls, which are refused later.
    white = re.findall(r"[^\S\x1c-\x1f]+", cleaned)
    assert all(space in {" ", "\n", "\n\n"} for space in white)
    assert cleaned.strip(f" \t{LINE_ENDS}\u00a0\u3000") == cleaned


@given(_TEXTS)
def test_spans_never_go_back_and_cover_all_that_is_left(text: str) -> None:
    cleaned = clean(text)
    spans = [cleaned.source_span(place, place + 1) for place in range(len(cleaned.text))]
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start <= next_start
        assert end <= next_end
    covered = {place for start, end in spans for place in range(start, end)}
    for place, char in enumerate(text):
        # What is in no span has no ink.
        assert place in covered or clean(char).text == "" or unicodedata.combining(char) or char in "\u200c\u200d"
    if spans:
        assert cleaned.source_span(0, len(spans)) == (spans[0][0], spans[-1][1])


@given(st.lists(_PLAIN, min_size=1).map(" ".join))
def test_plain_text_is_the_same_object(text: str) -> None:
    assert clean(text).text is text
    assert clean(text).runs == ((0, 0, len(text), True),)


@given(st.lists(_PLAIN, min_size=2, max_size=6), st.lists(st.sampled_from(" \u00a0\u2009\t\u3000\u202f"), min_size=1))
def test_exotic_white_space_makes_the_plain_twin(words: list[str], spaces: list[str]) -> None:
    odd = "".join(spaces)
    assert clean(odd + odd.join(words) + odd).text == " ".join(words)


def _letters(text: str) -> str:
    """All letters and digits by their plain reading, without marks, cases or widths."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(char for char in plain if unicodedata.category(char)[0] in "LN" and char not in "\u1160\u115f")


@given(_TEXTS)
def test_every_letter_and_digit_is_still_there(text: str) -> None:
    assert _letters(clean(text).text) == _letters(text)


@pytest.mark.parametrize("language", ["en", "de"])
@given(_TEXTS)
def test_a_text_that_is_written_out_has_no_dressed_letter(language: str, text: str) -> None:
    for char in normalize(text, language).text:
        assert unicodedata.category(char)[0] not in "LN" or clean(f"a {char} b").text == f"a {char} b"
