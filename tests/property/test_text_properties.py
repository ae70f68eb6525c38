"""Rules of the text layer that hold for every text."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from voxtral.errors import TextError
from voxtral.text.language import LANGUAGES, check_speakable, is_speakable, script_mismatch
from voxtral.text.normalize import normalize
from voxtral.text.segment import Origin, TextSegment, split_rewritten, split_text

# Pieces that the rules look at, more often than chance would bring them.
_PIECES = [
    *" \n.,!?;:\"'()“”„«»—-…%$€*_`~|#[]<>&",
    *("\n\n", "\r\n", "\u2029", "\u00a0", "\u202f", "  ", "\t", "。", "」", "「", "と", "।", "؟", "،", "…"),
    *("Mr. ", "z. B. ", "U.S.A. ", "am 3. Mai ", "1. ", "The end. ", "yes. ", "... ", "« Oui. » ", "word", "Sentence "),
    *(
        "3.14",
        "1,234",
        "1.234,5",
        "10 000",
        "2024",
        "007",
        "5%",
        "$3.50",
        "€5",
        "+49 30 1234567",
        "1st",
        "10-20",
        "٣٫١٤",
        "१२",
    ),
    *("e\u0301", "क्ष", "नमस्ते", "سلام", "日本", "🇩🇪", "👨‍👩‍👧", "👍🏽", "❤️", "1️⃣"),
    *(
        "**",
        "```",
        "](",
        "![",
        "<b>",
        "<!--",
        "-->",
        "&amp;",
        "&#8203;",
        "http://a.b/1",
        "\\*",
        "| a |",
        "\n- ",
        "\n# ",
    ),
]
# Free text without marks, joiners and halves of flags: where they stand alone, graphemes are a matter of taste.
_HALF_FLAGS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_FREE = st.text(st.characters(exclude_categories=("Cs", "M", "Cf"), exclude_characters=_HALF_FLAGS), max_size=8)
_TEXTS = st.lists(st.one_of(st.sampled_from(_PIECES), _FREE), max_size=60).map("".join)
_ANY_TEXT = st.one_of(_TEXTS, st.text(st.characters(), max_size=60))
_LIMITS = st.tuples(st.integers(1, 60), st.integers(0, 60)).map(lambda pair: (pair[0], sum(pair)))
_LANGUAGES = st.sampled_from(sorted(LANGUAGES))


def _split(text: str, limits: tuple[int, int]) -> list[TextSegment]:
    return list(split_text(text, min_chars=limits[0], max_chars=limits[1]))


@given(_ANY_TEXT, _LIMITS)
def test_segments_and_the_whitespace_between_them_are_the_text(text: str, limits: tuple[int, int]) -> None:
    position = 0
    for segment in _split(text, limits):
        assert text[position : segment.start].strip() == ""
        assert position <= segment.start < segment.end
        assert segment.text == text[segment.start : segment.end]
        assert len(segment.text) <= limits[1]
        position = segment.end
    assert text[position:].strip() == ""


@given(_ANY_TEXT)
def test_a_text_that_fits_is_verbatim(text: str) -> None:
    assert [segment.text for segment in _split(text, (1, max(len(text), 1)))] == [text] * bool(text)


def _parts(text: str, pattern: str) -> list[tuple[int, int]]:
    return [found.span() for found in re.finditer(pattern, text)]


@given(_TEXTS, _LIMITS)
@example("a" * 9 + "🇩🇪🇫🇷", (1, 11))
def test_no_grapheme_is_cut_that_fits(text: str, limits: tuple[int, int]) -> None:
    # Of the pieces above, these are all that need more than one character.
    graphemes = _parts(text, "[\U0001f1e6-\U0001f1ff]{2}|👨‍👩‍👧|👍🏽|❤️|1️⃣|e\u0301|क्ष|स्ते|\r\n")
    cuts = {segment.end for segment in _split(text, limits)} - {len(text)}
    for start, end in graphemes:
        if end - start <= limits[1]:
            assert not any(start < cut < end for cut in cuts), text[start:end]


@given(_TEXTS, _LIMITS)
def test_no_number_is_cut_that_fits(text: str, limits: tuple[int, int]) -> None:
    cuts = {segment.end for segment in _split(text, limits)}
    for start, end in _parts(text, r"\d+(?:[.,]\d+)*"):
        if end - start <= limits[1] // 2:
            assert not any(start < cut < end for cut in cuts), text[start:end]


@given(
    st.lists(st.sampled_from(["Short one.", "Is this a little longer?", "This one is the longest of all!"]), min_size=1)
)
def test_sentences_that_fit_are_never_cut_and_joined_up_to_the_minimum(sentences: list[str]) -> None:
    text = " ".join(sentences)
    segments = _split(text, (32, 80))
    ends = {0}
    for sentence in sentences:
        ends.add(max(ends) + (len(sentence) if ends == {0} else len(sentence) + 1))
    assert {segment.end for segment in segments} <= ends
    if len(text) > 80:
        assert all(len(segment.text) >= 32 for segment in segments[:-1])


@given(_ANY_TEXT, _LANGUAGES)
def test_normalizing_never_fails_and_leaves_no_odd_space(text: str, language: str) -> None:
    spoken = normalize(text, language).text
    assert spoken == spoken.strip()
    assert all(space in {" ", "\n\n"} for space in re.findall(r"\s+", spoken))
    if all(unicodedata.category(char) != "Cs" for char in spoken) and is_speakable(spoken):
        check_speakable(spoken)


@given(_ANY_TEXT, _LANGUAGES)
def test_spans_never_go_back_and_stay_in_the_source(text: str, language: str) -> None:
    normalized = normalize(text, language)
    length = len(normalized.text)
    spans = [normalized.source_span(place, place + 1) for place in range(length)]
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start <= next_start
        assert end <= next_end
    for place, (start, end) in enumerate(spans):
        assert 0 <= start <= end <= len(text)
        assert normalized.source_span(place, length) == (start, spans[-1][1])
        assert start <= normalized.source_span(place, place)[0] <= end


@given(st.lists(st.sampled_from(["word", "Über", "नमस्ते", "سلام", "(so)", "“yes”", "end."])), _LANGUAGES)
def test_words_are_kept_and_lead_back_to_themselves(words: list[str], language: str) -> None:
    source = "  ".join(words)
    normalized = normalize(source, language)
    assert normalized.text == " ".join(words)
    position = source_position = 0
    for word in words:
        assert normalized.source_span(position, position + len(word)) == (source_position, source_position + len(word))
        position += len(word) + 1
        source_position += len(word) + 2


@given(_ANY_TEXT, _LANGUAGES)
def test_speakable_texts_are_those_that_pass_the_check(text: str, language: str) -> None:
    try:
        check_speakable(text)
    except TextError:
        assert not is_speakable(text) or any(unicodedata.category(char) in {"Cc", "Cs"} for char in text)
    else:
        assert is_speakable(text)
    assert script_mismatch(text, language) is None or any(char.isalpha() for char in text)


_WRITTEN = st.lists(
    st.one_of(
        st.sampled_from(_PIECES),
        st.sampled_from(
            ["59,4 %", "1.234,56 €", "am 3. Mai ", "10-20", "½", "1, 2", " wort", "1" * 40, "0." + "12" * 20]
        ),
        st.integers(0, 10**17).map(str),
        st.floats(0, 1e15).map(lambda value: f"{value:,.7f} %"),
    ),
    max_size=40,
).map(lambda pieces: " ".join(pieces[::2]) + "".join(pieces[1::2]))


@given(_WRITTEN, _LANGUAGES, st.sampled_from([1, 4, 30, 110]))
@example("Der Anteil lag bei 59,4 % und stieg.", "de", 30)
def test_segments_of_a_rewritten_text_part_none_of_its_edits(text: str, language: str, max_chars: int) -> None:
    spoken = normalize(text, language)
    origin = Origin(spoken.may_part, spoken.num_written)
    segments = list(split_rewritten(spoken.text, origin, min_chars=max(1, max_chars // 4), max_chars=max_chars))
    source_end = 0
    for segment, following in pairwise(segments):
        end, start = (
            spoken.source_span(segment.start, segment.end)[1],
            spoken.source_span(following.start, len(spoken.text))[0],
        )
        assert source_end <= end <= start
        source_end = end
        # What comes of one span of the source, of a number say, is on one side.
        before = spoken.source_span(segment.end - 1, segment.end)
        after = spoken.source_span(following.start, following.start + 1)
        assert before != after or before[0] == before[1]
    assert "".join("".join(segment.text.split()) for segment in segments) == "".join(spoken.text.split())
