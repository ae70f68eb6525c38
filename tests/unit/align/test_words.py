"""Words of the source are found among the tokens, each once and in order, whatever tokens and rewriting do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.align.words import WordSpan, WordSpans, spoken_words, verbatim_sources
from voxtral.text.normalize import normalize, write_in_kana


def _chars(text: str) -> list[bytes]:
    return [char.encode() for char in text]


def _verbatim(text: str, pieces: list[bytes] | None = None) -> WordSpans:
    return spoken_words(text, text, verbatim_sources(0, len(text)), _chars(text) if pieces is None else pieces)


def _normalized(text: str, language: str = "en") -> tuple[str, WordSpans]:
    normalized = normalize(text, language)
    sources = [normalized.source_span(place, place + 1) for place in range(len(normalized.text))]
    return normalized.text, spoken_words(normalized.text, text, sources, _chars(normalized.text))


def _names(text: str, words: WordSpans) -> list[str]:
    return [text[word.text_start : word.text_end] for word in words.words]


def _places(words: WordSpans) -> list[tuple[float, float]]:
    return [(word.first, word.last) for word in words.words]


def test_words_begin_at_their_first_letter_and_end_at_their_last() -> None:
    words = _verbatim('He said: "Go (now)!"')
    assert _names('He said: "Go (now)!"', words) == ["He", "said:", '"Go', '(now)!"']
    assert _places(words) == [(0, 2), (3, 7), (10, 12), (14, 17)]
    assert [word.follows_pause for word in words.words] == [True, False, True, True]


def test_a_token_that_two_words_share_is_split_by_bytes() -> None:
    # The token "o wé" has o and wé, three bytes besides its space.
    words = _verbatim("hello wé", [b"hell", "o wé".encode()])
    assert _places(words) == [(0, pytest.approx(1.25)), (pytest.approx(1.25), 2)]


def test_a_space_before_a_word_takes_nothing_of_its_token() -> None:
    assert _places(_verbatim("the world", [b"the", b" world"])) == [(0, 1), (1, 2)]


def test_the_bytes_of_a_letter_may_lie_in_many_tokens() -> None:
    assert _places(_verbatim("é a", [b"\xc3", b"\xa9", b" a"])) == [(0, 2), (2, 3)]


def test_a_number_is_one_word_however_many_are_spoken() -> None:
    text = "Pay $1,234.50 now"
    spoken, words = _normalized(text)
    assert _names(text, words) == ["Pay", "$1,234.50", "now"]
    number = words.words[1]
    said = spoken[int(number.first) : int(number.last)]
    assert said.startswith("one thousand")
    assert said.endswith("fifty cents")


def test_what_stands_for_two_words_is_parted_between_its_own() -> None:
    spoken, words = _normalized("It is 5 % more")
    said = [spoken[int(word.first) : int(word.last)] for word in words.words]
    assert said == ["It", "is", "five", "percent", "more"]


def test_what_is_not_spoken_is_a_word_without_sound() -> None:
    text = "Yes \U0001f600 – go ( on )"
    _, words = _normalized(text)
    assert _names(text, words) == ["Yes", "\U0001f600", "–", "go", "(", "on", ")"]
    assert [word.is_sounding for word in words.words] == [True, False, False, True, False, True, False]
    assert [word.is_opening for word in words.words] == [False, False, False, False, True, False, False]


def test_marks_after_the_last_letter_belong_to_it() -> None:
    text = "नमस्ते!"
    (word,) = _verbatim(text).words
    assert (word.first, word.last) == (0, 6)


def test_text_without_spaces_is_parted_where_tokens_are() -> None:
    text = "「世界」、Windowsを"
    assert _names(text, _verbatim(text)) == ["「世", "界」、", "Windows", "を"]
    joined = ["「世界".encode(), "」、".encode(), b"Windows", "を".encode()]
    assert _names(text, _verbatim(text, joined)) == ["「世界」、", "Windows", "を"]


def test_kana_is_mapped_back_to_what_it_was_made_of() -> None:
    text = "3つ ﾃﾞ"
    kana = write_in_kana(text)
    sources = [kana.source_span(place, place + 1) for place in range(len(kana.text))]
    words = spoken_words(kana.text, text, sources, _chars(kana.text))
    assert _names(text, words) == ["3つ", "ﾃﾞ"]
    assert [kana.text[int(word.first) : int(word.last)] for word in words.words] == ["みっつ", "デ"]


def test_words_of_a_part_lie_within_it() -> None:
    text = "one two three"
    words = spoken_words("two", text, verbatim_sources(4, 7), _chars("two"), within=(3, 8))
    assert words == WordSpans((WordSpan(4, 7, 0, 3, is_sounding=True, follows_pause=True),), 3, (1, 1, 1))


@pytest.mark.parametrize(
    ("pieces", "num_sources"), [([b"ab"], 3), ([b"abc"], 2), ([], 3)], ids=["bytes", "sources", "none"]
)
def test_tokens_of_another_text_are_refused(pieces: list[bytes], num_sources: int) -> None:
    with pytest.raises(ValueError, match="the bytes of the tokens must be those of the text"):
        spoken_words("abc", "abc", verbatim_sources(0, num_sources), pieces)


_TEXTS = st.text(st.sampled_from(list("aé ,.“(-5%$\n\u00a0字かー。「\u0301\U0001f600\u200d*#<>&")), max_size=40)


@st.composite
def tokenized(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """Give a text and tokens of one to five bytes, wherever they fall."""
    text = draw(_TEXTS)
    data, pieces = text.encode(), []
    while data:
        size = draw(st.integers(1, 5))
        pieces.append(data[:size])
        data = data[size:]
    return text, pieces


def _check_every_word_is_there_once(text: str, words: WordSpans) -> None:
    covered = "".join(_names(text, words))
    assert covered == "".join(text.split())
    ends = [0]
    places = [0.0]
    for word in words.words:
        assert ends[-1] <= word.text_start < word.text_end
        assert not any(char.isspace() for char in text[word.text_start : word.text_end])
        ends.append(word.text_end)
        if word.is_sounding:
            assert places[-1] <= word.first < word.last <= words.num_tokens
            places.append(word.last)


@given(tokenized())
def test_every_word_is_there_once_whatever_the_tokens_are(case: tuple[str, list[bytes]]) -> None:
    text, pieces = case
    _check_every_word_is_there_once(text, _verbatim(text, pieces))


@given(_TEXTS, st.sampled_from(["en", "de", "ja"]))
def test_every_word_is_there_once_however_it_is_rewritten(text: str, language: str) -> None:
    _check_every_word_is_there_once(text, _normalized(text, language)[1])
